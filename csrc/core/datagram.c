/*
 * The datagram transport: its life, from connection_made() to the closed
 * descriptor.
 */
#include "datagram.h"

#include <sys/socket.h>
#include <sys/un.h>

#define WATER_HIGH_BYTES (64 * 1024)

static Datagram *datagram_of(struct transport *base)
{
	return container_of(base, Datagram, base);
}

static int datagram_closing(struct transport *base)
{
	return datagram_of(base)->count == 0 ? transport_lose(base, Py_None) : 0;
}

static void datagram_join(struct transport *base)
{
	assert(base->state == TRANSPORT_JOINING);
	if (base->receive.link == NULL && base->send.link == NULL)
		transport_end(base);
}

static const struct transport_kind datagram_kind = {
	.set_protocol = transport_set_protocol,
	.closing = datagram_closing,
	.maybe_pause_protocol = datagram_maybe_pause_protocol,
	.drop_queue = datagram_drop_queue,
	.join = datagram_join,
};

/* ---- the beginning -------------------------------------------------------------------- */

static int datagram_call_soon_method(Datagram *self, PyObject *object, PyObject *name,
                                     PyObject *argument)
{
	PyObject *method = PyObject_GetAttr(object, name);
	int status;

	if (method == NULL)
		return -1;
	status = loop_call_soon(self->base.loop, method, &argument, argument != NULL);
	Py_DECREF(method);
	return status;
}

static int datagram_schedule_start(Datagram *self, PyObject *waiter)
{
	PyObject *args[2] = {waiter, Py_None};

	if (datagram_call_soon_method(self, self->base.protocol, names.connection_made,
	                              (PyObject *)self) < 0 ||
	    datagram_call_soon_method(self, (PyObject *)self, names._start_reading, NULL) < 0)
		return -1;
	/* The waiter wakes only when connection_made() has been called. */
	return waiter == Py_None ? 0 : loop_call_soon(self->base.loop, helpers.set_result, args, 2);
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

static int datagram_take_socket(Datagram *self, PyObject *sock)
{
	int ignored;

	self->base.fd = PyObject_AsFileDescriptor(sock);
	if (self->base.fd < 0) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "the socket is closed");
		return -1;
	}
	self->base.sock = Py_NewRef(sock);
	self->base.family = AF_UNSPEC;
	self->base.sockname = transport_read_name(self->base.fd, getsockname, &self->base.family);
	self->base.peername = transport_read_name(self->base.fd, getpeername, &ignored);
	self->has_peer = is_a_name(self->base.peername);
	return PyErr_Occurred() ? -1 : 0;
}

int datagram_init(Datagram *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"loop", "sock", "protocol", "address", "waiter",
	                           "sends_empty", "header_bytes", NULL};
	PyObject *loop, *sock, *protocol, *address = Py_None, *waiter = Py_None, *exception;
	Py_ssize_t header_bytes = 0;
	int sends_empty = 1, named;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OOpn:DatagramTransport", keywords,
	                                 LoopType, &loop, &sock, &protocol, &address, &waiter,
	                                 &sends_empty, &header_bytes))
		return -1;
	if (self->base.loop != NULL || self->base.fd >= 0) {
		PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
		return -1;
	}
	if (loop_check_closed((Loop *)loop) < 0)
		return -1;
	named = PyObject_IsTrue(address);
	if (named < 0)
		return -1;
	self->sends_empty = sends_empty;
	self->header_bytes = (size_t)header_bytes;
	self->address = named ? Py_NewRef(address) : NULL;
	self->base.context = PyContext_CopyCurrent();
	if (self->base.context == NULL || transport_set_protocol(&self->base, protocol) < 0 ||
	    datagram_take_socket(self, sock) < 0)
		goto fail;
	self->base.loop = (Loop *)Py_NewRef(loop);
	self->base.state = TRANSPORT_OPEN;
	if (datagram_schedule_start(self, waiter) == 0)
		return 0;
fail:
	/* The socket stays the caller's. */
	exception = PyErr_GetRaisedException();
	self->base.state = TRANSPORT_CLOSED;
	self->base.fd = -1;
	Py_CLEAR(self->base.sock);
	Py_CLEAR(self->base.protocol);
	Py_CLEAR(self->base.loop);
	PyErr_SetRaisedException(exception);
	return -1;
}

PyObject *datagram_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                       PyObject *Py_UNUSED(kwargs))
{
	Datagram *self = (Datagram *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->base.kind = &datagram_kind;
	self->base.fd = -1;
	/* Until __init__: every method then does nothing. */
	self->base.state = TRANSPORT_CLOSED;
	self->base.receive.completed = datagram_received;
	self->base.receive.holder = (PyObject *)self;
	self->base.send.completed = datagram_sent;
	self->base.send.holder = (PyObject *)self;
	self->base.high_water = WATER_HIGH_BYTES;
	self->base.low_water = WATER_HIGH_BYTES / 4;
	return (PyObject *)self;
}

/* Nobody refers to us any more: end what is in flight and close. */
void datagram_abandon(Datagram *self)
{
	transport_stop_reading(&self->base);
	datagram_join(&self->base);
}

/* The same from another thread, which must leave the driver to the loop's. */
static int datagram_abandon_later(Datagram *self)
{
	Loop *loop = self->base.loop;

	if (datagram_call_soon_method(self, (PyObject *)self, names._abandon, NULL) < 0)
		return -1;
	loop->table->wake(loop->driver);
	return 0;
}

/* An open transport that nobody refers to: asyncio warns and closes its socket. */
void datagram_finalize(Datagram *self)
{
	PyObject *exception;
	Loop *loop = self->base.loop;

	if (loop == NULL || self->base.state >= TRANSPORT_JOINING)
		return;
	exception = PyErr_GetRaisedException();
	if (PyErr_ResourceWarning((PyObject *)self, 1, "unclosed transport %R", self) < 0) {
		if (PyErr_ExceptionMatches(PyExc_Warning))
			PyErr_WriteUnraisable((PyObject *)self);
		else
			PyErr_Clear();
	}
	/* Nothing is in flight, or the loop would still refer to us. */
	self->base.state = TRANSPORT_JOINING;
	if (!loop->running || loop->thread == PyThread_get_thread_ident())
		datagram_abandon(self);
	else if (datagram_abandon_later(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

int datagram_traverse(Datagram *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->base.extra);
	Py_VISIT(self->base.loop);
	Py_VISIT(self->base.protocol);
	Py_VISIT(self->base.context);
	Py_VISIT(self->base.write_context);
	Py_VISIT(self->base.sock);
	Py_VISIT(self->address);
	Py_VISIT(self->base.kept);
	for (i = 0; i < self->count; i++)
		Py_VISIT(self->queue[(self->head + i) & (self->capacity - 1)].address);
	return 0;
}

int datagram_clear(Datagram *self)
{
	/* Abandoned in another thread, and the loop was closed before it could hear of it. */
	if (unlikely(self->base.state == TRANSPORT_JOINING && self->base.loop != NULL)) {
		PyObject *exception = PyErr_GetRaisedException();

		datagram_join(&self->base);
		PyErr_SetRaisedException(exception);
	}
	Py_CLEAR(self->base.extra);
	Py_CLEAR(self->base.protocol);
	Py_CLEAR(self->base.context);
	Py_CLEAR(self->base.write_context);
	Py_CLEAR(self->base.sock);
	Py_CLEAR(self->address);
	Py_CLEAR(self->base.kept);
	return 0;
}

void datagram_dealloc(Datagram *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (self->base.weakrefs != NULL)
		PyObject_ClearWeakRefs((PyObject *)self);
	assert(self->base.receive.link == NULL && self->base.send.link == NULL);
	datagram_clear(self);
	datagram_drop_queue(&self->base);
	PyMem_Free(self->queue);
	Py_CLEAR(self->base.peername);
	Py_CLEAR(self->base.sockname);
	Py_CLEAR(self->base.loop);
	type->tp_free(self);
	Py_DECREF(type);
}
