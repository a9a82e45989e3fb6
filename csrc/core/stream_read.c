/*
 * The reading half of a stream transport.
 *
 * One receive stream per socket; the driver arms it again and again.  Pausing
 * does not end it at once: what still arrives is kept, in order, and only when
 * more than KEPT_BYTES_MAX have come is the receive cancelled; what a ring then
 * still delivers is one burst, as many bytes as its buffers hold.  Ending it at
 * each short pause would cost more than the pauses save (a cancel and a new
 * arming for each response of a server that pauses while it answers).
 *
 * Bulk is received here, by take(), into the memory in which the protocol gets
 * it: a bytes object made for it, or the buffer of a BufferedProtocol.  While
 * reading is paused it stays in the socket.
 */
#include "stream.h"

#include <errno.h>
#include <string.h>

#define KEPT_BYTES_MAX (64 * 1024)
/* The largest receive, and the first. */
#define TAKE_BYTES_MAX (256 * 1024)
#define TAKE_BYTES_FIRST (64 * 1024)

/* ---- keeping ------------------------------------------------------------------ */

static int stream_keep(Stream *self, const char *data, size_t size)
{
	if (transport_keep(&self->base, PyBytes_FromStringAndSize(data, (Py_ssize_t)size)) < 0)
		return -1;
	self->kept_bytes += size;
	return 0;
}

bool stream_has_kept(const struct transport *base)
{
	return container_of(base, const Stream, base)->kept_end || base->readable ||
	       (base->kept != NULL && PyList_GET_SIZE(base->kept) > 0);
}

/* ---- delivering ------------------------------------------------------------------ */

/*
 * Ask the protocol for its buffer, which the caller releases.  0; -1 when the
 * loop must end; 1 when the transport was aborted instead.
 */
static int stream_get_buffer(Stream *self, PyObject *protocol, Py_buffer *view)
{
	const char *message = "Fatal error: protocol.get_buffer() call failed.";
	PyObject *args[2] = {protocol, PyLong_FromLong(-1)}, *buffer;

	buffer = PyObject_VectorcallMethod(names.get_buffer, args, 2, NULL);
	Py_DECREF(args[1]);
	if (likely(buffer != NULL && PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE) == 0)) {
		Py_DECREF(buffer);
		if (likely(view->len > 0))
			return 0;
		PyBuffer_Release(view);
		PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
	} else if (buffer != NULL) {
		/* asyncio: an empty one is its own error, a read-only one fails the read. */
		PyErr_Clear();
		if (PyObject_Size(buffer) == 0) {
			PyErr_SetString(PyExc_RuntimeError,
			                "get_buffer() returned an empty buffer");
		} else if (!PyErr_Occurred()) {
			PyErr_Format(PyExc_TypeError,
			             "get_buffer() must return a read-write bytes-like object, "
			             "not %.200s", Py_TYPE(buffer)->tp_name);
			message = "Fatal read error on socket transport";
		}
		Py_DECREF(buffer);
	}
	return transport_fatal(&self->base, message) < 0 ? -1 : 1;
}

/* Of the protocol that is there now: get_buffer() may have set another, as in asyncio. */
static int stream_buffer_updated(Stream *self, size_t size)
{
	PyObject *args[2] = {Py_NewRef(self->base.protocol), PyLong_FromSize_t(size)};
	PyObject *result = NULL;

	if (likely(args[1] != NULL))
		result = PyObject_VectorcallMethod(names.buffer_updated, args, 2, NULL);
	Py_XDECREF(args[1]);
	Py_DECREF(args[0]);
	if (unlikely(result == NULL))
		return transport_fatal(&self->base,
		                       "Fatal error: protocol.buffer_updated() call failed.");
	Py_DECREF(result);
	return 0;
}

/* Copies into the protocol's buffer as much as it holds; as stream_get_buffer(). */
static int stream_deliver_to_buffer(Stream *self, const char *data, size_t size, size_t *taken)
{
	PyObject *protocol = Py_NewRef(self->base.protocol);
	Py_buffer view;
	int status = stream_get_buffer(self, protocol, &view);

	if (likely(status == 0)) {
		*taken = size < (size_t)view.len ? size : (size_t)view.len;
		memcpy(view.buf, data, *taken);
		PyBuffer_Release(&view);
		status = stream_buffer_updated(self, *taken);
	} else if (status < 0) {
		*taken = 0; /* nothing was taken: the bytes are kept for the next run */
	}
	Py_DECREF(protocol);
	return status;
}

/* Takes the reference to `bytes`. */
static int stream_deliver_bytes(Stream *self, PyObject *bytes)
{
	PyObject *args[2] = {Py_NewRef(self->base.protocol), bytes};
	PyObject *result = PyObject_VectorcallMethod(names.data_received, args, 2, NULL);

	Py_DECREF(args[0]);
	Py_DECREF(bytes);
	if (unlikely(result == NULL))
		return transport_fatal(&self->base,
		                       "Fatal error: protocol.data_received() call failed.");
	Py_DECREF(result);
	return 0;
}

/* The loop ends for now, by the exception that is set: the rest waits for its next run. */
static void stream_keep_rest(Stream *self, const char *data, size_t size)
{
	PyObject *exception = PyErr_GetRaisedException();

	if (size > 0 && self->base.state == TRANSPORT_OPEN &&
	    (stream_keep(self, data, size) < 0 || transport_schedule_delivery(&self->base) < 0))
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

/*
 * Give `size` bytes to the protocol; what it does not take, because it paused
 * or closed in the middle, is kept.  The caller has entered the context.
 */
static int stream_deliver(Stream *self, const char *data, size_t size)
{
	PyObject *bytes;
	size_t taken;
	int status;

	while (size > 0 && self->base.state == TRANSPORT_OPEN) {
		if (self->base.paused)
			return stream_keep(self, data, size);
		if (likely(!self->buffered)) {
			bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
			return bytes == NULL ? -1 : stream_deliver_bytes(self, bytes);
		}
		taken = size;
		status = stream_deliver_to_buffer(self, data, size, &taken);
		if (status > 0)
			return 0;
		data += taken;
		size -= taken;
		if (unlikely(status < 0)) {
			stream_keep_rest(self, data, size);
			return -1;
		}
	}
	return 0;
}

static int stream_deliver_eof(Stream *self)
{
	PyObject *protocol = Py_NewRef(self->base.protocol), *result;
	int keep_open;

	transport_log(&self->base, "received EOF");
	result = PyObject_CallMethodNoArgs(protocol, names.eof_received);
	Py_DECREF(protocol);
	if (result == NULL)
		return transport_fatal(&self->base,
		                       "Fatal error: protocol.eof_received() call failed.");
	keep_open = PyObject_IsTrue(result);
	Py_DECREF(result);
	if (keep_open < 0)
		return transport_fatal(&self->base,
		                       "Fatal error: protocol.eof_received() call failed.");
	return keep_open ? 0 : transport_close(&self->base);
}

/* The receive stream ended with `result`: 0 (end of file) or -errno. */
static int stream_deliver_end(Stream *self, int result)
{
	if (self->base.state != TRANSPORT_OPEN)
		return 0;
	if (result == 0)
		return stream_deliver_eof(self);
	return transport_fatal_errno(&self->base, -result, "Fatal read error on socket transport");
}

/* ---- the receive stream ------------------------------------------------------------ */

int stream_arm(struct transport *base)
{
	Loop *loop = base->loop;
	ul_token token;
	int status;

	assert(base->receive.link == NULL);
	if (unlikely(loop_check_closed(loop) < 0))
		return -1;
	status = loop->table->recv(loop->driver, &base->receive, base->fd, stream_of(base)->kind,
	                           &token);
	if (likely(status == -EINPROGRESS)) {
		base->receive.token = token;
		base->read_cancelled = false;
		sink_hold(loop, &base->receive);
		return 0;
	}
	base->read_ended = true;
	return transport_fatal_errno(base, -status, "Fatal read error on socket transport");
}

/* What still arrives is kept; a paused transport to which nobody refers is garbage. */
void stream_pause(struct transport *base)
{
	sink_weaken(&base->receive);
}

static int stream_received_data(Stream *self, const struct ul_completion *completion)
{
	const char *data = (const char *)completion->data;
	size_t size = (size_t)completion->result;
	int status;

	if (unlikely(!transport_wants_data(&self->base) || stream_has_kept(&self->base))) {
		if (self->base.state != TRANSPORT_OPEN)
			return 0;
		status = stream_keep(self, data, size);
		if (self->kept_bytes > KEPT_BYTES_MAX)
			transport_stop_reading(&self->base);
		return status;
	}
	return stream_deliver(self, data, size);
}

static int stream_received_end(Stream *self, int result)
{
	if (result == -ECANCELED && self->base.read_cancelled)
		return 0;
	self->base.read_ended = true;
	if (self->base.state == TRANSPORT_OPEN &&
	    (self->base.paused || stream_has_kept(&self->base))) {
		self->kept_end = true;
		self->kept_result = result;
		return 0;
	}
	return stream_deliver_end(self, result);
}

/* take() found no bytes. */
static int stream_took_nothing(Stream *self, int result)
{
	/* -ENOENT: reading was stopped meanwhile, perhaps by get_buffer(). */
	if (result == -EAGAIN || result == -ENOENT)
		return 0;
	sink_drop(&self->base.receive);
	return stream_received_end(self, result);
}

/*
 * How large a bytes object the next receive will need, by those before it.  A
 * wrong guess costs a second data_received(), or a shrunk object; to ask the
 * socket (FIONREAD) would cost a system call for each receive.
 */
static size_t stream_take_size(const Stream *self)
{
	return self->take_size != 0 ? self->take_size : TAKE_BYTES_FIRST;
}

static void stream_note_taken(Stream *self, size_t taken)
{
	size_t faded = self->take_size - self->take_size / 8;

	self->take_size = (uint32_t)(taken > faded ? taken : faded);
}

/*
 * Receive into the memory that the protocol gets, and what it does not hold, up
 * to the largest receive, into the loop's: little room costs no call more.
 */
static int stream_take_into(Stream *self, char *data, size_t size, size_t *spilled)
{
	Loop *loop = self->base.loop;
	struct iovec iov[2] = {{data, size}};
	uint32_t count = 1;
	int result;

	*spilled = 0;
	if (size >= TAKE_BYTES_MAX) {
		iov[0].iov_len = TAKE_BYTES_MAX;
	} else if (!loop->spilling) {
		/* Without memory for it the protocol's has to do. */
		if (loop->spill == NULL)
			loop->spill = PyMem_Malloc(TAKE_BYTES_MAX);
		if (loop->spill != NULL)
			iov[count++] = (struct iovec){loop->spill, TAKE_BYTES_MAX - size};
	}
	result = loop->table->take(loop->driver, self->base.receive.token, iov, count);
	if (result > 0 && (size_t)result > iov[0].iov_len) {
		*spilled = (size_t)result - iov[0].iov_len;
		return (int)iov[0].iov_len;
	}
	return result;
}

/* Deliver what went into the loop's memory; `status` is that of what came before it. */
static int stream_deliver_spilled(Stream *self, size_t spilled, int status)
{
	Loop *loop = self->base.loop;

	if (likely(status == 0))
		return stream_deliver(self, loop->spill, spilled);
	stream_keep_rest(self, loop->spill, spilled);
	return status;
}

static int stream_take_bytes(Stream *self)
{
	const char *message = "Fatal read error on socket transport";
	size_t size = stream_take_size(self), spilled;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	Loop *loop = self->base.loop;
	int result, status;

	if (unlikely(bytes == NULL))
		return transport_fatal(&self->base, message);
	result = stream_take_into(self, PyBytes_AS_STRING(bytes), size, &spilled);
	if (unlikely(result <= 0)) {
		Py_DECREF(bytes);
		return stream_took_nothing(self, result);
	}
	stream_note_taken(self, (size_t)result + spilled);
	if ((size_t)result < size && unlikely(_PyBytes_Resize(&bytes, result) < 0))
		return transport_fatal(&self->base, message);
	if (likely(spilled == 0))
		return stream_deliver_bytes(self, bytes);
	loop->spilling = true;
	status = stream_deliver_bytes(self, bytes);
	status = stream_deliver_spilled(self, spilled, status);
	loop->spilling = false;
	return status;
}

static int stream_take_to_buffer(Stream *self)
{
	Loop *loop = self->base.loop;
	PyObject *protocol = Py_NewRef(self->base.protocol);
	Py_buffer view;
	int status = stream_get_buffer(self, protocol, &view), result;
	size_t spilled;

	if (unlikely(status == 0 && self->base.receive.link == NULL)) {
		/* get_buffer() closed the transport. */
		PyBuffer_Release(&view);
	} else if (likely(status == 0)) {
		result = stream_take_into(self, view.buf, (size_t)view.len, &spilled);
		PyBuffer_Release(&view);
		if (unlikely(result <= 0)) {
			status = stream_took_nothing(self, result);
		} else if (likely(spilled == 0)) {
			status = stream_buffer_updated(self, (size_t)result);
		} else {
			loop->spilling = true;
			status = stream_buffer_updated(self, (size_t)result);
			status = stream_deliver_spilled(self, spilled, status);
			loop->spilling = false;
		}
	} else if (status < 0 && self->base.state == TRANSPORT_OPEN) {
		/* What waits in the socket is for the loop's next run. */
		self->base.readable = true;
		transport_deliver_later(&self->base);
	}
	Py_DECREF(protocol);
	return status < 0 ? -1 : 0;
}

/* Receive what the driver found.  The caller has entered the context. */
static int stream_take(Stream *self)
{
	assert(self->base.receive.link != NULL);
	self->base.readable = false;
	return self->buffered ? stream_take_to_buffer(self) : stream_take_bytes(self);
}

static int stream_received_readable(Stream *self)
{
	if (likely(transport_wants_data(&self->base) && !stream_has_kept(&self->base)))
		return stream_take(self);
	self->base.readable = self->base.state == TRANSPORT_OPEN;
	return 0;
}

int stream_received(Loop *loop, struct sink *sink, const struct ul_completion *completion)
{
	Stream *self = container_of(sink, Stream, base.receive);
	bool terminal = !(completion->flags & UL_MORE);
	PyObject *context;
	double start = 0;
	int status;

	/* What the protocol does may drop every other reference. */
	Py_INCREF(self);
	if (unlikely(terminal)) {
		sink_drop(sink);
		self->base.readable = false;
	}
	if (unlikely(loop->closed))
		goto out_closed;
	context = Py_NewRef(self->base.context);
	status = context_enter(context);
	if (unlikely(loop->debug) && status == 0) {
		start = loop_time(loop);
		PyErr_Clear(); /* an overridden time() that fails only spoils the measurement */
	}
	if (likely(status == 0)) {
		if (likely(completion->result > 0))
			status = stream_received_data(self, completion);
		else if (completion->flags & UL_READABLE)
			status = terminal ? 0 : stream_received_readable(self);
		else
			status = stream_received_end(self, completion->result);
		context_exit(context);
	}
	Py_DECREF(context);
	if (completion->flags & UL_LENT)
		loop->table->recycle(loop->driver, completion->data);
	if (unlikely(terminal))
		status = transport_receive_ended(&self->base, status);
	if (unlikely(loop->debug) && status == 0)
		status = loop_report_slow(loop, (PyObject *)self, start);
	Py_DECREF(self);
	return status;

out_closed:
	if (completion->flags & UL_LENT)
		loop->table->recycle(loop->driver, completion->data);
	if (self->base.state == TRANSPORT_JOINING)
		transport_join(&self->base);
	Py_DECREF(self);
	return 0;
}

/* ---- delivering what was kept --------------------------------------------------------- */

/* Deliver what was kept, as long as the protocol wants it. */
static int stream_deliver_kept(Stream *self)
{
	while (transport_wants_data(&self->base) && self->base.kept != NULL &&
	       PyList_GET_SIZE(self->base.kept) > 0) {
		PyObject *bytes = transport_take_kept(&self->base);
		size_t size;
		int status;

		if (bytes == NULL)
			return -1;
		size = (size_t)PyBytes_GET_SIZE(bytes);
		self->kept_bytes -= size;
		if (!self->buffered) {
			status = stream_deliver_bytes(self, bytes);
		} else {
			PyObject *rest = self->base.kept;

			/* What is not taken goes back in front of the rest. */
			self->base.kept = NULL;
			status = stream_deliver(self, PyBytes_AS_STRING(bytes), size);
			Py_DECREF(bytes);
			if (self->base.kept != NULL &&
			    PyList_SetSlice(rest, 0, 0, self->base.kept) < 0)
				status = -1;
			Py_XSETREF(self->base.kept, rest);
		}
		if (status < 0) {
			transport_deliver_later(&self->base);
			return -1;
		}
	}
	if (!transport_wants_data(&self->base))
		return 0;
	if (self->base.readable)
		return stream_take(self);
	if (self->kept_end) {
		self->kept_end = false;
		return stream_deliver_end(self, self->kept_result);
	}
	return transport_receive(&self->base);
}

/* Called by the loop in a copy of resume_reading()'s context, as a reader would be. */
PyObject *stream_deliver_kept_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->base.deliver_scheduled = false;
	if (self->base.state == TRANSPORT_OPEN && stream_deliver_kept(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}
