/*
 * The datagram transport: its life, from connection_made() to the closed descriptor,
 * and its Python type.  What Python may write more slowly (get_extra_info, repr, the
 * limits) is in uring_loop/_internal/transports.py.
 */
#include "datagram.h"
#include "addresses.h"
#include "transport_read.h"

#include <structmember.h>
#include <sys/socket.h>
#include <sys/un.h>

static PyTypeObject *DatagramType;

/* ---- the beginning ------------------------------------------------------------------------- */

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

static int datagram_init(Datagram *self, PyObject *args, PyObject *kwargs)
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
	fd = named < 0 ? -1 : PyObject_AsFileDescriptor(sock);
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

/* ---- the end ------------------------------------------------------------------------------- */

static int datagram_closing(struct transport *base)
{
	return datagram_of(base)->count == 0 ? transport_lose(base, Py_None) : 0;
}

/* ---- memory -------------------------------------------------------------------------------- */

static const struct transport_kind datagram_transport = {
	.received = datagram_received,
	.sent = datagram_sent,
	.set_protocol = transport_set_protocol,
	.arm = datagram_arm,
	.has_held_back = datagram_has_held_back,
	.pause = transport_stop_reading,
	.closing = datagram_closing,
	.drop_queue = datagram_drop_queue,
	.join = transport_join_operations,
};

static PyObject *datagram_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                              PyObject *Py_UNUSED(kwargs))
{
	return transport_new(type, &datagram_transport);
}

static int datagram_traverse(Datagram *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(self->address);
	for (i = 0; i < self->count; i++)
		Py_VISIT(self->queue[(self->head + i) & (self->capacity - 1)].address);
	return transport_traverse(&self->base, visit, arg);
}

static int datagram_clear(Datagram *self)
{
	Py_CLEAR(self->address);
	return transport_clear(&self->base);
}

static void datagram_dealloc(Datagram *self)
{
	if (transport_dealloc_begins(&self->base) < 0)
		return;
	datagram_clear(self);
	datagram_drop_queue(&self->base);
	PyMem_Free(self->queue);
	transport_dealloc_ends(&self->base);
}

/* ---- the type ------------------------------------------------------------------------------ */

PyDoc_STRVAR(datagram_sendto_doc,
"sendto($self, data, addr=None)\n--\n\n"
"Send one datagram at once, or queue it when the socket is full; never blocks.\n\n"
"addr: where to; None on a socket with a peer.  What the network says goes to\n"
"the protocol's error_received().  TypeError for data that is not bytes-like,\n"
"ValueError for another address than remote_addr.\n\n"
"Source: asyncio.DatagramTransport.sendto.");

static PyMethodDef datagram_methods[] = {
	{"sendto", FASTCALL(datagram_sendto), METH_FASTCALL | METH_KEYWORDS, datagram_sendto_doc},
	{"_deliver_held_back", (PyCFunction)datagram_deliver_held_back_method, METH_NOARGS, NULL},
	{"_wait_for_room", (PyCFunction)datagram_wait_for_room, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef datagram_members[] = {
	{"_sock", T_OBJECT, offsetof(Datagram, base.sock), READONLY, NULL},
	{"_address", T_OBJECT, offsetof(Datagram, address), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
	{Py_tp_doc, "A datagram socket; the hot half of DatagramTransport."},
	{Py_tp_new, datagram_new},
	{Py_tp_init, datagram_init},
	{Py_tp_dealloc, datagram_dealloc},
	{Py_tp_traverse, datagram_traverse},
	{Py_tp_clear, datagram_clear},
	{Py_tp_methods, datagram_methods},
	{Py_tp_members, datagram_members},
	{0, NULL},
};

static PyType_Spec datagram_spec = {
	.name = "uring_loop._core.Datagram",
	.basicsize = sizeof(Datagram),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = datagram_slots,
};

int datagram_init_types(PyObject *module)
{
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *base = NULL, *bases;

	if (transports != NULL)
		base = PyObject_GetAttrString(transports, "DatagramTransport");
	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* asyncio's own is both, though a datagram transport has no use for write(). */
	bases = PyTuple_Pack(2, (PyObject *)TransportType, base);
	Py_DECREF(base);
	if (bases == NULL)
		return -1;
	DatagramType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &datagram_spec, bases);
	Py_DECREF(bases);
	return DatagramType == NULL ? -1 : PyModule_AddType(module, DatagramType);
}
