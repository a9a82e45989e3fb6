/*
 * What both drivers count in the same way.  No counter has a branch of its own:
 * they are kept in every turn of every loop.
 */
#ifndef STATISTICS_H
#define STATISTICS_H

#include "driver.h"

/* A turn begins, and so the last one's batch is complete; `before`: what it began with. */
static inline void statistics_turn(struct ul_statistics *statistics, uint64_t *before)
{
	uint64_t batch = statistics->completed - *before;
	/* The number of its bits. */
	unsigned index = 63 - (unsigned)__builtin_clzll(2 * batch + 1);

	statistics->batches[index < UL_BATCHES ? index : UL_BATCHES - 1]++;
	statistics->turns++;
	*before = statistics->completed;
}

#endif
