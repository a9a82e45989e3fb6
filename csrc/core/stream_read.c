/*
 * The reading half of a stream transport.
 *
 * One receive stream per socket; the driver arms it again and again.  Pausing
 * does not end it at once: what still arrives is kept, in order, and only when
 * more than KEPT_BYTES_MAX have come is the receive cancelled.  Ending it at
 * each short pause would cost more than the pauses save (a cancel and a new
 * arming for each response of a server that pauses while it answers).
 */
#include "stream.h"

#include <errno.h>
#include <string.h>

#define KEPT_BYTES_MAX (64 * 1024)

/* ---- keeping ------------------------------------------------------------------ */

static int stream_keep(Stream *self, const char *data, size_t size)
{
	PyObject *bytes;
	int status;

	if (self->kept == NULL && (self->kept = PyList_New(0)) == NULL)
		return -1;
	bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
	if (bytes == NULL)
		return -1;
	status = PyList_Append(self->kept, bytes);
	Py_DECREF(bytes);
	if (status == 0)
		self->kept_bytes += size;
	return status;
}

static bool stream_has_kept(const Stream *self)
{
	return self->kept_end || (self->kept != NULL && PyList_GET_SIZE(self->kept) > 0);
}

static bool stream_wants_data(const Stream *self)
{
	return self->state == STREAM_OPEN && !self->paused;
}

/* ---- delivering ------------------------------------------------------------------ */

static int stream_deliver_to_buffer(Stream *self, const char *data, size_t size, size_t *taken)
{
	PyObject *args[2] = {self->protocol, NULL}, *buffer, *result;
	Py_buffer view;

	args[1] = PyLong_FromLong(-1);
	buffer = PyObject_VectorcallMethod(names.get_buffer, args, 2, NULL);
	Py_DECREF(args[1]);
	if (buffer == NULL)
		return stream_fatal(self, "Fatal error: protocol.get_buffer() call failed.");
	if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0) {
		Py_DECREF(buffer);
		return stream_fatal(self, "Fatal error: protocol.get_buffer() call failed.");
	}
	Py_DECREF(buffer);
	if (view.len == 0) {
		PyBuffer_Release(&view);
		PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
		return stream_fatal(self, "Fatal error: protocol.get_buffer() call failed.");
	}
	*taken = size < (size_t)view.len ? size : (size_t)view.len;
	memcpy(view.buf, data, *taken);
	PyBuffer_Release(&view);
	args[0] = self->protocol;
	args[1] = PyLong_FromSize_t(*taken);
	if (args[1] == NULL)
		return -1;
	result = PyObject_VectorcallMethod(names.buffer_updated, args, 2, NULL);
	Py_DECREF(args[1]);
	if (result == NULL)
		return stream_fatal(self, "Fatal error: protocol.buffer_updated() call failed.");
	Py_DECREF(result);
	return 0;
}

/* Takes the reference to `bytes`. */
static int stream_deliver_bytes(Stream *self, PyObject *bytes)
{
	PyObject *args[2] = {self->protocol, bytes};
	PyObject *result = PyObject_VectorcallMethod(names.data_received, args, 2, NULL);

	Py_DECREF(bytes);
	if (unlikely(result == NULL))
		return stream_fatal(self, "Fatal error: protocol.data_received() call failed.");
	Py_DECREF(result);
	return 0;
}

/*
 * Give `size` bytes to the protocol; what it does not take, because it paused
 * or closed in the middle, is kept.  The caller has entered the context.
 */
static int stream_deliver(Stream *self, const char *data, size_t size)
{
	PyObject *bytes;
	size_t taken;

	while (size > 0 && self->state == STREAM_OPEN) {
		if (self->paused)
			return stream_keep(self, data, size);
		if (likely(!self->buffered)) {
			bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
			return bytes == NULL ? -1 : stream_deliver_bytes(self, bytes);
		}
		taken = size;
		if (stream_deliver_to_buffer(self, data, size, &taken) < 0)
			return -1;
		data += taken;
		size -= taken;
	}
	return 0;
}

static int stream_deliver_eof(Stream *self)
{
	PyObject *result;
	int keep_open;

	stream_log(self, "received EOF");
	result = PyObject_CallMethodNoArgs(self->protocol, names.eof_received);
	if (result == NULL)
		return stream_fatal(self, "Fatal error: protocol.eof_received() call failed.");
	keep_open = PyObject_IsTrue(result);
	Py_DECREF(result);
	if (keep_open < 0)
		return stream_fatal(self, "Fatal error: protocol.eof_received() call failed.");
	return keep_open ? 0 : stream_close(self);
}

/* The receive stream ended with `result`: 0 (end of file) or -errno. */
static int stream_deliver_end(Stream *self, int result)
{
	if (self->state != STREAM_OPEN)
		return 0;
	if (result == 0)
		return stream_deliver_eof(self);
	return stream_fatal_errno(self, -result, "Fatal read error on socket transport");
}

/* ---- the receive stream ------------------------------------------------------------ */

static int stream_arm(Stream *self)
{
	ul_token token;
	int status;

	assert(self->receive.link == NULL);
	status = self->loop->table->recv(self->loop->driver, &self->receive, self->fd, &token);
	if (likely(status == -EINPROGRESS)) {
		self->receive.token = token;
		self->read_cancelled = false;
		sink_hold(self->loop, &self->receive);
		return 0;
	}
	self->read_ended = true;
	return stream_fatal_errno(self, -status, "Fatal read error on socket transport");
}

void stream_stop_reading(Stream *self)
{
	if (self->receive.link == NULL || self->read_cancelled || self->loop->table == NULL)
		return;
	if (self->loop->table->cancel(self->loop->driver, self->receive.token) == -EINPROGRESS)
		self->read_cancelled = true;
	else
		sink_drop(&self->receive);
}

static int stream_received_data(Stream *self, const struct ul_completion *completion)
{
	const char *data = (const char *)completion->data;
	size_t size = (size_t)completion->result;
	int status;

	if (unlikely(!stream_wants_data(self) || stream_has_kept(self))) {
		if (self->state != STREAM_OPEN)
			return 0;
		status = stream_keep(self, data, size);
		if (self->kept_bytes > KEPT_BYTES_MAX)
			stream_stop_reading(self);
		return status;
	}
	return stream_deliver(self, data, size);
}

static int stream_received_end(Stream *self, int result)
{
	if (result == -ECANCELED && self->read_cancelled)
		return 0;
	self->read_ended = true;
	if (self->state == STREAM_OPEN && (self->paused || stream_has_kept(self))) {
		self->kept_end = true;
		self->kept_result = result;
		return 0;
	}
	return stream_deliver_end(self, result);
}

int stream_received(Loop *loop, struct sink *sink, const struct ul_completion *completion)
{
	Stream *self = container_of(sink, Stream, receive);
	bool terminal = !(completion->flags & UL_MORE);
	PyObject *context;
	double start = 0;
	int status;

	/* What the protocol does may drop every other reference. */
	Py_INCREF(self);
	if (unlikely(terminal))
		sink_drop(sink);
	if (unlikely(loop->closed))
		goto out_closed;
	context = Py_NewRef(self->context);
	if (unlikely(loop->debug))
		start = loop_time(loop);
	status = stream_enter(context);
	if (likely(status == 0)) {
		if (likely(completion->result > 0))
			status = stream_received_data(self, completion);
		else
			status = stream_received_end(self, completion->result);
		stream_exit(context);
	}
	Py_DECREF(context);
	if (completion->flags & UL_LENT)
		loop->table->recycle(loop->driver, completion->data);
	if (unlikely(terminal)) {
		if (self->state == STREAM_JOINING)
			stream_join(self);
		else if (status == 0 && !self->read_ended && stream_wants_data(self) &&
		         !stream_has_kept(self) && sink->link == NULL)
			status = stream_arm(self);
	}
	if (unlikely(loop->debug) && status == 0) {
		double taken = loop_time(loop) - start;
		PyObject *args[3] = {(PyObject *)loop, (PyObject *)self, NULL};

		if (taken >= loop->slow_callback_duration &&
		    (args[2] = PyFloat_FromDouble(taken)) != NULL) {
			status = call_and_drop(helpers.callback_slow, args, 3);
			Py_DECREF(args[2]);
		}
	}
	Py_DECREF(self);
	return status;

out_closed:
	if (completion->flags & UL_LENT)
		loop->table->recycle(loop->driver, completion->data);
	if (self->state == STREAM_JOINING)
		stream_join(self);
	Py_DECREF(self);
	return 0;
}

/* ---- pausing ------------------------------------------------------------------------ */

PyObject *stream_is_reading(Stream *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(stream_wants_data(self));
}

/* connection_made() was called: from here on data may come. */
PyObject *stream_start_reading_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->started = true;
	if (stream_wants_data(self) && self->receive.link == NULL && !self->read_ended &&
	    stream_arm(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *stream_pause_reading(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (stream_wants_data(self)) {
		self->paused = true;
		stream_log(self, "pauses reading");
	}
	Py_RETURN_NONE;
}

static int stream_schedule_delivery(Stream *self)
{
	PyObject *method;
	int status;

	if (self->deliver_scheduled)
		return 0;
	method = PyObject_GetAttr((PyObject *)self, names._deliver_kept);
	if (method == NULL)
		return -1;
	status = loop_call_soon(self->loop, method, NULL, 0);
	Py_DECREF(method);
	if (status == 0)
		self->deliver_scheduled = true;
	return status;
}

PyObject *stream_resume_reading(Stream *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *context;

	if (self->state != STREAM_OPEN || !self->paused)
		Py_RETURN_NONE;
	context = PyContext_CopyCurrent();
	if (context == NULL)
		return NULL;
	Py_XSETREF(self->context, context);
	self->paused = false;
	stream_log(self, "resumes reading");
	/* asyncio never calls the protocol from inside resume_reading(). */
	if (stream_has_kept(self)) {
		if (stream_schedule_delivery(self) < 0)
			return NULL;
	} else if (self->started && self->receive.link == NULL && !self->read_ended &&
	           stream_arm(self) < 0) {
		return NULL;
	}
	Py_RETURN_NONE;
}

/* Deliver what was kept, as long as the protocol wants it. */
static int stream_deliver_kept(Stream *self)
{
	while (stream_wants_data(self) && self->kept != NULL && PyList_GET_SIZE(self->kept) > 0) {
		PyObject *bytes = Py_NewRef(PyList_GET_ITEM(self->kept, 0));
		size_t size = (size_t)PyBytes_GET_SIZE(bytes);
		int status;

		if (PyList_SetSlice(self->kept, 0, 1, NULL) < 0) {
			Py_DECREF(bytes);
			return -1;
		}
		self->kept_bytes -= size;
		if (!self->buffered) {
			status = stream_deliver_bytes(self, bytes);
		} else {
			PyObject *rest = self->kept;

			/* What is not taken goes back in front of the rest. */
			self->kept = NULL;
			status = stream_deliver(self, PyBytes_AS_STRING(bytes), size);
			Py_DECREF(bytes);
			if (self->kept != NULL &&
			    PyList_SetSlice(rest, 0, 0, self->kept) < 0)
				status = -1;
			Py_XSETREF(self->kept, rest);
		}
		if (status < 0)
			return -1;
	}
	if (!stream_wants_data(self))
		return 0;
	if (self->kept_end) {
		self->kept_end = false;
		return stream_deliver_end(self, self->kept_result);
	}
	if (self->started && self->receive.link == NULL && !self->read_ended)
		return stream_arm(self);
	return 0;
}

/* Called by the loop in a copy of resume_reading()'s context, as a reader would be. */
PyObject *stream_deliver_kept_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->deliver_scheduled = false;
	if (self->state == STREAM_OPEN && stream_deliver_kept(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}
