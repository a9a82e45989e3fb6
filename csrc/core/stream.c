/*
 * The stream transport: its life, from connection_made() to the closed
 * descriptor.  What Python may write more slowly (get_extra_info, repr, the
 * limits) is in uring_loop/streams.py.
 */
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <structmember.h>
#include <sys/socket.h>
#include <unistd.h>

PyTypeObject *StreamType;

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

static int stream_report(Stream *self, PyObject *exception, const char *message)
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

/*
 * Take the descriptor out of the socket object, to close it together with what
 * the driver knows of it.  False when the object has closed it, or must.
 */
static bool stream_detach_socket(Stream *self)
{
	PyObject *result = PyObject_CallMethodNoArgs(self->sock, names.detach);
	bool ours;

	if (result == NULL) {
		/* A socket-like object without detach(): it closes itself. */
		PyErr_Clear();
		result = PyObject_CallMethodNoArgs(self->sock, names.close);
		if (result == NULL)
			PyErr_WriteUnraisable(self->sock);
		Py_XDECREF(result);
		return false;
	}
	ours = PyLong_Check(result) && PyLong_AsLong(result) == self->fd;
	Py_DECREF(result);
	return ours;
}

void stream_join(Stream *self)
{
	Loop *loop = self->loop;

	assert(self->state == STREAM_JOINING);
	if (self->receive.link != NULL || self->send.link != NULL)
		return;
	self->state = STREAM_CLOSED;
	if (self->sock == NULL || stream_detach_socket(self))
		loop_close_fd(loop, self->fd);
	Py_CLEAR(self->sock);
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
	if (self->in_flight == 0 && self->chunk_count > 0) {
		if (stream_flush_now(self) < 0)
			return -1;
		if (self->state >= STREAM_LOST)
			return 0;
	}
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
	if (self->chunk_count > 0 && self->in_flight == 0 && stream_flush_now(self) < 0)
		return -1;
	if (self->chunk_count == 0 && self->state == STREAM_CLOSING)
		return stream_lose(self, Py_None);
	return 0;
}

/* ---- the beginning -------------------------------------------------------------------- */

static int stream_set_protocol(Stream *self, PyObject *protocol)
{
	int buffered = PyObject_IsInstance(protocol, helpers.buffered_protocol);

	if (buffered < 0)
		return -1;
	self->buffered = buffered;
	self->connected = true;
	Py_XSETREF(self->protocol, Py_NewRef(protocol));
	return 0;
}

/* The addresses are read now: a peer that resets would take its name along. */
static PyObject *stream_read_name(int fd, int (*function)(int, struct sockaddr *, socklen_t *),
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
	self->sockname = stream_read_name(self->fd, getsockname, &family);
	self->peername = stream_read_name(self->fd, getpeername, &family);
	if (PyErr_Occurred())
		return -1;
	/* Small writes leave without waiting for an acknowledgement, as in asyncio. */
	if (family == AF_INET || family == AF_INET6)
		setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return 0;
}

static int stream_init(Stream *self, PyObject *args, PyObject *kwargs)
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

static PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
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
static void stream_abandon(Stream *self)
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
static void stream_finalize(Stream *self)
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

static int stream_traverse(Stream *self, visitproc visit, void *arg)
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

static int stream_clear(Stream *self)
{
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

static void stream_dealloc(Stream *self)
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

/* ---- methods ----------------------------------------------------------------------------- */

static PyObject *stream_close_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (stream_close(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_abort_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (stream_force_close(self, Py_None) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_force_close_method(Stream *self, PyObject *exception)
{
	if (stream_force_close(self, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* asyncio's own helpers (SSLProtocol) call it on the transport below them. */
static PyObject *stream_fatal_error_method(Stream *self, PyObject *args)
{
	const char *message = "Fatal error on transport";
	PyObject *exception;

	if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exception, &message))
		return NULL;
	if (self->state < STREAM_JOINING && stream_report(self, exception, message) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_call_connection_lost_method(Stream *self, PyObject *exception)
{
	if (self->state == STREAM_LOST && stream_call_connection_lost(self, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_abandon_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->state == STREAM_JOINING)
		stream_abandon(self);
	Py_RETURN_NONE;
}

static PyObject *stream_set_protocol_method(Stream *self, PyObject *protocol)
{
	if (stream_set_protocol(self, protocol) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_get_protocol(Stream *self, PyObject *Py_UNUSED(ignored))
{
	return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

static PyObject *stream_is_closing(Stream *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->state != STREAM_OPEN);
}

static PyObject *stream_can_write_eof(Stream *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_TRUE;
}

/* The limits are checked in streams.py. */
static PyObject *stream_set_limits(Stream *self, PyObject *args)
{
	Py_ssize_t high, low;

	if (!PyArg_ParseTuple(args, "nn:_set_limits", &high, &low))
		return NULL;
	self->high_water = (size_t)high;
	self->low_water = (size_t)low;
	if (self->state < STREAM_LOST && stream_maybe_pause_protocol(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_make_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->empty_waiter != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
		return NULL;
	}
	if (self->loop == NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Transport is closed");
		return NULL;
	}
	if (self->is_dirty && self->in_flight == 0 && self->state < STREAM_LOST &&
	    stream_flush_now(self) < 0)
		return NULL;
	self->empty_waiter = PyObject_CallMethod((PyObject *)self->loop, "create_future", NULL);
	if (self->empty_waiter == NULL)
		return NULL;
	if (self->chunk_count == 0 && stream_settle_empty_waiter(self) < 0)
		return NULL;
	return Py_NewRef(self->empty_waiter);
}

static PyObject *stream_reset_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	Py_CLEAR(self->empty_waiter);
	Py_RETURN_NONE;
}

/* The socket object, made when first asked for. */
static PyObject *stream_get_sock(Stream *self, void *Py_UNUSED(closure))
{
	if (self->sock == NULL) {
		PyObject *fd;

		if (self->fd < 0 || self->state == STREAM_CLOSED)
			Py_RETURN_NONE;
		fd = PyLong_FromLong(self->fd);
		if (fd == NULL)
			return NULL;
		self->sock = PyObject_CallOneArg(helpers.make_socket, fd);
		Py_DECREF(fd);
		if (self->sock == NULL)
			return NULL;
	}
	return Py_NewRef(self->sock);
}

static PyObject *stream_get_state(Stream *self, void *Py_UNUSED(closure))
{
	static const char *const states[] = {"open", "closing", "lost", "joining", "closed"};

	return PyUnicode_FromString(states[self->state]);
}

static PyObject *stream_get_protocol_attribute(Stream *self, void *Py_UNUSED(closure))
{
	return stream_get_protocol(self, NULL);
}

static PyObject *stream_get_loop(Stream *self, void *Py_UNUSED(closure))
{
	if (self->loop == NULL || self->state >= STREAM_JOINING)
		Py_RETURN_NONE;
	return Py_NewRef((PyObject *)self->loop);
}

static PyObject *stream_get_read_polling(Stream *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->receive.link != NULL && !self->paused);
}

static PyObject *stream_get_write_polling(Stream *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->in_flight > 0);
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
	 "write_eof()\n--\n\nShut down the writing side when what is queued has left."},
	{"can_write_eof", (PyCFunction)stream_can_write_eof, METH_NOARGS,
	 "can_write_eof()\n--\n\nTrue."},
	{"get_write_buffer_size", (PyCFunction)stream_get_write_buffer_size, METH_NOARGS,
	 "get_write_buffer_size()\n--\n\nBytes that the kernel has not accepted yet."},
	{"pause_reading", (PyCFunction)stream_pause_reading, METH_NOARGS,
	 "pause_reading()\n--\n\nNo data_received() until resume_reading(); no byte is lost."},
	{"resume_reading", (PyCFunction)stream_resume_reading, METH_NOARGS,
	 "resume_reading()\n--\n\nGo on after pause_reading()."},
	{"is_reading", (PyCFunction)stream_is_reading, METH_NOARGS,
	 "is_reading()\n--\n\nWhether the protocol may get data."},
	{"close", (PyCFunction)stream_close_method, METH_NOARGS,
	 "close()\n--\n\nSend what is queued, then close; connection_lost(None) follows."},
	{"abort", (PyCFunction)stream_abort_method, METH_NOARGS,
	 "abort()\n--\n\nClose at once; what is queued is dropped."},
	{"is_closing", (PyCFunction)stream_is_closing, METH_NOARGS,
	 "is_closing()\n--\n\nWhether the transport is closing or closed."},
	{"set_protocol", (PyCFunction)stream_set_protocol_method, METH_O,
	 "set_protocol($self, protocol, /)\n--\n\nGive what comes next to another protocol."},
	{"get_protocol", (PyCFunction)stream_get_protocol, METH_NOARGS,
	 "get_protocol()\n--\n\nThe current protocol."},
	{"_force_close", (PyCFunction)stream_force_close_method, METH_O, NULL},
	{"_fatal_error", (PyCFunction)stream_fatal_error_method, METH_VARARGS, NULL},
	{"_call_connection_lost", (PyCFunction)stream_call_connection_lost_method, METH_O, NULL},
	{"_abandon", (PyCFunction)stream_abandon_method, METH_NOARGS, NULL},
	{"_start_reading", (PyCFunction)stream_start_reading_method, METH_NOARGS, NULL},
	{"_deliver_kept", (PyCFunction)stream_deliver_kept_method, METH_NOARGS, NULL},
	{"_set_limits", (PyCFunction)stream_set_limits, METH_VARARGS, NULL},
	{"_make_empty_waiter", (PyCFunction)stream_make_empty_waiter, METH_NOARGS, NULL},
	{"_reset_empty_waiter", (PyCFunction)stream_reset_empty_waiter, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getters[] = {
	{"_sock", (getter)stream_get_sock, NULL, NULL, NULL},
	{"_state", (getter)stream_get_state, NULL, NULL, NULL},
	{"_protocol", (getter)stream_get_protocol_attribute, NULL, NULL, NULL},
	{"_loop", (getter)stream_get_loop, NULL, NULL, NULL},
	{"_read_polling", (getter)stream_get_read_polling, NULL, NULL, NULL},
	{"_write_polling", (getter)stream_get_write_polling, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(Stream, weakrefs), READONLY, NULL},
	{"_fd", T_INT, offsetof(Stream, fd), READONLY, NULL},
	{"_raw_peername", T_OBJECT, offsetof(Stream, peername), READONLY, NULL},
	{"_raw_sockname", T_OBJECT, offsetof(Stream, sockname), READONLY, NULL},
	{"_high_water", T_PYSSIZET, offsetof(Stream, high_water), READONLY, NULL},
	{"_low_water", T_PYSSIZET, offsetof(Stream, low_water), READONLY, NULL},
	{"_queued_bytes", T_PYSSIZET, offsetof(Stream, queued_bytes), READONLY, NULL},
	{"_conn_lost", T_UINT, offsetof(Stream, losses), READONLY, NULL},
	{"_eof", T_BOOL, offsetof(Stream, eof), READONLY, NULL},
	{"_paused", T_BOOL, offsetof(Stream, paused), READONLY, NULL},
	{"_protocol_paused", T_BOOL, offsetof(Stream, protocol_paused), READONLY, NULL},
	{"_empty_waiter", T_OBJECT, offsetof(Stream, empty_waiter), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
	{Py_tp_doc, "A connected stream socket; the hot half of StreamTransport."},
	{Py_tp_new, stream_new},
	{Py_tp_init, stream_init},
	{Py_tp_finalize, stream_finalize},
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
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *base = transports == NULL ? NULL : PyObject_GetAttrString(transports, "Transport");
	PyObject *bases;

	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* asyncio.Transport's instances consist of one slot, _extra: ours begin with it. */
	if (((PyTypeObject *)base)->tp_basicsize != offsetof(Stream, loop)) {
		Py_DECREF(base);
		PyErr_SetString(PyExc_ImportError,
		                "asyncio.Transport of this Python has an unknown layout");
		return -1;
	}
	bases = PyTuple_Pack(1, base);
	Py_DECREF(base);
	if (bases == NULL)
		return -1;
	StreamType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec, bases);
	Py_DECREF(bases);
	if (StreamType == NULL)
		return -1;
	return PyModule_AddType(module, StreamType);
}
