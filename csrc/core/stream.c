/*
 * The stream transport: its life, from connection_made() to the closed
 * descriptor.
 */
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define WATER_HIGH_BYTES (64 * 1024)

/* ---- the end ------------------------------------------------------------------------ */

/* Whether what `sink` waits for, if anything, is through with the descriptor. */
static bool stream_released(Stream *self, const struct sink *sink)
{
	const struct ul_table *table = self->base.loop->table;

	return sink->link == NULL ||
	       (table != NULL && table->released(self->base.loop->driver, sink->token));
}

static void stream_join(struct transport *base)
{
	Stream *self = stream_of(base);

	assert(base->state == TRANSPORT_JOINING);
	if (self->lent)
		return;
	if (base->receive.link == NULL && base->send.link == NULL)
		transport_end(base);
	else if (stream_released(self, &base->receive) && stream_released(self, &base->send))
		/* The peer learns of the end now, though we harvest it only later. */
		transport_close_fd(base);
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

static int stream_closing(struct transport *base)
{
	Stream *self = stream_of(base);

	if (stream_catch_up(base) < 0)
		return -1;
	if (self->chunk_count > 0 || base->state != TRANSPORT_CLOSING)
		return 0;
	if (base->protocol_paused && !base->loop->closed) {
		/* It is resumed first, and may still write: SSLProtocol does. */
		stream_mark_dirty(self);
		return 0;
	}
	return transport_lose(base, Py_None);
}

/* ---- the beginning -------------------------------------------------------------------- */

static int stream_set_protocol(struct transport *base, PyObject *protocol)
{
	int buffered = PyObject_IsInstance(protocol, helpers.buffered_protocol);

	if (buffered < 0)
		return -1;
	stream_of(base)->buffered = buffered;
	return transport_set_protocol(base, protocol);
}

static int stream_call_soon_method(Stream *self, PyObject *object, PyObject *name,
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

static int stream_schedule_start(Stream *self, PyObject *waiter)
{
	PyObject *args[2] = {waiter, Py_None};

	if (stream_call_soon_method(self, self->base.protocol, names.connection_made,
	                            (PyObject *)self) < 0 ||
	    stream_call_soon_method(self, (PyObject *)self, names._start_reading, NULL) < 0)
		return -1;
	/* The waiter wakes only when connection_made() has been called. */
	if (waiter != NULL && waiter != Py_None)
		return loop_call_soon(self->base.loop, helpers.set_result, args, 2);
	return 0;
}

static int stream_take_socket(Stream *self, PyObject *sock)
{
	int family = AF_UNSPEC, one = 1;

	if (PyLong_Check(sock)) {
		self->base.fd = (int)PyLong_AsLong(sock);
	} else {
		self->base.fd = PyObject_AsFileDescriptor(sock);
		if (self->base.fd >= 0)
			self->base.sock = Py_NewRef(sock);
	}
	if (self->base.fd < 0) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "the socket is closed");
		return -1;
	}
	/* The addresses are read now: a peer that resets would take its name along. */
	self->base.sockname = transport_read_name(self->base.fd, getsockname, &family);
	self->base.peername = transport_read_name(self->base.fd, getpeername, &family);
	if (PyErr_Occurred())
		return -1;
	/* Small writes leave without waiting for an acknowledgement, as in asyncio. */
	if (family == AF_INET || family == AF_INET6)
		setsockopt(self->base.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return 0;
}

int stream_init(Stream *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"loop", "sock", "protocol", "waiter", "extra", "server", NULL};
	PyObject *loop, *sock, *protocol, *waiter = Py_None, *extra = Py_None, *server = Py_None;
	PyObject *exception;
	bool attached = false;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OOO:StreamTransport", keywords,
	                                 LoopType, &loop, &sock, &protocol, &waiter, &extra,
	                                 &server))
		return -1;
	if (self->base.loop != NULL || self->base.fd >= 0) {
		PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
		return -1;
	}
	if (loop_check_closed((Loop *)loop) < 0)
		return -1;
	if (extra != Py_None) {
		self->base.extra = PyDict_Copy(extra);
		if (self->base.extra == NULL)
			return -1;
	}
	self->base.context = PyContext_CopyCurrent();
	if (self->base.context == NULL || stream_set_protocol(&self->base, protocol) < 0 ||
	    stream_take_socket(self, sock) < 0)
		goto fail;
	self->base.loop = (Loop *)Py_NewRef(loop);
	self->base.state = TRANSPORT_OPEN;
	if (server != Py_None) {
		PyObject *result = PyObject_CallMethodOneArg(server, names._attach,
		                                             (PyObject *)self);

		if (result == NULL)
			goto fail;
		Py_DECREF(result);
		self->base.server = Py_NewRef(server);
		attached = true;
	}
	if (stream_schedule_start(self, waiter) == 0)
		return 0;
fail:
	/* The descriptor stays the caller's. */
	exception = PyErr_GetRaisedException();
	if (attached)
		transport_leave_server(&self->base);
	self->base.state = TRANSPORT_CLOSED;
	self->base.fd = -1;
	Py_CLEAR(self->base.sock);
	Py_CLEAR(self->base.protocol);
	Py_CLEAR(self->base.loop);
	PyErr_SetRaisedException(exception);
	return -1;
}

PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                     PyObject *Py_UNUSED(kwargs))
{
	Stream *self = (Stream *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->base.kind = &stream_kind;
	self->base.fd = -1;
	/* Until __init__: every method then does nothing. */
	self->base.state = TRANSPORT_CLOSED;
	self->base.receive.completed = stream_received;
	self->base.receive.holder = (PyObject *)self;
	self->base.send.completed = stream_sent;
	self->base.send.holder = (PyObject *)self;
	self->chunks = self->chunks_inline;
	self->chunk_mask = STREAM_INLINE_CHUNKS - 1;
	self->base.high_water = WATER_HIGH_BYTES;
	self->base.low_water = WATER_HIGH_BYTES / 4;
	return (PyObject *)self;
}

const struct transport_kind stream_kind = {
	.set_protocol = stream_set_protocol,
	.closing = stream_closing,
	.catch_up = stream_catch_up,
	.maybe_pause_protocol = stream_maybe_pause_protocol,
	.drop_queue = stream_drop_queue,
	.lost = stream_lost,
	.join = stream_join,
};

/* Nobody refers to us any more: end what is in flight and close. */
void stream_abandon(Stream *self)
{
	transport_leave_server(&self->base);
	transport_stop_reading(&self->base);
	stream_join(&self->base);
}

/* The same from another thread, which must leave the driver to the loop's. */
static int stream_abandon_later(Stream *self)
{
	Loop *loop = self->base.loop;

	if (stream_call_soon_method(self, (PyObject *)self, names._abandon, NULL) < 0)
		return -1;
	loop->table->wake(loop->driver);
	return 0;
}

/* An open transport that nobody refers to: asyncio warns and closes its socket. */
void stream_finalize(Stream *self)
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
	/*
	 * Nothing is in flight, or the loop would still refer to us, but for the
	 * receive of a paused transport, which then keeps us until it has ended.
	 */
	self->base.state = TRANSPORT_JOINING;
	sink_strengthen(&self->base.receive);
	if (!loop->running || loop->thread == PyThread_get_thread_ident())
		stream_abandon(self);
	else if (stream_abandon_later(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

int stream_traverse(Stream *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->base.extra);
	Py_VISIT(self->base.loop);
	Py_VISIT(self->base.protocol);
	Py_VISIT(self->base.context);
	Py_VISIT(self->base.write_context);
	Py_VISIT(self->base.server);
	Py_VISIT(self->base.sock);
	Py_VISIT(self->empty_waiter);
	Py_VISIT(self->base.kept);
	for (i = 0; i < self->chunk_count; i++)
		Py_VISIT(self->chunks[(self->chunk_head + i) & self->chunk_mask].owner);
	return 0;
}

int stream_clear(Stream *self)
{
	/* Abandoned in another thread, and the loop was closed before it could hear of it. */
	if (unlikely(self->base.state == TRANSPORT_JOINING && self->base.loop != NULL)) {
		PyObject *exception = PyErr_GetRaisedException();

		self->lent = false; /* who borrowed it is garbage too */
		stream_join(&self->base);
		PyErr_SetRaisedException(exception);
	}
	Py_CLEAR(self->base.extra);
	Py_CLEAR(self->base.protocol);
	Py_CLEAR(self->base.context);
	Py_CLEAR(self->base.write_context);
	Py_CLEAR(self->base.server);
	Py_CLEAR(self->base.sock);
	Py_CLEAR(self->empty_waiter);
	Py_CLEAR(self->base.kept);
	return 0;
}

void stream_dealloc(Stream *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (self->base.weakrefs != NULL)
		PyObject_ClearWeakRefs((PyObject *)self);
	assert(self->base.receive.link == NULL && self->base.send.link == NULL && !self->is_dirty);
	stream_clear(self);
	stream_drop_queue(&self->base);
	if (self->chunks != self->chunks_inline)
		PyMem_Free(self->chunks);
	Py_CLEAR(self->base.peername);
	Py_CLEAR(self->base.sockname);
	Py_CLEAR(self->base.loop);
	type->tp_free(self);
	Py_DECREF(type);
}
