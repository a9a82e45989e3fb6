/*
 * The writing end: write() offers the bytes to the kernel at once; what it does not take
 * is queued, and written when there is room.
 */
#include "pipe.h"
#include "../base/checks.h"
#include "../descriptors/polls.h"
#include "../operations/threads.h"

#include <errno.h>
#include <poll.h>
#include <structmember.h>
#include <unistd.h>

#define WATER_HIGH_BYTES (64 * 1024)

struct write_pipe {
	struct pipe base;
	PyObject *queue;      /* owned bytearray; what the kernel has not taken */
	PyObject *hangup;     /* owned or NULL; the poll for the end of who reads */
	Py_ssize_t losses;    /* writes that failed or came too late: asyncio's _conn_lost */
	Py_ssize_t high_water;
	Py_ssize_t low_water;
	bool protocol_paused; /* pause_writing() was called and resume_writing() was not */
};

static Py_ssize_t queued(const struct write_pipe *self)
{
	return self->queue == NULL ? 0 : PyByteArray_GET_SIZE(self->queue);
}

/* ---- the protocol's pauses ----------------------------------------------------------------- */

static int call_protocol(struct write_pipe *self, PyObject *method, const char *message)
{
	PyObject *protocol = Py_XNewRef(self->base.protocol);
	PyObject *loop = Py_XNewRef((PyObject *)self->base.loop);
	PyObject *exception, *text;
	int status = 0;

	if (protocol != NULL && loop != NULL && call_method_and_drop(protocol, method, NULL) < 0)
		status = -1;
	if (unlikely(status < 0) && !exception_ends_loop()) {
		exception = PyErr_GetRaisedException();
		text = PyUnicode_FromString(message);
		if (text != NULL) {
			PyObject *args[5] = {loop, (PyObject *)self, protocol, exception, text};

			status = call_and_drop(helpers.protocol_failed, args, 5);
			Py_DECREF(text);
		}
		Py_DECREF(exception);
	}
	Py_XDECREF(loop);
	Py_XDECREF(protocol);
	return status;
}

static int maybe_pause_protocol(struct write_pipe *self)
{
	if (queued(self) <= self->high_water || self->protocol_paused)
		return 0;
	self->protocol_paused = true;
	return call_protocol(self, names.pause_writing, "protocol.pause_writing() failed");
}

static int maybe_resume_protocol(struct write_pipe *self)
{
	if (!self->protocol_paused || queued(self) > self->low_water)
		return 0;
	self->protocol_paused = false;
	return call_protocol(self, names.resume_writing, "protocol.resume_writing() failed");
}

/* The limits are checked in transports.py. */
static PyObject *write_pipe_set_limits(struct write_pipe *self, PyObject *args)
{
	Py_ssize_t high, low;

	if (!PyArg_ParseTuple(args, "nn:_set_limits", &high, &low))
		return NULL;
	self->high_water = high;
	self->low_water = low;
	if (maybe_pause_protocol(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- to the kernel ------------------------------------------------------------------------- */

/* The bytes that the kernel has taken, 0 when there is no room; -1 with an exception. */
static Py_ssize_t offer(const struct write_pipe *self, const char *data, Py_ssize_t size)
{
	int fd = self->base.fd, error;
	ssize_t count;

	/* As os.write(): a terminal that others share may have been made to block. */
	do {
		Py_BEGIN_ALLOW_THREADS
			count = write(fd, data, (size_t)size);
		error = errno;
		Py_END_ALLOW_THREADS
	} while (unlikely(count < 0 && error == EINTR) && PyErr_CheckSignals() == 0);
	if (likely(count >= 0))
		return count;
	if (PyErr_Occurred())
		return -1;
	if (error == EAGAIN)
		return 0;
	exception_set_errno(error);
	return -1;
}

/* The exception that is set is the write's: end it; -1 when it must end the loop instead. */
static int write_failed(struct write_pipe *self)
{
	PyObject *exception;
	int status;

	if (exception_ends_loop())
		return -1;
	exception = PyErr_GetRaisedException();
	status = call_method_and_drop((PyObject *)self, names._write_failed, exception);
	Py_DECREF(exception);
	return status;
}

static int enqueue(struct write_pipe *self, const char *data, Py_ssize_t size)
{
	Py_ssize_t before = queued(self);

	if (self->queue == NULL)
		self->queue = PyByteArray_FromStringAndSize(NULL, 0);
	if (self->queue == NULL || PyByteArray_Resize(self->queue, before + size) < 0)
		return -1;
	memcpy(PyByteArray_AS_STRING(self->queue) + before, data, (size_t)size);
	return 0;
}

/* In the loop's thread, or while no other runs the loop.  The caller keeps `data`. */
static int write_now(struct write_pipe *self, const char *data, Py_ssize_t size)
{
	Py_ssize_t count;

	if (self->base.state >= PIPE_LOST)
		return 0;
	if (likely(queued(self) == 0)) {
		count = offer(self, data, size);
		if (unlikely(count < 0))
			return write_failed(self);
		if (likely(count == size) || self->base.state >= PIPE_LOST)
			return 0;
		data += count;
		size -= count;
	}
	if (enqueue(self, data, size) < 0)
		return -1;
	if (self->base.poll == NULL &&
	    pipe_poll(&self->base, &self->base.poll, POLLOUT, names._write_ready) < 0) {
		/* Nothing stays queued of which nobody would tell that there is room. */
		if (self->base.poll == NULL)
			Py_CLEAR(self->queue);
		return -1;
	}
	return maybe_pause_protocol(self);
}

/* ---- write() ------------------------------------------------------------------------------- */

/* A view of the bytes; `flat`, which the caller drops, holds them when their owner has gaps. */
static int take_view(PyObject *data, Py_buffer *view, PyObject **flat)
{
	*flat = NULL;
	if (likely(PyObject_GetBuffer(data, view, PyBUF_SIMPLE) == 0))
		return 0;
	if (!PyErr_ExceptionMatches(PyExc_BufferError))
		return -1;
	PyErr_Clear();
	*flat = PyBytes_FromObject(data);
	if (*flat == NULL)
		return -1;
	return PyObject_GetBuffer(*flat, view, PyBUF_SIMPLE);
}

/* The loop's thread writes it: written bytes and queued ones must keep their order. */
static int hand_over(struct write_pipe *self, const Py_buffer *view)
{
	PyObject *copy = PyBytes_FromStringAndSize(view->buf, view->len);
	int status = -1;

	if (copy != NULL)
		status = loop_leave_call(self->base.loop, (PyObject *)self, names._write, copy);
	Py_XDECREF(copy);
	return status;
}

PyDoc_STRVAR(write_pipe_write_doc,
"write($self, data, /)\n--\n\n"
"Write the bytes; never blocks.\n\n"
"Source: asyncio.WriteTransport.write.");

static PyObject *write_pipe_write(struct write_pipe *self, PyObject *data)
{
	Py_buffer view;
	PyObject *flat, *text;
	int status = 0;

	if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
		text = PyObject_Repr(data);
		if (text != NULL)
			PyErr_SetObject(PyExc_AssertionError, text);
		Py_XDECREF(text);
		return NULL;
	}
	if (take_view(data, &view, &flat) < 0) {
		Py_XDECREF(flat);
		return NULL;
	}
	if (likely(view.len > 0)) {
		if (unlikely(self->losses > 0 || self->base.state != PIPE_OPEN))
			status = call_method_and_drop((PyObject *)self, names._write_in_vain, NULL);
		else if (unlikely(loop_is_elsewhere(self->base.loop)))
			status = hand_over(self, &view);
		else
			status = write_now(self, view.buf, view.len);
	}
	PyBuffer_Release(&view);
	Py_XDECREF(flat);
	if (unlikely(status < 0))
		return NULL;
	Py_RETURN_NONE;
}

/* What another thread has written. */
static PyObject *write_pipe_write_method(struct write_pipe *self, PyObject *data)
{
	if (!PyBytes_Check(data)) {
		PyErr_SetString(PyExc_TypeError, "_write() takes bytes");
		return NULL;
	}
	if (write_now(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- there is room ------------------------------------------------------------------------- */

/* Write what is queued; 1 when all is written, -1 with an exception. */
static int flush(struct write_pipe *self)
{
	PyObject *queue;
	Py_ssize_t count = -1;
	Py_buffer view;
	int status;

	/* Somebody has emptied it from outside. */
	if (unlikely(queued(self) == 0))
		return 1;
	queue = Py_NewRef(self->queue);
	if (PyObject_GetBuffer(queue, &view, PyBUF_SIMPLE) == 0) {
		count = offer(self, view.buf, view.len);
		PyBuffer_Release(&view);
	}
	/* What cannot be taken out of the queue would be written twice. */
	if (unlikely(count < 0) || (count > 0 && self->base.state < PIPE_LOST &&
	                            unlikely(PySequence_DelSlice(queue, 0, count) < 0)))
		status = write_failed(self);
	else
		status = self->base.state < PIPE_LOST && PyByteArray_GET_SIZE(queue) == 0;
	Py_DECREF(queue);
	return status;
}

/* All is written that there was, and it is closed.  Keeps a failing status, and its exception. */
static int lose_written(struct write_pipe *self, int status)
{
	PyObject *exception = PyErr_GetRaisedException();
	int lost = call_method_and_drop((PyObject *)self, names._lose, Py_None);

	if (exception == NULL)
		return lost;
	if (lost < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
	return status;
}

/* The poll's callback. */
static PyObject *write_pipe_ready(struct write_pipe *self, PyObject *Py_UNUSED(ignored))
{
	int ready, status;

	/* Another thread has aborted it. */
	if (self->base.poll == NULL)
		Py_RETURN_NONE;
	ready = poll_readiness(self->base.poll);
	if (unlikely(ready < 0)) {
		exception_set_errno(-ready);
		if (write_failed(self) < 0)
			return NULL;
		Py_RETURN_NONE;
	}
	/* Both polls know; which of them is called first must make no difference. */
	if (unlikely(ready & ~POLLOUT) && self->hangup != NULL)
		return PyObject_CallMethodNoArgs((PyObject *)self, names._hung_up);
	status = flush(self);
	if (status < 0)
		return NULL;
	if (status == 0)
		Py_RETURN_NONE;
	if (pipe_end_poll(&self->base, &self->base.poll) < 0)
		return NULL;
	status = maybe_resume_protocol(self);
	if (self->base.state == PIPE_CLOSING && queued(self) == 0)
		status = lose_written(self, status);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- attributes ---------------------------------------------------------------------------- */

static PyObject *write_pipe_get_write_buffer_size(struct write_pipe *self,
                                                  PyObject *Py_UNUSED(ignored))
{
	return PyLong_FromSsize_t(queued(self));
}

static PyObject *write_pipe_watch(struct write_pipe *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state < PIPE_LOST && self->hangup == NULL &&
	    pipe_poll(&self->base, &self->hangup, POLLIN, names._hung_up) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* What is queued is lost. */
static PyObject *write_pipe_end_polls(struct write_pipe *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	Py_CLEAR(self->queue);
	status = pipe_end_poll(&self->base, &self->base.poll);
	if (pipe_end_poll(&self->base, &self->hangup) < 0 || status < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* asyncio's bytearray: others look into it. */
static PyObject *write_pipe_get_buffer(struct write_pipe *self, void *Py_UNUSED(closure))
{
	if (self->queue == NULL)
		self->queue = PyByteArray_FromStringAndSize(NULL, 0);
	return Py_XNewRef(self->queue);
}

static PyMethodDef write_pipe_methods[] = {
	{"write", (PyCFunction)write_pipe_write, METH_O, write_pipe_write_doc},
	{"get_write_buffer_size", (PyCFunction)write_pipe_get_write_buffer_size, METH_NOARGS,
	 "get_write_buffer_size($self, /)\n--\n\nBytes that the kernel has not accepted yet."},
	{"_write", (PyCFunction)write_pipe_write_method, METH_O, NULL},
	{"_write_ready", (PyCFunction)write_pipe_ready, METH_NOARGS, NULL},
	{"_set_limits", (PyCFunction)write_pipe_set_limits, METH_VARARGS, NULL},
	{"_watch", (PyCFunction)write_pipe_watch, METH_NOARGS, NULL},
	{"_end_polls", (PyCFunction)write_pipe_end_polls, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, field, flags) \
	{name, type, offsetof(struct write_pipe, field), flags, NULL}
static PyMemberDef write_pipe_members[] = {
	MEMBER("_hangup", T_OBJECT, hangup, READONLY),
	MEMBER("_conn_lost", T_PYSSIZET, losses, 0),
	MEMBER("_high_water", T_PYSSIZET, high_water, READONLY),
	MEMBER("_low_water", T_PYSSIZET, low_water, READONLY),
	MEMBER("_protocol_paused", T_BOOL, protocol_paused, READONLY),
	{NULL, 0, 0, 0, NULL},
};

/* ---- the type ------------------------------------------------------------------------------ */

static PyObject *write_pipe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct write_pipe *self = (struct write_pipe *)pipe_new(type, args, kwargs);

	if (self == NULL)
		return NULL;
	self->high_water = WATER_HIGH_BYTES;
	self->low_water = WATER_HIGH_BYTES / 4;
	return (PyObject *)self;
}

static int write_pipe_traverse(struct write_pipe *self, visitproc visit, void *arg)
{
	Py_VISIT(self->hangup);
	return pipe_traverse(&self->base, visit, arg);
}

static int write_pipe_clear(struct write_pipe *self)
{
	Py_CLEAR(self->hangup);
	Py_CLEAR(self->queue);
	return pipe_clear(&self->base);
}

static void write_pipe_dealloc(struct write_pipe *self)
{
	PyObject_GC_UnTrack(self);
	write_pipe_clear(self);
	pipe_dealloc(&self->base);
}

static PyGetSetDef write_pipe_getters[] = {
	{"_buffer", (getter)write_pipe_get_buffer, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot write_pipe_slots[] = {
	{Py_tp_doc, "The writing end of a pipe: what runs per message."},
	{Py_tp_new, write_pipe_new},
	{Py_tp_dealloc, write_pipe_dealloc},
	{Py_tp_traverse, write_pipe_traverse},
	{Py_tp_clear, write_pipe_clear},
	{Py_tp_methods, write_pipe_methods},
	{Py_tp_members, write_pipe_members},
	{Py_tp_getset, write_pipe_getters},
	{0, NULL},
};

static PyType_Spec write_pipe_spec = {
	.name = "uring_loop._core.WritePipe",
	.basicsize = sizeof(struct write_pipe),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = write_pipe_slots,
};

int write_pipe_init_type(PyObject *module)
{
	PyObject *type = PyType_FromModuleAndSpec(module, &write_pipe_spec, (PyObject *)PipeType);
	int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

	Py_XDECREF(type);
	return status;
}
