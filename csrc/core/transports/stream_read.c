/*
 * The reading half of a stream transport.
 *
 * One receive stream per socket; the driver arms it again and again.  While
 * reading is paused nothing is received, for the bytes may be another's: of a
 * child process, of who holds a duplicate.  The driver is asked to hold the
 * stream, which then only tells that there is something; on a driver that
 * receives inside its turn not before that, so that a pause that is resumed in
 * the same turn costs nothing.  What one turn has received is one call of the
 * protocol, as with asyncio; only what came in the turn in which something else
 * has paused reading is held back here.
 *
 * Bulk is received here, by take(), into the memory in which the protocol gets
 * it: a bytes object made for it, or the buffer of a BufferedProtocol.
 */
#include "calls.h"
#include "stream.h"
#include "transport_read.h"
#include "../base/checks.h"
#include "../base/scratch.h"
#include "../operations/batch.h"
#include "../operations/threads.h"
#include "../streams/protocol.h"

#include <errno.h>
#include <string.h>

/* The largest receive, and the first. */
#define TAKE_BYTES_MAX SCRATCH_BYTES
#define TAKE_BYTES_FIRST (64 * 1024)
/*
 * A protocol's buffer that holds so much holds what the driver receives by itself, but
 * for a burst that is the first of its kind; a receive of its own for each message cost
 * 6 % of an echo of 1 KiB on the ring.
 */
#define ROOMY_BYTES (64 * 1024)

/* ---- holding back ------------------------------------------------------------- */

static int stream_hold_back(Stream *self, const char *data, size_t size)
{
	return transport_hold_back(&self->base, PyBytes_FromStringAndSize(data, (Py_ssize_t)size));
}

bool stream_has_held_back(const struct transport *base)
{
	return container_of(base, const Stream, base)->end_held_back || base->readable ||
	       (base->held_back != NULL && PyList_GET_SIZE(base->held_back) > 0);
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
		if (likely(view->len > 0)) {
			if (unlikely((view->len >= ROOMY_BYTES) != self->roomy)) {
				self->roomy = !self->roomy;
				stream_hold(self);
			}
			return 0;
		}
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

/* The protocol is the one that is there now: get_buffer() may have set another, as in asyncio. */
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
		*taken = 0; /* nothing was taken: the bytes are held back for the next run */
	}
	Py_DECREF(protocol);
	return status;
}

static int stream_data_failed(Stream *self)
{
	return transport_fatal(&self->base, "Fatal error: protocol.data_received() call failed.");
}

/* Takes the reference to `bytes`. */
static int stream_deliver_bytes(Stream *self, PyObject *bytes)
{
	PyObject *args[2] = {Py_NewRef(self->base.protocol), bytes};
	int status = protocol_deliver(args[0], bytes);

	Py_DECREF(args[0]);
	Py_DECREF(bytes);
	return likely(status == 0) ? 0 : stream_data_failed(self);
}

/* The same with bytes in a buffer, of which a reader of asyncio's streams needs no object. */
static int stream_deliver_data(Stream *self, const char *data, size_t size)
{
	PyObject *protocol = Py_NewRef(self->base.protocol), *bytes;
	int status = protocol_feed(protocol, data, size);

	Py_DECREF(protocol);
	if (unlikely(status < 0))
		return stream_data_failed(self);
	if (status > 0)
		return 0;
	bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
	return bytes == NULL ? -1 : stream_deliver_bytes(self, bytes);
}

static int stream_deliver_to_layer(Stream *self, const char *data, size_t size)
{
	if (likely(self->layer->received(self->layer, data, size) == 0))
		return 0;
	return transport_fatal(&self->base,
	                       "Fatal error: protocol.buffer_updated() call failed.");
}

/* The loop ends for now, by the exception that is set: the rest waits for its next run. */
static void stream_hold_back_rest(Stream *self, const char *data, size_t size)
{
	PyObject *exception = PyErr_GetRaisedException();

	if (size > 0 && self->base.state == TRANSPORT_OPEN &&
	    (stream_hold_back(self, data, size) < 0 ||
	     transport_schedule_delivery(&self->base) < 0))
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

/*
 * Give `size` bytes to the protocol; what it does not take, because it paused
 * or closed in the middle, is held back.  The caller has entered the context.
 */
static int stream_deliver(Stream *self, const char *data, size_t size)
{
	size_t taken;
	int status;

	if (self->layer != NULL && !self->base.paused)
		return stream_deliver_to_layer(self, data, size);
	while (size > 0 && self->base.state == TRANSPORT_OPEN) {
		if (self->base.paused)
			return stream_hold_back(self, data, size);
		if (likely(!self->buffered))
			return stream_deliver_data(self, data, size);
		taken = size;
		status = stream_deliver_to_buffer(self, data, size, &taken);
		if (status > 0)
			return 0;
		data += taken;
		size -= taken;
		if (unlikely(status < 0)) {
			stream_hold_back_rest(self, data, size);
			return -1;
		}
	}
	return 0;
}

/* The same with a bytes object, whose reference it takes. */
static int stream_deliver_object(Stream *self, PyObject *bytes)
{
	int status;

	if (!self->buffered && self->layer == NULL)
		return stream_deliver_bytes(self, bytes);
	status = stream_deliver(self, PyBytes_AS_STRING(bytes),
	                        (size_t)PyBytes_GET_SIZE(bytes));
	Py_DECREF(bytes);
	return status;
}

static int stream_deliver_eof(Stream *self)
{
	PyObject *protocol = Py_NewRef(self->base.protocol), *result;
	int keep_open;

	if (unlikely(transport_log(&self->base, "received EOF") < 0)) {
		if (exception_ends_loop()) {
			Py_DECREF(protocol);
			return -1;
		}
		PyErr_WriteUnraisable((PyObject *)self);
	}
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
	int status;

	if (self->base.state != TRANSPORT_OPEN)
		return 0;
	if (result == 0) {
		status = stream_deliver_eof(self);
		if (unlikely(status < 0) && self->base.state == TRANSPORT_OPEN) {
			/* KeyboardInterrupt: the next run tells it once more. */
			self->end_held_back = true;
			self->result_held_back = 0;
			transport_deliver_later(&self->base);
		}
		return status;
	}
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
	status = loop->table->recv(loop->driver, &base->receive, base->fd,
	                           stream_of(base)->stream_kind, &token);
	if (likely(status == -EINPROGRESS)) {
		base->receive.token = token;
		base->reading = READING;
		operation_hold(loop, &base->receive);
		if (unlikely(stream_of(base)->buffered) && !stream_of(base)->roomy)
			stream_hold(stream_of(base));
		return 0;
	}
	base->reading = READING_ENDED;
	return transport_fatal_errno(base, -status, "Fatal read error on socket transport");
}

/*
 * The driver is to receive nothing of this stream before a take().  For a buffer of
 * the protocol's that a receive of the driver's might not fit into, not even when
 * nobody pauses: what does not fit stays in the socket.
 */
void stream_hold(Stream *self)
{
	Loop *loop = self->base.loop;

	if (self->base.receive.link == NULL || loop->table == NULL)
		return;
	if (likely(!loop_is_elsewhere(loop)))
		loop->table->hold(loop->driver, self->base.receive.token,
		                  self->buffered && !self->roomy);
	else if (loop_leave_call(loop, (PyObject *)self, names._hold, NULL) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
}

/* In the loop's thread, for another that has paused it, or set a protocol. */
PyObject *stream_hold_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state == TRANSPORT_OPEN &&
	    (self->base.paused || (self->buffered && !self->roomy)))
		stream_hold(self);
	Py_RETURN_NONE;
}

/* A paused transport to which nobody refers is garbage. */
void stream_pause(struct transport *base)
{
	Stream *self = stream_of(base);
	Loop *loop = base->loop;

	if (base->receive.link == NULL || loop->table == NULL)
		return;
	if (!loop->table->receives_in_turn || !loop->running ||
	    unlikely(loop_is_elsewhere(loop))) {
		stream_hold(self);
	} else if (!self->is_pausing) {
		/* The list owns a reference. */
		Py_INCREF(self);
		self->is_pausing = true;
		self->next_pausing = loop->streams.pausing;
		loop->streams.pausing = self;
	}
	operation_weaken(&base->receive);
}

void streams_hold(Loop *loop)
{
	while (loop->streams.pausing != NULL) {
		Stream *self = loop->streams.pausing;

		loop->streams.pausing = self->next_pausing;
		self->next_pausing = NULL;
		self->is_pausing = false;
		if (self->base.paused && self->base.state == TRANSPORT_OPEN)
			stream_hold(self);
		Py_DECREF(self);
	}
}

/* Deliver what one turn has received in several buffers as what it is, one piece. */
static int stream_deliver_gathered(Stream *self, const struct ul_completion *completion)
{
	PyObject *bytes = batch_gather(self->base.loop, completion);

	if (unlikely(bytes == NULL))
		return transport_fatal(&self->base, "Fatal read error on socket transport");
	self->base.loop->counts.bytes_in +=
		(uint64_t)(PyBytes_GET_SIZE(bytes) - completion->result);
	return stream_deliver_object(self, bytes);
}

static int stream_received_data(Stream *self, const struct ul_completion *completion)
{
	const char *data = (const char *)completion->data;
	size_t size = (size_t)completion->result;

	self->base.loop->counts.bytes_in += size;
	if (unlikely(!transport_wants_data(&self->base) || stream_has_held_back(&self->base)))
		return self->base.state == TRANSPORT_OPEN ? stream_hold_back(self, data, size) : 0;
	/* Behind the last of a full batch there may be more. */
	if (unlikely(completion->flags & UL_FOLLOWED ||
	             (self->base.loop->batch.cut &&
	              self->base.loop->batch.next == self->base.loop->batch.count)))
		return stream_deliver_gathered(self, completion);
	return stream_deliver(self, data, size);
}

static int stream_received_end(Stream *self, int result)
{
	self->base.reading = READING_ENDED;
	if (self->base.state == TRANSPORT_OPEN &&
	    (self->base.paused || stream_has_held_back(&self->base))) {
		self->end_held_back = true;
		self->result_held_back = result;
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
	operation_drop(&self->base.receive);
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
 * Receive into `data`, and what that does not hold, up to the largest receive, into
 * memory of the loop's: a wrong guess of the size costs no call more.
 */
static int stream_take_into(Stream *self, char *data, size_t size)
{
	Loop *loop = self->base.loop;
	struct iovec iov[2] = {{data, size}};
	uint32_t count = 1;

	if (size < TAKE_BYTES_MAX) {
		/* Without memory for it the guess has to do. */
		if (loop->scratch.spill == NULL)
			loop->scratch.spill = PyMem_Malloc(SCRATCH_BYTES);
		if (loop->scratch.spill != NULL)
			iov[count++] = (struct iovec){loop->scratch.spill, TAKE_BYTES_MAX - size};
	}
	return loop->table->take(loop->driver, self->base.receive.token, iov, count);
}

static int stream_take_bytes(Stream *self)
{
	const char *message = "Fatal read error on socket transport";
	size_t size = stream_take_size(self), taken;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	int result;

	if (unlikely(bytes == NULL))
		return transport_fatal(&self->base, message);
	result = stream_take_into(self, PyBytes_AS_STRING(bytes), size);
	if (unlikely(result <= 0)) {
		Py_DECREF(bytes);
		return stream_took_nothing(self, result);
	}
	taken = (size_t)result;
	self->base.loop->counts.bytes_in += taken;
	stream_note_taken(self, taken);
	if (taken != size && unlikely(_PyBytes_Resize(&bytes, result) < 0))
		return transport_fatal(&self->base, message);
	/* Nothing has used the spill since: no Python has run. */
	if (unlikely(taken > size))
		memcpy(PyBytes_AS_STRING(bytes) + size, self->base.loop->scratch.spill,
		       taken - size);
	return stream_deliver_bytes(self, bytes);
}

static int stream_take_to_buffer(Stream *self)
{
	Loop *loop = self->base.loop;
	PyObject *protocol = Py_NewRef(self->base.protocol);
	Py_buffer view;
	int status = stream_get_buffer(self, protocol, &view), result;

	if (unlikely(status == 0 && self->base.receive.link == NULL)) {
		/* get_buffer() closed the transport. */
		PyBuffer_Release(&view);
	} else if (likely(status == 0)) {
		struct iovec iov = {view.buf, (size_t)view.len};

		if (iov.iov_len > INT_MAX)
			iov.iov_len = INT_MAX;
		result = loop->table->take(loop->driver, self->base.receive.token, &iov, 1);
		PyBuffer_Release(&view);
		loop->counts.bytes_in += result > 0 ? (uint64_t)result : 0;
		status = result > 0 ? stream_buffer_updated(self, (size_t)result)
		                    : stream_took_nothing(self, result);
	} else if (status < 0 && self->base.state == TRANSPORT_OPEN) {
		/* The bytes that wait in the socket are for the loop's next run. */
		self->base.readable = true;
		transport_deliver_later(&self->base);
	}
	Py_DECREF(protocol);
	return status < 0 ? -1 : 0;
}

/*
 * Receive for the layer, into memory of the loop's, of which only the copies that the
 * layer makes are left.
 */
static int stream_take_to_layer(Stream *self)
{
	Loop *loop = self->base.loop;
	char *memory = loop->scratch.layered != NULL ? loop->scratch.layered
	                                             : PyMem_Malloc(SCRATCH_BYTES);
	struct iovec iov = {memory, SCRATCH_BYTES};
	int status, result;

	if (unlikely(memory == NULL)) {
		PyErr_NoMemory();
		return transport_fatal(&self->base, "Fatal read error on socket transport");
	}
	/* While the protocol is told, it is nobody else's. */
	loop->scratch.layered = NULL;
	Py_INCREF(loop);
	result = loop->table->take(loop->driver, self->base.receive.token, &iov, 1);
	loop->counts.bytes_in += result > 0 ? (uint64_t)result : 0;
	status = result > 0 ? stream_deliver_to_layer(self, memory, (size_t)result)
	                    : stream_took_nothing(self, result);
	if (unlikely(loop->scratch.layered != NULL))
		PyMem_Free(memory);
	else
		loop->scratch.layered = memory;
	Py_DECREF(loop);
	return status;
}

/* Receive what the driver found.  The caller has entered the context. */
static int stream_take(Stream *self)
{
	assert(self->base.receive.link != NULL);
	self->base.readable = false;
	if (self->layer != NULL)
		return stream_take_to_layer(self);
	return self->buffered ? stream_take_to_buffer(self) : stream_take_bytes(self);
}

static int stream_received_readable(Stream *self)
{
	if (likely(transport_wants_data(&self->base) && !stream_has_held_back(&self->base)))
		return stream_take(self);
	self->base.readable = self->base.state == TRANSPORT_OPEN;
	return 0;
}

__attribute__((always_inline))
static inline int stream_handle(struct transport *base, const struct ul_completion *completion)
{
	Stream *self = stream_of(base);

	if (likely(completion->result > 0))
		return stream_received_data(self, completion);
	if (completion->flags & UL_READABLE)
		return completion->flags & UL_MORE ? stream_received_readable(self) : 0;
	/* Cancelled, or in the child of a fork, whose parent has got the last bytes: no end. */
	if (completion->result == -ECANCELED)
		return 0;
	return stream_received_end(self, completion->result);
}

int stream_received(Loop *loop, struct operation *operation,
                    const struct ul_completion *completion)
{
	return transport_received(loop, operation, completion, stream_handle);
}

/* ---- delivering what was held back -------------------------------------------------------- */

/* The pieces held back are received now: as one, as they would be out of a socket. */
static int stream_deliver_pieces(Stream *self)
{
	PyObject *pieces = self->base.held_back, *nothing, *bytes = NULL;

	self->base.held_back = NULL;
	nothing = PyBytes_FromStringAndSize(NULL, 0);
	if (nothing != NULL)
		bytes = PyObject_CallMethodOneArg(nothing, names.join, pieces);
	Py_XDECREF(nothing);
	if (unlikely(bytes == NULL)) {
		self->base.held_back = pieces;
		return -1;
	}
	Py_DECREF(pieces);
	return stream_deliver_object(self, bytes);
}

/* Go on where reading was paused, as far as the protocol wants. */
static int stream_deliver_held_back(Stream *self)
{
	if (transport_wants_data(&self->base) && self->base.held_back != NULL &&
	    stream_deliver_pieces(self) < 0) {
		transport_deliver_later(&self->base);
		return -1;
	}
	if (!transport_wants_data(&self->base) || self->base.held_back != NULL)
		return 0;
	if (self->base.readable)
		return stream_take(self);
	if (self->end_held_back) {
		self->end_held_back = false;
		return stream_deliver_end(self, self->result_held_back);
	}
	return transport_receive(&self->base);
}

/* Called by the loop in a copy of resume_reading()'s context, as a reader would be. */
PyObject *stream_deliver_held_back_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->base.deliver_scheduled = false;
	if (self->base.state == TRANSPORT_OPEN && stream_deliver_held_back(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}
