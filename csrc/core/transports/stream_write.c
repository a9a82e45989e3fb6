/*
 * The writing half of a stream transport.
 *
 * write() queues; once per turn each stream with something queued sends it in
 * one (vectored) operation, which goes to the kernel with the turn's own
 * system call.  At most one send per socket is in flight, so bytes stay in
 * order.
 *
 * What asyncio does inside write() can be observed in three places: the size
 * of the write buffer, pause_writing(), and what happens at the end (close,
 * write_eof).  There a send that has ended, and is not dispatched yet, counts as
 * ended, and the queue is first offered to the kernel with a plain sendmsg(2),
 * so that the answers are asyncio's.
 */
#include "calls.h"
#include "stream.h"
#include "transport_read.h"
#include "../base/checks.h"
#include "../callbacks/context.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Above this a mutable buffer is offered to the kernel before it is copied. */
#define COPY_MAX (16 * 1024)

static struct chunk *stream_chunk(Stream *self, size_t i)
{
	return &self->chunks[(self->chunk_head + i) & self->chunk_mask];
}

/* ---- the queue ---------------------------------------------------------------- */

static int stream_grow_queue(Stream *self)
{
	size_t capacity = self->chunk_mask + 1, i;
	struct chunk *chunks = PyMem_New(struct chunk, capacity * 2);

	if (chunks == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; i < self->chunk_count; i++)
		chunks[i] = *stream_chunk(self, i);
	if (self->chunks != self->chunks_inline)
		PyMem_Free(self->chunks);
	self->chunks = chunks;
	self->chunk_mask = capacity * 2 - 1;
	self->chunk_head = 0;
	return 0;
}

/* Takes the reference to `owner`, even on failure. */
static int stream_push(Stream *self, PyObject *owner, const char *data, size_t size)
{
	if (unlikely(self->chunk_count > self->chunk_mask) && stream_grow_queue(self) < 0) {
		Py_DECREF(owner);
		return -1;
	}
	*stream_chunk(self, self->chunk_count++) = (struct chunk){owner, data, size};
	self->base.queued_bytes += size;
	return 0;
}

static void stream_pop(Stream *self)
{
	PyObject *owner = stream_chunk(self, 0)->owner;

	self->chunk_head = (self->chunk_head + 1) & self->chunk_mask;
	self->chunk_count--;
	Py_DECREF(owner);
}

/* `sent` bytes at the head of the queue have left. */
static void stream_consume(Stream *self, size_t sent)
{
	assert(sent <= self->base.queued_bytes);
	self->base.queued_bytes -= sent;
	while (sent > 0) {
		struct chunk *chunk = stream_chunk(self, 0);

		if (sent < chunk->size) {
			chunk->data += sent;
			chunk->size -= sent;
			return;
		}
		sent -= chunk->size;
		stream_pop(self);
	}
}

void stream_drop_queue(struct transport *base)
{
	Stream *self = stream_of(base);

	/* Bytes of a send in flight belong to the kernel until it completes. */
	if (base->send.link == NULL)
		self->in_flight = 0;
	while (self->chunk_count > self->in_flight) {
		PyObject *owner = stream_chunk(self, self->chunk_count - 1)->owner;

		self->chunk_count--;
		Py_DECREF(owner);
	}
	base->queued_bytes = 0;
}

static uint32_t stream_gather(Stream *self, struct iovec *iov)
{
	size_t count = self->chunk_count < STREAM_IOV_MAX ? self->chunk_count : STREAM_IOV_MAX;
	size_t i;

	for (i = 0; i < count; i++) {
		struct chunk *chunk = stream_chunk(self, i);

		iov[i].iov_base = (void *)chunk->data;
		iov[i].iov_len = chunk->size;
	}
	return (uint32_t)count;
}

void stream_mark_dirty(Stream *self)
{
	if (self->is_dirty || self->in_flight > 0 || self->base.loop->closed)
		return;
	/* The list owns a reference: a write must not be lost with its transport. */
	Py_INCREF(self);
	self->is_dirty = true;
	self->next_dirty = NULL;
	*self->base.loop->streams.dirty_tail = self;
	self->base.loop->streams.dirty_tail = &self->next_dirty;
	loop_wake_if_asleep(self->base.loop);
}

/* A send that has ended, but is not dispatched yet, is over. */
static void stream_note_sent(Stream *self)
{
	int sent;

	if (self->in_flight == 0)
		return;
	/* The send's reference goes, and the dirty list's comes. */
	Py_INCREF(self);
	sent = operation_outcome(self->base.loop, &self->base.send, true);
	if (sent >= 0) {
		self->in_flight = 0;
		stream_consume(self, (size_t)sent);
		/* What follows from that follows in the next turn. */
		stream_mark_dirty(self);
	}
	Py_DECREF(self);
}

/* ---- flow control ---------------------------------------------------------------- */

static int stream_maybe_resume_protocol(Stream *self)
{
	PyObject *context;
	int status;

	if (!self->base.protocol_paused || self->base.queued_bytes > self->base.low_water)
		return 0;
	self->base.protocol_paused = false;
	context = self->base.write_context;
	self->base.write_context = NULL;
	status = transport_call_protocol(&self->base, names.resume_writing, context,
	                                 "protocol.resume_writing() failed");
	Py_XDECREF(context);
	return status;
}

/* ---- sending ------------------------------------------------------------------------ */

int stream_wake_empty_waiter(Stream *self)
{
	PyObject *args[2] = {Py_NewRef(self->empty_waiter), Py_None};
	PyObject *done = PyObject_CallMethodNoArgs(args[0], names.done);
	int status = 0;

	if (done != Py_True)
		status = done == NULL ? -1 : call_and_drop(helpers.set_result, args, 2);
	Py_XDECREF(done);
	Py_DECREF(args[0]);
	return status;
}

/* sendfile waits for an empty queue that will not come. */
void stream_fail_empty_waiter(Stream *self, PyObject *exception)
{
	PyObject *waiter = Py_XNewRef(self->empty_waiter), *done, *result;

	if (waiter == NULL)
		return;
	done = PyObject_CallMethodNoArgs(waiter, names.done);
	if (done == Py_False) {
		result = PyObject_CallMethodOneArg(waiter, names.set_exception, exception);
		Py_XDECREF(result);
	}
	Py_XDECREF(done);
	Py_DECREF(waiter);
	if (PyErr_Occurred())
		PyErr_WriteUnraisable((PyObject *)self);
}

/* The send that was in flight, or was tried, has failed. */
static int stream_send_failed(Stream *self, int error)
{
	PyObject *exception;

	/* A socket tells its error once, and the receive of a paused transport has heard it. */
	if (self->end_held_back && self->result_held_back < 0)
		error = -self->result_held_back;
	stream_drop_queue(&self->base);
	if (self->empty_waiter != NULL) {
		exception = exception_from_errno(error);
		if (exception == NULL)
			return -1;
		stream_fail_empty_waiter(self, exception);
		Py_DECREF(exception);
	}
	return transport_fatal_errno(&self->base, error, "Fatal write error on socket transport");
}

int stream_shut_down(Stream *self)
{
	self->eof_sent = true;
	return shutdown(self->base.fd, SHUT_WR) < 0 ? errno : 0;
}

/* The queue is empty: what was waiting for that happens now. */
static int stream_drained(Stream *self)
{
	int status = 0, error;
	PyObject *context;

	if (likely(self->empty_waiter == NULL && self->base.state == TRANSPORT_OPEN &&
	           (!self->eof || self->eof_sent)))
		return 0;
	/* What runs in it may give the transport another. */
	context = Py_NewRef(self->base.context);
	if (context_enter(context) < 0) {
		Py_DECREF(context);
		return -1;
	}
	if (self->empty_waiter != NULL && !self->lent)
		status = stream_wake_empty_waiter(self);
	if (status == 0 && self->base.state == TRANSPORT_CLOSING) {
		status = transport_lose(&self->base, Py_None);
	} else if (status == 0 && self->eof && !self->eof_sent) {
		error = stream_shut_down(self);
		if (error != 0)
			status = transport_fatal_errno(&self->base, error,
			                               "Fatal write error on socket transport");
	}
	context_exit(context);
	Py_DECREF(context);
	return status;
}

/* A send has made room, or the queue has changed: what follows from that. */
static int stream_after_send(Stream *self)
{
	int status = stream_maybe_resume_protocol(self); /* may write, close, abort */

	if (self->base.state >= TRANSPORT_LOST || self->in_flight > 0)
		return status;
	if (unlikely(status < 0)) {
		/* KeyboardInterrupt: the next run goes on from here. */
		stream_mark_dirty(self);
		return -1;
	}
	if (likely(self->chunk_count == 0))
		return stream_drained(self);
	stream_mark_dirty(self);
	return 0;
}

int stream_flush_now(Stream *self)
{
	struct iovec iov[STREAM_IOV_MAX];
	struct msghdr message = {.msg_iov = iov};
	ssize_t sent;

	assert(self->in_flight == 0);
	while (self->chunk_count > 0) {
		size_t offered = 0, i;

		message.msg_iovlen = stream_gather(self, iov);
		for (i = 0; i < message.msg_iovlen; i++)
			offered += iov[i].iov_len;
		do {
			sent = sendmsg(self->base.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		} while (sent < 0 && errno == EINTR);
		if (sent < 0) {
			if (errno == EAGAIN)
				return 0;
			return stream_send_failed(self, errno);
		}
		stream_consume(self, (size_t)sent);
		if ((size_t)sent < offered)
			return 0;
	}
	return 0;
}

int stream_catch_up(struct transport *base)
{
	Stream *self = stream_of(base);

	if (base->protocol_paused || base->state >= TRANSPORT_LOST)
		return 0;
	stream_note_sent(self);
	return self->in_flight == 0 ? stream_flush_now(self) : 0;
}

/* As stream_send_failed(), from where the stream's context is not entered. */
static int stream_send_failed_outside(Stream *self, int error)
{
	PyObject *context = Py_XNewRef(self->base.context);
	int status = context_enter(context);

	if (status == 0) {
		status = stream_send_failed(self, error);
		context_exit(context);
	}
	Py_XDECREF(context);
	return status;
}

/* Start a send of what is queued; without anything queued, do what waits for that. */
static int stream_flush(Stream *self)
{
	struct iovec iov[STREAM_IOV_MAX];
	Loop *loop = self->base.loop;
	ul_token token;
	int status;

	if (unlikely(self->send_error != 0) && self->base.state < TRANSPORT_LOST)
		return stream_send_failed_outside(self, self->send_error);
	while (self->chunk_count > 0 && self->in_flight == 0 && self->base.state < TRANSPORT_LOST) {
		uint32_t count = stream_gather(self, iov);

		status = loop->table->send(loop->driver, &self->base.send, self->base.fd, iov,
		                           count, &token);
		if (likely(status == -EINPROGRESS)) {
			self->base.send.token = token;
			self->in_flight = count;
			self->send_turn = loop->turn;
			loop->sends++;
			operation_hold(loop, &self->base.send);
			return 0;
		}
		if (unlikely(status < 0))
			return stream_send_failed_outside(self, -status);
		stream_consume(self, (size_t)status);
	}
	return self->base.state < TRANSPORT_LOST ? stream_after_send(self) : 0;
}

int streams_flush(Loop *loop)
{
	while (loop->streams.dirty != NULL) {
		Stream *self = loop->streams.dirty;
		int status;

		loop->streams.dirty = self->next_dirty;
		if (loop->streams.dirty == NULL)
			loop->streams.dirty_tail = &loop->streams.dirty;
		self->next_dirty = NULL;
		self->is_dirty = false;
		status = stream_flush(self);
		Py_DECREF(self);
		if (unlikely(status < 0))
			return -1;
	}
	return 0;
}

int streams_flush_now(Loop *loop)
{
	Stream *self = loop->streams.dirty, *next;
	int status = 0;

	Py_XINCREF(self);
	while (self != NULL && status == 0) {
		if (self->in_flight == 0 && self->base.state < TRANSPORT_LOST)
			status = stream_flush_now(self); /* may close the loop, and drop its list */
		next = self->next_dirty;
		Py_XINCREF(next);
		Py_DECREF(self);
		self = next;
	}
	Py_XDECREF(self);
	return status;
}

void streams_forget(Loop *loop)
{
	streams_hold(loop);
	while (loop->streams.dirty != NULL) {
		Stream *self = loop->streams.dirty;

		loop->streams.dirty = self->next_dirty;
		if (loop->streams.dirty == NULL)
			loop->streams.dirty_tail = &loop->streams.dirty;
		self->next_dirty = NULL;
		self->is_dirty = false;
		Py_DECREF(self);
	}
}

int streams_traverse(Loop *loop, visitproc visit, void *arg)
{
	Stream *self;

	for (self = loop->streams.dirty; self != NULL; self = self->next_dirty)
		Py_VISIT(self);
	for (self = loop->streams.pausing; self != NULL; self = self->next_pausing)
		Py_VISIT(self);
	return 0;
}

/*
 * Of a send that had to wait for room: asyncio asks the reading side first, which may
 * know better what has become of the connection.  Any other error than EPIPE is the
 * socket's own, which is told once, and was.
 */
static bool stream_reads_first(const Stream *self, int error)
{
	const Loop *loop = self->base.loop;

	return error == EPIPE && self->base.receive.link != NULL &&
	       transport_wants_data(&self->base) &&
	       (!loop->table->receives_in_turn || loop->turn - self->send_turn > 1);
}

int stream_sent(Loop *loop, struct operation *operation, const struct ul_completion *completion)
{
	Stream *self = container_of(operation, Stream, base.send);
	int status = 0;

	Py_INCREF(self);
	operation_drop(operation);
	if (unlikely(completion->flags & UL_KEEP)) {
		/* The kernel may read these bytes at any later time: never free them. */
		while (self->in_flight > 0) {
			self->in_flight--;
			Py_INCREF(stream_chunk(self, self->in_flight)->owner);
		}
	}
	self->in_flight = 0;
	if (unlikely(self->base.state >= TRANSPORT_LOST || loop->closed)) {
		stream_drop_queue(&self->base);
		if (self->base.state == TRANSPORT_JOINING)
			self->base.kind->join(&self->base);
	} else if (unlikely(completion->result < 0)) {
		if (stream_reads_first(self, -completion->result)) {
			self->send_error = -completion->result;
			stream_mark_dirty(self);
		} else {
			status = stream_send_failed_outside(self, -completion->result);
		}
	} else {
		stream_consume(self, (size_t)completion->result);
		status = stream_after_send(self);
	}
	Py_DECREF(self);
	return status;
}

/* ---- what the user calls -------------------------------------------------------------- */

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
static bool stream_is_urgent(const Stream *self)
{
	const struct transport *base = &self->base;

	return base->queued_bytes >= base->loop->eager_send_bytes || self->shared ||
	       /* What reading finds now would be told before what this send finds. */
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
		/* What is left would have needed the loop, in asyncio too. */
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

/* What writelines() queues for an item that is not plain bytes. */
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
		             "memoryview found: make its bytes contiguous", i);
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

Py_ssize_t stream_backlog(struct transport *base)
{
	Stream *self = stream_of(base);
	int sent = 0;

	if (stream_catch_up(base) < 0)
		return -1;
	/*
	 * Of a paused protocol's the completion stays, for resume_writing() comes with
	 * it.  But the peer may have these bytes: they are nobody's backlog any more.
	 */
	if (base->protocol_paused && self->in_flight > 0 && base->state < TRANSPORT_LOST)
		sent = operation_outcome(base->loop, &base->send, false);
	assert(sent < 0 || (size_t)sent <= base->queued_bytes);
	return (Py_ssize_t)base->queued_bytes - (sent > 0 ? sent : 0);
}
