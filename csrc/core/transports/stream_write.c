/*
 * write(), writelines() and write_eof() of a stream transport: they queue.  Bytes that
 * others would miss, or that are many, are offered to the kernel at once.
 */
#include "calls.h"
#include "stream.h"
#include "stream_send.h"
#include "../base/checks.h"

#include <errno.h>
#include <sys/socket.h>

/* Above this a mutable buffer is offered to the kernel before it is copied. */
#define COPY_MAX (16 * 1024)

/* Whether a write may go on: 1, 0 (silently ignored), or -1 with an exception. */
static int stream_check_write(Stream *self, const char *method)
{
	if (unlikely(self->eof)) {
		PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
		return -1;
	}
	if (unlikely(self->empty_waiter != NULL)) {
		PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", method);
		return -1;
	}
	return 1;
}

/* Queue a buffer that its owner may change after write() returns. */
static int stream_push_mutable(Stream *self, PyObject *data)
{
	const char *start;
	PyObject *copy;
	Py_buffer view;
	size_t size;
	int status = 0;

	/* Not contiguous: asyncio finds out in send(), and gives up the connection. */
	if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
		return transport_fatal(&self->base, "Fatal write error on socket transport");
	/* The buffer may be of Python's making, and have closed us, and our descriptor. */
	if (unlikely(self->base.state >= TRANSPORT_LOST)) {
		PyBuffer_Release(&view);
		return 0;
	}
	start = view.buf;
	size = (size_t)view.len;
	if (size > COPY_MAX && self->chunk_count == 0) {
		ssize_t sent;

		do {
			sent = send(self->base.fd, start, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		} while (sent < 0 && errno == EINTR);
		if (sent > 0) {
			start += sent;
			size -= (size_t)sent;
		} else if (sent < 0 && errno != EAGAIN) {
			int error = errno;

			PyBuffer_Release(&view);
			return stream_send_failed(self, error);
		}
	}
	if (size > 0) {
		copy = PyBytes_FromStringAndSize(start, (Py_ssize_t)size);
		status = copy == NULL ? -1
		                      : stream_push(self, copy, PyBytes_AS_STRING(copy), size);
	}
	PyBuffer_Release(&view);
	return status;
}

static int stream_queue(Stream *self, PyObject *data)
{
	if (likely(PyBytes_CheckExact(data)))
		return stream_push(self, Py_NewRef(data), PyBytes_AS_STRING(data),
		                   (size_t)PyBytes_GET_SIZE(data));
	return stream_push_mutable(self, data);
}

/*
 * Whether what is queued may not wait for the end of the turn, as others may use the
 * socket before: they know its number, or hold its object.  (Or it was large.)
 */
bool stream_is_urgent(const Stream *self)
{
	const struct transport *base = &self->base;

	return base->queued_bytes >= base->loop->eager_send_bytes || self->shared ||
	       /* An end that reading finds now would be told before what this send finds. */
	       base->deliver_scheduled ||
	       (base->sock != NULL && Py_REFCNT(base->sock) > (self->shown ? 2 : 1));
}

/* After something was queued. */
static int stream_queued(Stream *self)
{
	if (self->chunk_count == 0 || self->base.state >= TRANSPORT_LOST)
		return 0;
	stream_mark_dirty(self);
	if (unlikely(!self->base.loop->running)) {
		/* Between two runs of the loop no turn would send it. */
		if (self->in_flight == 0 && stream_flush_now(self) < 0)
			return -1;
		/* The rest would have needed the loop, in asyncio too. */
		if (self->chunk_count > 0 && self->base.state < TRANSPORT_LOST &&
		    loop_check_closed(self->base.loop) < 0)
			return -1;
	} else if (unlikely(stream_is_urgent(self))) {
		stream_note_sent(self);
		if (self->in_flight == 0 && stream_flush_now(self) < 0)
			return -1;
	}
	if (unlikely(self->base.queued_bytes > self->base.high_water) &&
	    self->base.state < TRANSPORT_LOST)
		return transport_maybe_pause_protocol(&self->base);
	return 0;
}

PyObject *stream_write(Stream *self, PyObject *data)
{
	Py_ssize_t size;
	int allowed;

	if (unlikely(!PyBytes_Check(data) && !PyByteArray_Check(data) &&
	             !PyMemoryView_Check(data))) {
		PyObject *name = PyType_GetName(Py_TYPE(data));

		if (name != NULL)
			PyErr_Format(PyExc_TypeError, "%U%R", helpers.data_refusal, name);
		Py_XDECREF(name);
		return NULL;
	}
	allowed = stream_check_write(self, "write");
	if (unlikely(allowed < 0))
		return NULL;
	size = PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) : PyObject_Size(data);
	if (unlikely(size < 0))
		return NULL;
	if (unlikely(size == 0))
		Py_RETURN_NONE;
	if (unlikely(self->base.state >= TRANSPORT_LOST)) {
		if (transport_count_loss(&self->base) < 0)
			return NULL;
		Py_RETURN_NONE;
	}
	if (unlikely(stream_queue(self, data) < 0 || stream_queued(self) < 0))
		return NULL;
	Py_RETURN_NONE;
}

/* The view that writelines() queues for an item that is not plain bytes. */
static PyObject *view_of_item(PyObject *item)
{
	/* Since 3.14.8 asyncio skips what is false before it looks at its type. */
	if (Py_Version >= 0x030E0800) {
		int empty = PyObject_Not(item);

		if (empty != 0)
			return empty < 0 ? NULL : PyBytes_FromStringAndSize(NULL, 0);
	}
	return PyMemoryView_FromObject(item);
}

/* Whether a view is contiguous; else with the exception that sendmsg() would raise. */
static bool can_be_sent(PyObject *view)
{
	Py_buffer buffer;

	if (likely(PyBytes_CheckExact(view)))
		return true;
	if (PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE) < 0)
		return false;
	PyBuffer_Release(&buffer);
	return true;
}

/* gh-136234: since 3.13.10 and 3.14.1 asyncio drops them without a look at their types. */
static bool lost_lines_are_dropped_unseen(void)
{
	return Py_Version >= 0x030E0100 ||
	       (Py_Version >= 0x030D0A00 && Py_Version < 0x030E0000);
}

/* Item `i` of a list cannot be sent, says the exception that is set. */
static PyObject *stream_writelines_failed(Stream *self, Py_ssize_t i)
{
	if (Py_Version < 0x030C0000) {
		/* bytes.join() has refused it before anything was written. */
		PyErr_Format(PyExc_TypeError, "sequence item %zd: expected a bytes-like object, "
		                              "memoryview found: make its bytes contiguous",
		             i);
		return NULL;
	}
	if (transport_fatal(&self->base, "Fatal write error on socket transport") < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *stream_writelines(Stream *self, PyObject *list)
{
	PyObject *fast, *views;
	Py_ssize_t i;
	int allowed, empty;

	allowed = stream_check_write(self, "writelines");
	if (unlikely(allowed < 0))
		return NULL;
	empty = PyObject_Not(list);
	if (empty < 0)
		return NULL;
	if (empty)
		Py_RETURN_NONE;
	if (unlikely(self->base.state >= TRANSPORT_LOST) && lost_lines_are_dropped_unseen()) {
		if (transport_count_loss(&self->base) < 0)
			return NULL;
		Py_RETURN_NONE;
	}
	/* A list of our own: a subclass or a generator may run code. */
	fast = PySequence_Tuple(list);
	if (fast == NULL)
		return NULL;
	/* All or nothing, as asyncio, which makes its views before it queues. */
	views = PyTuple_New(PyTuple_GET_SIZE(fast));
	for (i = 0; views != NULL && i < PyTuple_GET_SIZE(fast); i++) {
		PyObject *item = PyTuple_GET_ITEM(fast, i);
		PyObject *view = PyBytes_CheckExact(item) ? Py_NewRef(item) : view_of_item(item);

		if (view == NULL)
			Py_CLEAR(views);
		else
			PyTuple_SET_ITEM(views, i, view);
	}
	Py_DECREF(fast);
	if (views == NULL)
		return NULL;
	if (unlikely(self->base.state >= TRANSPORT_LOST)) {
		Py_DECREF(views);
		if (transport_count_loss(&self->base) < 0)
			return NULL;
		Py_RETURN_NONE;
	}
	for (i = 0; i < PyTuple_GET_SIZE(views); i++) {
		/* One that cannot be sent: asyncio's one call for all of them sends none. */
		if (!can_be_sent(PyTuple_GET_ITEM(views, i))) {
			Py_DECREF(views);
			return stream_writelines_failed(self, i);
		}
	}
	for (i = 0; i < PyTuple_GET_SIZE(views) && self->base.state < TRANSPORT_LOST; i++) {
		PyObject *view = PyTuple_GET_ITEM(views, i);
		Py_ssize_t size = PyObject_Size(view);

		if (size < 0 || (size > 0 && stream_queue(self, view) < 0)) {
			if (self->chunk_count > 0 && self->base.state < TRANSPORT_LOST)
				stream_mark_dirty(self);
			Py_DECREF(views);
			return NULL;
		}
	}
	Py_DECREF(views);
	if (stream_queued(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *stream_write_eof(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state != TRANSPORT_OPEN || self->eof)
		Py_RETURN_NONE;
	self->eof = true;
	if (stream_catch_up(&self->base) < 0)
		return NULL;
	if (self->chunk_count == 0 && self->base.state == TRANSPORT_OPEN &&
	    stream_shut_down(self) != 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_RETURN_NONE;
}
