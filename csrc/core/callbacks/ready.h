/* The queue of handles to run: a ring buffer. */
#ifndef UL_READY_H
#define UL_READY_H

#include "handle.h"

struct ready_queue {
	Handle **items;       /* owned array of owned references; a power of two */
	size_t mask;          /* capacity - 1, when items is not NULL */
	size_t head;
	size_t count;
};

int ready_grow(struct ready_queue *queue);

/* Takes the reference, even on failure. */
static inline int ready_push(struct ready_queue *queue, Handle *handle)
{
	if (unlikely(queue->items == NULL || queue->count > queue->mask)) {
		if (ready_grow(queue) < 0) {
			Py_DECREF(handle);
			return -1;
		}
	}
	queue->items[(queue->head + queue->count++) & queue->mask] = handle;
	return 0;
}

/* Gives the reference. */
static inline Handle *ready_pop(struct ready_queue *queue)
{
	Handle *handle;

	assert(queue->count > 0);
	handle = queue->items[queue->head];
	queue->head = (queue->head + 1) & queue->mask;
	queue->count--;
	return handle;
}

void ready_clear(struct ready_queue *queue);
void ready_release(struct ready_queue *queue);

#endif
