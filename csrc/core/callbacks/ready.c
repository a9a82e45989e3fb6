/* The ready queue: a ring buffer of handles, first in, first out. */
#include "ready.h"

#define READY_CAPACITY_FIRST 64

int ready_grow(struct ready_queue *queue)
{
	size_t capacity = queue->items == NULL ? 0 : queue->mask + 1;
	size_t larger = capacity == 0 ? READY_CAPACITY_FIRST : capacity * 2;
	Handle **items = PyMem_New(Handle *, larger);
	size_t i;

	if (items == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	assert(queue->items != NULL || queue->count == 0);
	for (i = 0; i < queue->count; i++)
		items[i] = queue->items[(queue->head + i) & queue->mask];
	PyMem_Free(queue->items);
	queue->items = items;
	queue->mask = larger - 1;
	queue->head = 0;
	return 0;
}

void ready_clear(struct ready_queue *queue)
{
	/* Dropping a handle may run code that pushes another. */
	while (queue->count > 0)
		Py_DECREF(ready_pop(queue));
}

void ready_release(struct ready_queue *queue)
{
	ready_clear(queue);
	PyMem_Free(queue->items);
	queue->items = NULL;
	queue->mask = queue->head = 0;
}
