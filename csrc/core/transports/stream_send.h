/* The sending half of a stream transport: its queue, and the way of that to the kernel. */
#ifndef UL_STREAM_SEND_H
#define UL_STREAM_SEND_H

#include "stream.h"

int stream_grow_queue(Stream *self);

static inline struct chunk *stream_chunk(Stream *self, size_t i)
{
	return &self->chunks[(self->chunk_head + i) & self->chunk_mask];
}

/* Takes the reference to `owner`, even on failure. */
static inline int stream_push(Stream *self, PyObject *owner, const char *data, size_t size)
{
	if (unlikely(self->chunk_count > self->chunk_mask) && stream_grow_queue(self) < 0) {
		Py_DECREF(owner);
		return -1;
	}
	*stream_chunk(self, self->chunk_count++) = (struct chunk){owner, data, size};
	self->base.queued_bytes += size;
	return 0;
}

/* Queue what was written to the layer; -1: an exception must end the loop. */
static inline int stream_seal(Stream *self)
{
	return unlikely(self->layer != NULL) && self->layer->unsealed &&
	                       self->base.state < TRANSPORT_LOST
		       ? self->layer->seal(self->layer)
		       : 0;
}

int stream_sent(Loop *loop, struct operation *operation, const struct ul_completion *completion);
/* Offer what is queued to the kernel now, with a plain system call. */
int stream_flush_now(Stream *self);
/*
 * See to it in the next turn that what is queued is sent, and that what waits
 * for an empty queue happens.
 */
void stream_mark_dirty(Stream *self);
/*
 * Make the queue what asyncio's would be, which sends inside write(): a send that
 * has ended is over, although its completion is not dispatched yet, and what is
 * left is offered to the kernel now.  Nothing for a paused protocol: asyncio too
 * has something queued then, and resumes the protocol before the queue counts as
 * empty.
 */
int stream_catch_up(struct transport *base);
/* The bytes that are queued and have not left, or -1 with an exception. */
Py_ssize_t stream_backlog(struct transport *base);
/* Drop what is queued and not in flight. */
void stream_drop_queue(struct transport *base);
/* shutdown(2) for write_eof(): 0 or errno. */
int stream_shut_down(Stream *self);
int stream_wake_empty_waiter(Stream *self);
void stream_fail_empty_waiter(Stream *self, PyObject *exception);
/* A send that has ended, but is not dispatched yet, is over. */
void stream_note_sent(Stream *self);
/* The send that was in flight, or was tried, has failed. */
int stream_send_failed(Stream *self, int error);

#endif
