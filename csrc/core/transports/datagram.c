/*
 * The datagram transport: its life, from connection_made() to the closed
 * descriptor.
 */
#include "datagram.h"
#include "addresses.h"
#include "transport_read.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ---- the end ------------------------------------------------------------------------ */

static int datagram_closing(struct transport *base)
{
	return datagram_of(base)->count == 0 ? transport_lose(base, Py_None) : 0;
}

/* ---- the beginning -------------------------------------------------------------------- */

static const struct transport_kind datagram_kind = {
	.received = datagram_received,
	.sent = datagram_sent,
	.set_protocol = transport_set_protocol,
	.arm = datagram_arm,
	.has_kept = datagram_has_kept,
	.pause = transport_stop_reading,
	.closing = datagram_closing,
	.maybe_pause_protocol = datagram_maybe_pause_protocol,
	.drop_queue = datagram_drop_queue,
	.join = transport_join_operations,
};

PyObject *datagram_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                       PyObject *Py_UNUSED(kwargs))
{
	return transport_new(type, &datagram_kind);
}

/* asyncio: whether the peer's address, as Python has it, is true; an unnamed one is "". */
static bool is_a_name(PyObject *name)
{
	const struct sockaddr *address;

	if (name == NULL)
		return false;
	address = (const struct sockaddr *)(const void *)PyBytes_AS_STRING(name);
	return address->sa_family != AF_UNIX ||
	       PyBytes_GET_SIZE(name) > (Py_ssize_t)offsetof(struct sockaddr_un, sun_path);
}

int datagram_init(Datagram *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"loop", "sock", "protocol", "address", "waiter",
	                           "sends_empty", "header_bytes", "by_socket", NULL};
	PyObject *loop, *sock, *protocol, *address = Py_None, *waiter = Py_None;
	Py_ssize_t header_bytes = 0;
	int sends_empty = 1, by_socket = 0, named, fd;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OOpnp:DatagramTransport", keywords,
	                                 LoopType, &loop, &sock, &protocol, &address, &waiter,
	                                 &sends_empty, &header_bytes, &by_socket))
		return -1;
	named = PyObject_IsTrue(address);
	fd = named < 0 ? -1 : transport_socket_fd(sock);
	if (fd < 0 || transport_open(&self->base, (Loop *)loop, sock, fd, protocol, NULL) < 0)
		return -1;
	self->sends_empty = sends_empty;
	self->header_bytes = (size_t)header_bytes;
	self->has_peer = is_a_name(self->base.peername);
	self->by_socket = by_socket || !address_is_known(self->base.family);
	Py_XSETREF(self->address, named ? Py_NewRef(address) : NULL);
	if (transport_start(&self->base, waiter) == 0)
		return 0;
	transport_give_up(&self->base);
	return -1;
}

/* ---- memory ---------------------------------------------------------------------------- */

int datagram_traverse(Datagram *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(self->address);
	for (i = 0; i < self->count; i++)
		Py_VISIT(self->queue[(self->head + i) & (self->capacity - 1)].address);
	return transport_traverse(&self->base, visit, arg);
}

int datagram_clear(Datagram *self)
{
	Py_CLEAR(self->address);
	return transport_clear(&self->base);
}

void datagram_dealloc(Datagram *self)
{
	if (transport_dealloc_begins(&self->base) < 0)
		return;
	datagram_clear(self);
	datagram_drop_queue(&self->base);
	PyMem_Free(self->queue);
	transport_dealloc_ends(&self->base);
}
