/* A binary heap of the selector's deadlines, the nearest at the root. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "selector.h"

static bool is_before(const struct operation *left, const struct operation *right)
{
	if (left->deadline_ns != right->deadline_ns)
		return left->deadline_ns < right->deadline_ns;
	return left->sequence < right->sequence;
}

static void heap_put(struct deadlines *deadlines, uint32_t index, struct operation *operation)
{
	deadlines->heap[index] = operation;
	operation->heap_position = index + 1;
}

static void heap_rise(struct deadlines *deadlines, uint32_t index, struct operation *operation)
{
	while (index > 0) {
		uint32_t parent = (index - 1) / 2;

		if (!is_before(operation, deadlines->heap[parent]))
			break;
		heap_put(deadlines, index, deadlines->heap[parent]);
		index = parent;
	}
	heap_put(deadlines, index, operation);
}

static void heap_sink(struct deadlines *deadlines, uint32_t index, struct operation *operation)
{
	for (;;) {
		uint32_t child = 2 * index + 1;

		if (child >= deadlines->count)
			break;
		if (child + 1 < deadlines->count &&
		    is_before(deadlines->heap[child + 1], deadlines->heap[child]))
			child++;
		if (!is_before(deadlines->heap[child], operation))
			break;
		heap_put(deadlines, index, deadlines->heap[child]);
		index = child;
	}
	heap_put(deadlines, index, operation);
}

int deadlines_add(struct deadlines *deadlines, struct operation *operation,
                  uint64_t deadline_ns)
{
	assert(operation->heap_position == 0);
	if (deadlines->count == deadlines->size) {
		uint32_t size = deadlines->size != 0 ? deadlines->size * 2 : 16;
		struct operation **heap = realloc(deadlines->heap, size * sizeof(*heap));

		if (heap == NULL)
			return -ENOMEM;
		deadlines->heap = heap;
		deadlines->size = size;
	}
	operation->deadline_ns = deadline_ns;
	operation->sequence = deadlines->sequence++;
	heap_rise(deadlines, deadlines->count++, operation);
	return 0;
}

void deadlines_remove(struct deadlines *deadlines, struct operation *operation)
{
	uint32_t index = operation->heap_position - 1;
	struct operation *last;

	assert(index < deadlines->count);
	assert(deadlines->heap[index] == operation);
	operation->heap_position = 0;
	last = deadlines->heap[--deadlines->count];
	if (last == operation)
		return;
	if (is_before(last, operation))
		heap_rise(deadlines, index, last);
	else
		heap_sink(deadlines, index, last);
}

void deadlines_release(struct deadlines *deadlines)
{
	free(deadlines->heap);
	deadlines->heap = NULL;
	deadlines->count = 0;
	deadlines->size = 0;
}
