/*
 * The timer heap: TimerHandles by their deadline, in an array.
 *
 * Each timer knows its place, so that a cancelled timer leaves at once and
 * nothing has to be swept later.  Four children to a node: half the depth of a
 * binary heap, and a node's children share a cache line.
 */
#include "timers.h"

#define ARITY 4
#define TIMERS_CAPACITY_FIRST 64

/* Equal deadlines fire in the order in which they were asked for. */
static bool timers_before(const Timer *left, const Timer *right)
{
	return left->when < right->when ||
	       (left->when == right->when && left->sequence < right->sequence);
}

static void timers_place(struct timer_heap *heap, size_t index, Timer *timer)
{
	heap->items[index] = timer;
	timer->heap_index = index;
}

static void timers_sift_up(struct timer_heap *heap, size_t index, Timer *timer)
{
	while (index > 0) {
		size_t parent = (index - 1) / ARITY;

		if (!timers_before(timer, heap->items[parent]))
			break;
		timers_place(heap, index, heap->items[parent]);
		index = parent;
	}
	timers_place(heap, index, timer);
}

static void timers_sift_down(struct timer_heap *heap, size_t index, Timer *timer)
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
		if (!timers_before(heap->items[least], timer))
			break;
		timers_place(heap, index, heap->items[least]);
		index = least;
	}
	timers_place(heap, index, timer);
}

int timers_push(struct timer_heap *heap, Timer *timer)
{
	assert(timer->heap_index == TIMER_NOT_SCHEDULED);
	if (unlikely(heap->count == heap->capacity)) {
		size_t capacity = heap->capacity ? heap->capacity * 2 : TIMERS_CAPACITY_FIRST;
		Timer **items = PyMem_Realloc(heap->items, capacity * sizeof(*items));

		if (items == NULL) {
			Py_DECREF(timer);
			PyErr_NoMemory();
			return -1;
		}
		heap->items = items;
		heap->capacity = capacity;
	}
	timers_sift_up(heap, heap->count++, timer);
	return 0;
}

/* Takes the timer out and gives its reference to the caller. */
static void timers_take(struct timer_heap *heap, Timer *timer)
{
	size_t index = timer->heap_index;
	Timer *last;

	assert(index < heap->count && heap->items[index] == timer);
	timer->heap_index = TIMER_NOT_SCHEDULED;
	last = heap->items[--heap->count];
	if (last == timer)
		return;
	if (index > 0 && timers_before(last, heap->items[(index - 1) / ARITY]))
		timers_sift_up(heap, index, last);
	else
		timers_sift_down(heap, index, last);
}

void timers_remove(struct timer_heap *heap, Timer *timer)
{
	timers_take(heap, timer);
	Py_DECREF(timer);
}

Timer *timers_pop(struct timer_heap *heap)
{
	Timer *timer = heap->items[0];

	timers_take(heap, timer);
	return timer;
}

void timers_clear(struct timer_heap *heap)
{
	while (heap->count > 0) {
		Timer *timer = heap->items[--heap->count];

		timer->heap_index = TIMER_NOT_SCHEDULED;
		Py_DECREF(timer);
	}
}

void timers_release(struct timer_heap *heap)
{
	timers_clear(heap);
	PyMem_Free(heap->items);
	heap->items = NULL;
	heap->capacity = 0;
}
