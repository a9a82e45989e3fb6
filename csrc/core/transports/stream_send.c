/*
 * The sending half of a stream transport: its queue, and the way of that to the kernel.
 *
 * Once per turn each stream with something queued sends it in one (vectored) operation,
 * which goes to the kernel with the turn's own system call.  At most one send per socket
 * is in flight, so bytes stay in order.
 *
 * What asyncio does inside write() can be observed in three places: the size
 * of the write buffer, pause_writing(), and what happens at the end (close,
 * write_eof).  There a send that has ended, and is not dispatched yet, counts as
 * ended, and the queue is first offered to the kernel with a plain sendmsg(2),
 * so that the answers are asyncio's.
 */
#include "stream_send.h"
#include "calls.h"
#include "transport_read.h"
#include "../base/checks.h"
#include "../callbacks/context.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* ---- the queue ---------------------------------------------------------------- */

int stream_grow_queue(Stream *self)
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
	self->base.loop->counts.bytes_out += sent;
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

void stream_note_sent(Stream *self)
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
		/* The consequences of that follow in the next turn. */
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

int stream_send_failed(Stream *self, int error)
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
	/* The code that runs in it may give the transport another. */
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
	if (likely(self->chunk_count == 0) && likely(self->layer == NULL || !self->layer->unsealed))
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

	if (stream_seal(self) < 0)
		return -1;
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

/* What the socket itself says of its end, if nobody has been told: or `error`. */
static int stream_error(const Stream *self, int error)
{
	int own = 0;
	socklen_t size = sizeof(own);

	return getsockopt(self->base.fd, SOL_SOCKET, SO_ERROR, &own, &size) == 0 && own != 0
		       ? own
		       : error;
}

/* Start a send of what is queued; without anything queued, do what waits for that. */
static int stream_flush(Stream *self)
{
	struct iovec iov[STREAM_IOV_MAX];
	Loop *loop = self->base.loop;
	ul_token token;
	int status;

	if (unlikely(self->send_error != 0) && self->base.state < TRANSPORT_LOST)
		return stream_send_failed_outside(self, stream_error(self, self->send_error));
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
		status = stream_seal(self);
		self->is_dirty = false;
		if (likely(status == 0))
			status = stream_flush(self);
		else
			stream_mark_dirty(self); /* the next run goes on from here */
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
		status = stream_seal(self);
		if (status == 0 && self->in_flight == 0 && self->base.state < TRANSPORT_LOST)
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
