/* The heap of TimerHandles, by their deadline. */
#ifndef UL_TIMERS_H
#define UL_TIMERS_H

#include "handle.h"

struct timer_heap {
	Timer **items;        /* owned array of owned references */
	size_t count;
	size_t capacity;
	uint64_t sequence;    /* of the next timer */
};

/* Takes the reference, even on failure. */
int timers_push(struct timer_heap *heap, Timer *timer);
void timers_remove(struct timer_heap *heap, Timer *timer); /* drops the reference */
Timer *timers_pop(struct timer_heap *heap); /* gives the reference */
void timers_clear(struct timer_heap *heap);
void timers_release(struct timer_heap *heap);

#endif
