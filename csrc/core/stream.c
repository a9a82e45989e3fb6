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

/* ---- contexts and errors --------------------------------------------------------- */

int stream_enter(PyObject *context)
{
	return context == NULL ? 0 : PyContext_Enter(context);
}

/* Keeps the exception that may be set. */
void stream_exit(PyObject *context)
{
	PyObject *exception;

	if (context == NULL)
		return;
	if (likely(!PyErr_Occurred())) {
		if (PyContext_Exit(context) < 0)
			PyErr_WriteUnraisable(context);
		return;
	}
	exception = PyErr_GetRaisedException();
	if (PyContext_Exit(context) < 0)
		PyErr_WriteUnraisable(context);
	PyErr_SetRaisedException(exception);
}

void stream_log(Stream *self, const char *message)
{
	PyObject *args[2] = {(PyObject *)self, NULL};

	if (likely(!self->loop->debug))
		return;
	args[1] = PyUnicode_FromString(message);
	if (args[1] == NULL || call_and_drop(helpers.transport_event, args, 2) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	Py_XDECREF(args[1]);
}

int stream_report(Stream *self, PyObject *exception, const char *message)
{
	PyObject *args[5] = {(PyObject *)self->loop, (PyObject *)self, self->protocol, exception,
	                     PyUnicode_FromString(message)};
	int status = -1;

	if (args[2] == NULL)
		args[2] = Py_None;
	if (args[4] != NULL)
		status = call_and_drop(helpers.transport_failed, args, 5);
	Py_XDECREF(args[4]);
	if (status < 0)
		return -1;
	return stream_force_close(self, exception);
}

int stream_fatal(Stream *self, const char *message)
{
	PyObject *exception;
	int status;

	if (exception_ends_loop())
		return -1;
	exception = PyErr_GetRaisedException();
	status = stream_report(self, exception, message);
	Py_DECREF(exception);
	return status;
}

int stream_fatal_errno(Stream *self, int error, const char *message)
{
	PyObject *exception = exception_from_errno(error);
	int status;

	if (exception == NULL)
		return -1;
	status = stream_report(self, exception, message);
	Py_DECREF(exception);
	return status;
}

/* ---- the end ------------------------------------------------------------------------ */

bool transport_detach_socket(PyObject *sock, int fd)
{
	PyObject *result = PyObject_CallMethodNoArgs(sock, names.detach);
	bool ours;

	if (result == NULL) {
		/* A socket-like object without detach(): it closes itself. */
		PyErr_Clear();
		result = PyObject_CallMethodNoArgs(sock, names.close);
		if (result == NULL)
			PyErr_WriteUnraisable(sock);
		Py_XDECREF(result);
		return false;
	}
	ours = PyLong_Check(result) && PyLong_AsLong(result) == fd;
	Py_DECREF(result);
	return ours;
}

static void stream_close_fd(Stream *self)
{
	if (self->fd_closed)
		return;
	self->fd_closed = true;
	if (self->sock == NULL || transport_detach_socket(self->sock, self->fd))
		loop_close_fd(self->loop, self->fd);
	Py_CLEAR(self->sock);
}

/* Whether what `sink` waits for, if anything, is through with the descriptor. */
static bool stream_released(Stream *self, const struct sink *sink)
{
	const struct ul_table *table = self->loop->table;

	return sink->link == NULL ||
	       (table != NULL && table->released(self->loop->driver, sink->token));
}

void stream_join(Stream *self)
{
	Loop *loop = self->loop;

	assert(self->state == STREAM_JOINING);
	if (self->lent)
		return;
	if (self->receive.link != NULL || self->send.link != NULL) {
		/* The peer learns of the end now, though we harvest it only later. */
		if (stream_released(self, &self->receive) && stream_released(self, &self->send))
			stream_close_fd(self);
		return;
	}
	self->state = STREAM_CLOSED;
	stream_close_fd(self);
	self->loop = NULL;
	Py_DECREF(loop);
}

static void stream_leave_server(Stream *self)
{
	PyObject *server = self->server, *result;

	if (server == NULL)
		return;
	self->server = NULL;
	result = PyObject_CallMethodOneArg(server, names._detach, (PyObject *)self);
	if (result == NULL)
		PyErr_WriteUnraisable(server);
	Py_XDECREF(result);
	Py_DECREF(server);
}

int stream_call_connection_lost(Stream *self, PyObject *exception)
{
	PyObject *protocol = Py_XNewRef(self->protocol), *result = NULL, *raised = NULL;

	assert(self->state == STREAM_LOST);
	Py_INCREF(self);
	/* A paused transport is told of its end too, and must outlive its receive. */
	sink_strengthen(&self->receive);
	stream_stop_reading(self);
	if (self->connected && protocol != NULL) {
		result = PyObject_CallMethodOneArg(protocol, names.connection_lost, exception);
		if (result == NULL)
			raised = PyErr_GetRaisedException();
		Py_XDECREF(result);
	}
	self->state = STREAM_JOINING;
	stream_leave_server(self);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->kept);
	Py_XDECREF(protocol);
	if (self->empty_waiter != NULL) {
		PyObject *error = PyObject_CallFunction(PyExc_ConnectionError, "s",
		                                        "Connection is closed by peer");

		if (error == NULL)
			PyErr_WriteUnraisable((PyObject *)self);
		else
			stream_fail_empty_waiter(self, error);
		Py_XDECREF(error);
	}
	stream_join(self);
	Py_DECREF(self);
	if (raised != NULL) {
		PyErr_SetRaisedException(raised);
		return -1;
	}
	return 0;
}

int stream_lose(Stream *self, PyObject *exception)
{
	PyObject *method;
	int status;

	assert(self->state < STREAM_LOST);
	if (loop_check_closed(self->loop) < 0)
		return -1;
	method = PyObject_GetAttr((PyObject *)self, names._call_connection_lost);
	if (method == NULL)
		return -1;
	self->state = STREAM_LOST;
	self->losses = 1;
	status = loop_call_soon(self->loop, method, &exception, 1);
	Py_DECREF(method);
	return status;
}

int stream_force_close(Stream *self, PyObject *exception)
{
	int status;

	if (self->state >= STREAM_LOST)
		return 0;
	/* asyncio has sent this already, inside write().  A failure has aborted us. */
	if (stream_catch_up(self) < 0)
		return -1;
	if (self->state >= STREAM_LOST)
		return 0;
	Py_INCREF(self);
	stream_drop_queue(self);
	stream_stop_reading(self);
	if (self->in_flight > 0 && self->loop->table != NULL &&
	    sink_cancel(self->loop, &self->send)) {
		self->in_flight = 0;
		stream_drop_queue(self);
	}
	status = stream_lose(self, exception);
	Py_DECREF(self);
	return status;
}

int stream_close(Stream *self)
{
	if (self->state != STREAM_OPEN)
		return 0;
	self->state = STREAM_CLOSING;
	stream_stop_reading(self);
	if (stream_catch_up(self) < 0)
		return -1;
	if (self->chunk_count > 0 || self->state != STREAM_CLOSING)
		return 0;
	if (self->protocol_paused && !self->loop->closed) {
		/* It is resumed first, and may still write: SSLProtocol does. */
		stream_mark_dirty(self);
		return 0;
	}
	return stream_lose(self, Py_None);
}

/* ---- the beginning -------------------------------------------------------------------- */

int stream_set_protocol(Stream *self, PyObject *protocol)
{
	int buffered = PyObject_IsInstance(protocol, helpers.buffered_protocol);

	if (buffered < 0)
		return -1;
	self->buffered = buffered;
	self->connected = true;
	Py_XSETREF(self->protocol, Py_NewRef(protocol));
	return 0;
}

PyObject *transport_read_name(int fd, int (*function)(int, struct sockaddr *, socklen_t *),
                              int *family)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (function(fd, (struct sockaddr *)&address, &size) < 0)
		return NULL;
	if (size > sizeof(address))
		size = sizeof(address);
	*family = address.ss_family;
	return PyBytes_FromStringAndSize((char *)&address, size);
}

static int stream_call_soon_method(Stream *self, PyObject *object, PyObject *name,
                                   PyObject *argument)
{
	PyObject *method = PyObject_GetAttr(object, name);
	int status;

	if (method == NULL)
		return -1;
	status = loop_call_soon(self->loop, method, &argument, argument != NULL);
	Py_DECREF(method);
	return status;
}

static int stream_schedule_start(Stream *self, PyObject *waiter)
{
	PyObject *args[2] = {waiter, Py_None};

	if (stream_call_soon_method(self, self->protocol, names.connection_made,
	                            (PyObject *)self) < 0 ||
	    stream_call_soon_method(self, (PyObject *)self, names._start_reading, NULL) < 0)
		return -1;
	/* The waiter wakes only when connection_made() has been called. */
	if (waiter != NULL && waiter != Py_None)
		return loop_call_soon(self->loop, helpers.set_result, args, 2);
	return 0;
}

static int stream_take_socket(Stream *self, PyObject *sock)
{
	int family = AF_UNSPEC, one = 1;

	if (PyLong_Check(sock)) {
		self->fd = (int)PyLong_AsLong(sock);
	} else {
		self->fd = PyObject_AsFileDescriptor(sock);
		if (self->fd >= 0)
			self->sock = Py_NewRef(sock);
	}
	if (self->fd < 0) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "the socket is closed");
		return -1;
	}
	/* The addresses are read now: a peer that resets would take its name along. */
	self->sockname = transport_read_name(self->fd, getsockname, &family);
	self->peername = transport_read_name(self->fd, getpeername, &family);
	if (PyErr_Occurred())
		return -1;
	/* Small writes leave without waiting for an acknowledgement, as in asyncio. */
	if (family == AF_INET || family == AF_INET6)
		setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
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
	if (self->loop != NULL || self->fd >= 0) {
		PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
		return -1;
	}
	if (loop_check_closed((Loop *)loop) < 0)
		return -1;
	if (extra != Py_None) {
		self->extra = PyDict_Copy(extra);
		if (self->extra == NULL)
			return -1;
	}
	self->context = PyContext_CopyCurrent();
	if (self->context == NULL || stream_set_protocol(self, protocol) < 0 ||
	    stream_take_socket(self, sock) < 0)
		goto fail;
	self->loop = (Loop *)Py_NewRef(loop);
	self->state = STREAM_OPEN;
	if (server != Py_None) {
		PyObject *result = PyObject_CallMethodOneArg(server, names._attach,
		                                             (PyObject *)self);

		if (result == NULL)
			goto fail;
		Py_DECREF(result);
		self->server = Py_NewRef(server);
		attached = true;
	}
	if (stream_schedule_start(self, waiter) == 0)
		return 0;
fail:
	/* The descriptor stays the caller's. */
	exception = PyErr_GetRaisedException();
	if (attached)
		stream_leave_server(self);
	self->state = STREAM_CLOSED;
	self->fd = -1;
	Py_CLEAR(self->sock);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->loop);
	PyErr_SetRaisedException(exception);
	return -1;
}

PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                            PyObject *Py_UNUSED(kwargs))
{
	Stream *self = (Stream *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->fd = -1;
	/* Until __init__: every method then does nothing. */
	self->state = STREAM_CLOSED;
	self->receive.completed = stream_received;
	self->receive.holder = (PyObject *)self;
	self->send.completed = stream_sent;
	self->send.holder = (PyObject *)self;
	self->chunks = self->chunks_inline;
	self->chunk_mask = STREAM_INLINE_CHUNKS - 1;
	self->high_water = WATER_HIGH_BYTES;
	self->low_water = WATER_HIGH_BYTES / 4;
	return (PyObject *)self;
}

/* Nobody refers to us any more: end what is in flight and close. */
void stream_abandon(Stream *self)
{
	stream_leave_server(self);
	stream_stop_reading(self);
	stream_join(self);
}

/* The same from another thread, which must leave the driver to the loop's. */
static int stream_abandon_later(Stream *self)
{
	Loop *loop = self->loop;

	if (stream_call_soon_method(self, (PyObject *)self, names._abandon, NULL) < 0)
		return -1;
	loop->table->wake(loop->driver);
	return 0;
}

/* An open transport that nobody refers to: asyncio warns and closes its socket. */
void stream_finalize(Stream *self)
{
	PyObject *exception;
	Loop *loop = self->loop;

	if (loop == NULL || self->state >= STREAM_JOINING)
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
	self->state = STREAM_JOINING;
	sink_strengthen(&self->receive);
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
	Py_VISIT(self->extra);
	Py_VISIT(self->loop);
	Py_VISIT(self->protocol);
	Py_VISIT(self->context);
	Py_VISIT(self->write_context);
	Py_VISIT(self->server);
	Py_VISIT(self->sock);
	Py_VISIT(self->empty_waiter);
	Py_VISIT(self->kept);
	for (i = 0; i < self->chunk_count; i++)
		Py_VISIT(self->chunks[(self->chunk_head + i) & self->chunk_mask].owner);
	return 0;
}

int stream_clear(Stream *self)
{
	/* Abandoned in another thread, and the loop was closed before it could hear of it. */
	if (unlikely(self->state == STREAM_JOINING && self->loop != NULL)) {
		PyObject *exception = PyErr_GetRaisedException();

		self->lent = false; /* who borrowed it is garbage too */
		stream_join(self);
		PyErr_SetRaisedException(exception);
	}
	Py_CLEAR(self->extra);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->context);
	Py_CLEAR(self->write_context);
	Py_CLEAR(self->server);
	Py_CLEAR(self->sock);
	Py_CLEAR(self->empty_waiter);
	Py_CLEAR(self->kept);
	return 0;
}

void stream_dealloc(Stream *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (self->weakrefs != NULL)
		PyObject_ClearWeakRefs((PyObject *)self);
	assert(self->receive.link == NULL && self->send.link == NULL && !self->is_dirty);
	stream_clear(self);
	self->in_flight = 0;
	stream_drop_queue(self);
	if (self->chunks != self->chunks_inline)
		PyMem_Free(self->chunks);
	Py_CLEAR(self->peername);
	Py_CLEAR(self->sockname);
	Py_CLEAR(self->loop);
	type->tp_free(self);
	Py_DECREF(type);
}
