/*
 * The stream transport: its life, from connection_made() to the closed descriptor, and
 * its Python type.  What Python may write more slowly (get_extra_info, repr, the limits)
 * is in uring_loop/_internal/transports.py.
 */
#include "stream.h"
#include "listener.h"
#include "stream_send.h"
#include "../streams/classes.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <structmember.h>
#include <sys/socket.h>

PyTypeObject *StreamType;

static PyObject *stream_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* ---- the beginning ------------------------------------------------------------------------- */

static int stream_set_protocol(struct transport *base, PyObject *protocol)
{
	int buffered = PyObject_IsInstance(protocol, helpers.buffered_protocol);
	Stream *self = stream_of(base);
	bool was_held = self->buffered && !self->roomy;

	/* In debug mode asyncio's own coroutines tell where they were made. */
	if (buffered < 0 ||
	    (base->loop != NULL && !base->loop->debug &&
	     streams_adopt(protocol, (PyObject *)base->loop) < 0))
		return -1;
	/* What was written through the one that goes is sent; the new one may bring its own. */
	if (unlikely(self->layer != NULL) && protocol != base->protocol) {
		if (stream_seal(self) < 0)
			return -1;
		self->layer = NULL;
	}
	self->buffered = buffered;
	/* The buffers of a class of ours are known; those of others tell. */
	self->roomy = buffered && PyObject_HasAttr((PyObject *)Py_TYPE(protocol), names._roomy);
	if (was_held != (self->buffered && !self->roomy))
		stream_hold(self);
	return transport_set_protocol(base, protocol);
}

/* The common end of both beginnings.  `server`: or Py_None. */
static int stream_open(Stream *self, Loop *loop, PyObject *sock, int fd, PyObject *protocol,
                       PyObject *waiter, PyObject *server, const struct accepted *accepted)
{
	int one = 1;

	if (transport_open(&self->base, loop, sock, fd, protocol, accepted) < 0)
		return -1;
	if (accepted != NULL)
		self->stream_kind = accepted->stream_kind;
	/* Small writes leave without waiting for an acknowledgement, as in asyncio. */
	if ((accepted == NULL || !accepted->no_delay) &&
	    (self->base.family == AF_INET || self->base.family == AF_INET6))
		setsockopt(self->base.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if ((server == Py_None || (transport_recall_peername(&self->base) == 0 &&
	                           client_enter(&self->base, server) == 0)) &&
	    transport_start(&self->base, waiter) == 0)
		return 0;
	transport_give_up(&self->base);
	return -1;
}

static int stream_init(Stream *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"loop", "sock", "protocol", "waiter", "server", NULL};
	PyObject *loop, *sock, *protocol, *waiter = Py_None, *server = Py_None;
	int fd;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OO:StreamTransport", keywords,
	                                 LoopType, &loop, &sock, &protocol, &waiter, &server))
		return -1;
	fd = PyObject_AsFileDescriptor(sock);
	if (fd < 0)
		return -1;
	/* A descriptor: its socket object is made when first asked for. */
	return stream_open(self, (Loop *)loop, PyLong_Check(sock) ? NULL : sock, fd, protocol,
	                   waiter, server, NULL);
}

PyObject *stream_accept(Loop *loop, int fd, PyObject *protocol, PyObject *server,
                        const struct accepted *accepted)
{
	PyObject *self = stream_new((PyTypeObject *)helpers.stream_transport, NULL, NULL);

	if (self != NULL && stream_open((Stream *)self, loop, NULL, fd, protocol, Py_None,
	                                server, accepted) < 0)
		Py_CLEAR(self);
	return self;
}

/* ---- the end ------------------------------------------------------------------------------- */

static int stream_closing(struct transport *base)
{
	Stream *self = stream_of(base);

	if (stream_catch_up(base) < 0)
		return -1;
	if (self->chunk_count > 0 || base->state != TRANSPORT_CLOSING)
		return 0;
	if (base->protocol_paused && !base->loop->closed) {
		/* The protocol is resumed first, and may still write: SSLProtocol does. */
		stream_mark_dirty(self);
		return 0;
	}
	return transport_lose(base, Py_None);
}

/* Nothing will empty the queue that sendfile waits for. */
static void stream_lost(struct transport *base)
{
	Stream *self = stream_of(base);
	PyObject *error;

	if (self->empty_waiter == NULL)
		return;
	error = PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
	if (error == NULL)
		PyErr_WriteUnraisable((PyObject *)self);
	else
		stream_fail_empty_waiter(self, error);
	Py_XDECREF(error);
}

static void stream_join(struct transport *base)
{
	if (!stream_of(base)->lent)
		transport_join_operations(base);
}

/* ---- its socket, used by others ------------------------------------------------------------ */

/* Somebody uses the socket itself: what was written before is in the kernel before. */
static PyObject *stream_hand_over(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (stream_catch_up(&self->base) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* The same, from now on for whatever is written: the descriptor is known elsewhere. */
static PyObject *stream_share(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->shared = true;
	return stream_hand_over(self, NULL);
}

/* The socket object, made when first asked for. */
static PyObject *stream_get_sock(Stream *self, void *Py_UNUSED(closure))
{
	if (stream_catch_up(&self->base) < 0)
		return NULL;
	if (self->base.sock == NULL) {
		PyObject *fd, *sock;

		if (self->base.fd < 0 || self->base.fd_closed ||
		    self->base.state == TRANSPORT_CLOSED)
			Py_RETURN_NONE;
		fd = PyLong_FromLong(self->base.fd);
		if (fd == NULL)
			return NULL;
		sock = PyObject_CallOneArg(helpers.make_socket, fd);
		Py_DECREF(fd);
		if (sock == NULL) {
			/* Another thread may have closed us meanwhile. */
			if (!self->base.fd_closed || !PyErr_ExceptionMatches(PyExc_OSError))
				return NULL;
			PyErr_Clear();
			Py_RETURN_NONE;
		}
		/* Another thread may have made one meanwhile, or closed us. */
		if (unlikely(self->base.sock != NULL || self->base.fd_closed)) {
			PyObject *number = PyObject_CallMethodNoArgs(sock, names.detach);

			Py_XDECREF(number);
			Py_DECREF(sock);
			return number == NULL ? NULL : stream_get_sock(self, NULL);
		}
		self->base.sock = sock;
		self->base.sock_made = true;
	}
	return Py_NewRef(self->base.sock);
}

/* ---- sendfile: an empty queue, and the descriptor ------------------------------------------ */

static PyObject *stream_make_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *waiter;

	if (self->empty_waiter != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
		return NULL;
	}
	if (self->base.loop == NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Transport is closed");
		return NULL;
	}
	if (stream_catch_up(&self->base) < 0)
		return NULL;
	/* A failed send has aborted us, and told whoever listens. */
	if (self->base.loop == NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Transport is closed");
		return NULL;
	}
	waiter = PyObject_CallMethodNoArgs((PyObject *)self->base.loop, names.create_future);
	if (waiter == NULL)
		return NULL;
	Py_XSETREF(self->empty_waiter, Py_NewRef(waiter));
	if (self->empty_waiter != NULL && self->chunk_count == 0 && !self->base.protocol_paused &&
	    stream_wake_empty_waiter(self) < 0)
		Py_CLEAR(waiter);
	return waiter;
}

static PyObject *stream_reset_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	Py_CLEAR(self->empty_waiter);
	Py_RETURN_NONE;
}

/*
 * The queue is empty, and sendfile writes to the descriptor itself: it stays
 * open until it is given back, and whoever borrows it hears from the future
 * when the connection is lost.
 */
static PyObject *stream_lend_descriptor(Stream *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *loss = NULL;

	if (self->base.state < TRANSPORT_LOST) {
		loss = PyObject_CallMethodNoArgs((PyObject *)self->base.loop, names.create_future);
		if (loss == NULL)
			return NULL;
	}
	/* Making a future may be anybody's, and lose the connection. */
	if (self->base.state >= TRANSPORT_LOST) {
		Py_XDECREF(loss);
		PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
		return NULL;
	}
	self->lent = true;
	Py_XSETREF(self->empty_waiter, loss);
	return Py_NewRef(loss);
}

static PyObject *stream_return_descriptor(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->lent = false;
	Py_CLEAR(self->empty_waiter);
	if (self->base.state == TRANSPORT_JOINING)
		self->base.kind->join(&self->base);
	Py_RETURN_NONE;
}

/* ---- memory -------------------------------------------------------------------------------- */

static const struct transport_kind stream_transport = {
	.received = stream_received,
	.sent = stream_sent,
	.set_protocol = stream_set_protocol,
	.arm = stream_arm,
	.has_held_back = stream_has_held_back,
	.pause = stream_pause,
	.closing = stream_closing,
	.catch_up = stream_catch_up,
	.has_context = true,
	.end_repeats = true,
	.backlog = stream_backlog,
	.drop_queue = stream_drop_queue,
	.lost = stream_lost,
	.join = stream_join,
};

static PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                            PyObject *Py_UNUSED(kwargs))
{
	Stream *self = (Stream *)transport_new(type, &stream_transport);

	if (self == NULL)
		return NULL;
	self->chunks = self->chunks_inline;
	self->chunk_mask = STREAM_INLINE_CHUNKS - 1;
	return (PyObject *)self;
}

static int stream_traverse(Stream *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(self->empty_waiter);
	for (i = 0; i < self->chunk_count; i++)
		Py_VISIT(self->chunks[(self->chunk_head + i) & self->chunk_mask].owner);
	return transport_traverse(&self->base, visit, arg);
}

static int stream_clear(Stream *self)
{
	self->lent = false; /* who borrowed it is garbage too */
	self->layer = NULL;
	Py_CLEAR(self->empty_waiter);
	return transport_clear(&self->base);
}

static void stream_dealloc(Stream *self)
{
	if (transport_dealloc_begins(&self->base) < 0)
		return;
	assert(!self->is_dirty);
	stream_clear(self);
	stream_drop_queue(&self->base);
	if (self->chunks != self->chunks_inline)
		PyMem_Free(self->chunks);
	transport_dealloc_ends(&self->base);
}

/* ---- the type ------------------------------------------------------------------------------ */

static PyObject *stream_can_write_eof(Stream *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_TRUE;
}

PyDoc_STRVAR(stream_write_doc,
"write($self, data, /)\n--\n\n"
"Queue bytes for sending; never blocks.  What is written in one turn of the\n"
"loop leaves in one system call.\n\n"
"TypeError for what is not bytes-like; RuntimeError after write_eof().\n\n"
"Source: asyncio.WriteTransport.write.");
PyDoc_STRVAR(stream_writelines_doc,
"writelines($self, list_of_data, /)\n--\n\n"
"write() each item, without joining them.\n\nSource: asyncio.WriteTransport.writelines.");

static PyMethodDef stream_methods[] = {
	{"write", (PyCFunction)stream_write, METH_O, stream_write_doc},
	{"writelines", (PyCFunction)stream_writelines, METH_O, stream_writelines_doc},
	{"write_eof", (PyCFunction)stream_write_eof, METH_NOARGS,
	 "write_eof($self, /)\n--\n\nShut down the writing side when what is queued has left."},
	{"can_write_eof", (PyCFunction)stream_can_write_eof, METH_NOARGS,
	 "can_write_eof($self, /)\n--\n\nTrue."},
	{"_deliver_held_back", (PyCFunction)stream_deliver_held_back_method, METH_NOARGS, NULL},
	{"_hold", (PyCFunction)stream_hold_method, METH_NOARGS, NULL},
	{"_make_empty_waiter", (PyCFunction)stream_make_empty_waiter, METH_NOARGS, NULL},
	{"_reset_empty_waiter", (PyCFunction)stream_reset_empty_waiter, METH_NOARGS, NULL},
	{"_hand_over", (PyCFunction)stream_hand_over, METH_NOARGS, NULL},
	{"_share", (PyCFunction)stream_share, METH_NOARGS, NULL},
	{"_lend_descriptor", (PyCFunction)stream_lend_descriptor, METH_NOARGS, NULL},
	{"_return_descriptor", (PyCFunction)stream_return_descriptor, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getters[] = {
	{"_sock", (getter)stream_get_sock, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
	{"_eof", T_BOOL, offsetof(Stream, eof), READONLY, NULL},
	{"_shown", T_BOOL, offsetof(Stream, shown), 0, NULL},
	{"_empty_waiter", T_OBJECT, offsetof(Stream, empty_waiter), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
	{Py_tp_doc, "A connected stream socket; the hot half of StreamTransport."},
	{Py_tp_new, stream_new},
	{Py_tp_init, stream_init},
	{Py_tp_dealloc, stream_dealloc},
	{Py_tp_traverse, stream_traverse},
	{Py_tp_clear, stream_clear},
	{Py_tp_methods, stream_methods},
	{Py_tp_getset, stream_getters},
	{Py_tp_members, stream_members},
	{0, NULL},
};

static PyType_Spec stream_spec = {
	.name = "uring_loop._core.Stream",
	.basicsize = sizeof(Stream),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = stream_slots,
};

int stream_init_types(PyObject *module)
{
	StreamType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec,
	                                                      (PyObject *)TransportType);
	return StreamType == NULL ? -1 : PyModule_AddType(module, StreamType);
}
