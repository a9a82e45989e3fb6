/*
 * The timer heap: TimerHandles by their deadline, in an array.
 *
 * Each handle knows its place, so that a cancelled timer leaves at once and
 * nothing has to be swept later.  Four children to a node: half the depth of a
 * binary heap, and a node's children share a cache line.
 */
#include "core.h"

#define ARITY 4
#define TIMERS_CAPACITY_FIRST 64

/* Equal deadlines fire in the order in which they were asked for. */
static bool timers_before(const Handle *left, const Handle *right)
{
	return left->when < right->when ||
	       (left->when == right->when && left->sequence < right->sequence);
}

static void timers_place(struct timer_heap *heap, size_t index, Handle *handle)
{
	heap->items[index] = handle;
	handle->heap_index = index;
}

static void timers_sift_up(struct timer_heap *heap, size_t index, Handle *handle)
{
	while (index > 0) {
		size_t parent = (index - 1) / ARITY;

		if (!timers_before(handle, heap->items[parent]))
			break;
		timers_place(heap, index, heap->items[parent]);
		index = parent;
	}
	timers_place(heap, index, handle);
}

static void timers_sift_down(struct timer_heap *heap, size_t index, Handle *handle)
{
	for (;;) {
		size_t child = index * ARITY + 1;
		size_t last = child + ARITY < heap->count ? child + ARITY : heap->count;
		size_t least = child;

		if (child >= heap->count)
			break;
		while (++child < last) {
			if (timers_before(heap->items[child], heap->items[least]))
				least = child;
		}
		if (!timers_before(heap->items[least], handle))
			break;
		timers_place(heap, index, heap->items[least]);
		index = least;
	}
	timers_place(heap, index, handle);
}

int timers_push(struct timer_heap *heap, Handle *handle)
{
	assert(handle->heap_index == TIMER_NOT_SCHEDULED);
	if (unlikely(heap->count == heap->capacity)) {
		size_t capacity = heap->capacity ? heap->capacity * 2 : TIMERS_CAPACITY_FIRST;
		Handle **items = PyMem_Realloc(heap->items, capacity * sizeof(*items));

		if (items == NULL) {
			Py_DECREF(handle);
			PyErr_NoMemory();
			return -1;
		}
		heap->items = items;
		heap->capacity = capacity;
	}
	timers_sift_up(heap, heap->count++, handle);
	return 0;
}

/* Takes the handle out and gives its reference to the caller. */
static void timers_take(struct timer_heap *heap, Handle *handle)
{
	size_t index = handle->heap_index;
	Handle *last;

	assert(index < heap->count && heap->items[index] == handle);
	handle->heap_index = TIMER_NOT_SCHEDULED;
	last = heap->items[--heap->count];
	if (last == handle)
		return;
	if (index > 0 && timers_before(last, heap->items[(index - 1) / ARITY]))
		timers_sift_up(heap, index, last);
	else
		timers_sift_down(heap, index, last);
}

void timers_remove(struct timer_heap *heap, Handle *handle)
{
	timers_take(heap, handle);
	Py_DECREF(handle);
}

Handle *timers_pop(struct timer_heap *heap)
{
	Handle *handle = heap->items[0];

	timers_take(heap, handle);
	return handle;
}

void timers_clear(struct timer_heap *heap)
{
	while (heap->count > 0) {
		Handle *handle = heap->items[--heap->count];

		handle->heap_index = TIMER_NOT_SCHEDULED;
		Py_DECREF(handle);
	}
}

void timers_release(struct timer_heap *heap)
{
	timers_clear(heap);
	PyMem_Free(heap->items);
	heap->items = NULL;
	heap->capacity = 0;
}
