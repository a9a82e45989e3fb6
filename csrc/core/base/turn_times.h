/*
 * What the turns of a loop take: the clock, read so seldom that nobody notices.
 *
 * The clock is read before and after each wait that may sleep, which costs a system
 * call and more.  Turns that do not sleep may take a tenth of a microsecond, of which
 * reading a clock would be a fifth: they are timed in groups of about GROUP_NS.  Of
 * a group that took much longer than the one before, one turn has taken the rest.  So
 * a turn of more than two GROUP_NS is told with an error of less than that, and what
 * is shorter by the mean of its neighbours.
 *
 * On the ring the system call that sleeps also submits, and so sends and receives: that is
 * no idleness.  How much of it is work, only the thread's CPU clock knows, which costs
 * as much as the call itself: it is asked in one wait of WAITS_PER_SAMPLE.
 */
#ifndef UL_TURN_TIMES_H
#define UL_TURN_TIMES_H

#include "py.h"

#include <time.h>

/* Of a turn that is so long somebody should know why. */
#define LONG_TURN_NS 10000000

/* A bucket for each quarter of a power of two: 64 ns and less, ..., 2^38 ns (five minutes). */
#define TURN_BUCKETS 129
#define TURN_BUCKET_MIN_BITS 6

struct turn_times {
	uint64_t turns;      /* of the loop when it was read last */
	int64_t read_at;     /* when that was; 0: the loop does not run */
	int64_t usual;       /* the mean of the last group */
	int64_t cpu;         /* the thread's, before a wait that is sampled */
	uint64_t busy;       /* all of these in nanoseconds: outside of the waits */
	uint64_t waited;     /* in the waits */
	uint64_t worked;     /* of that, on the CPU: an estimate */
	uint64_t longest;    /* turn */
	int64_t long_at;     /* when a turn was longer than LONG_TURN_NS; 0: not lately */
	uint32_t unsampled;  /* waits until the next sample */
	bool waiting;
	struct {
		uint64_t turns;
		uint64_t ns;
	} buckets[TURN_BUCKETS];
};

static inline int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The run begins; `turns` is the loop's count here and below. */
void turn_times_begin(struct turn_times *times, uint64_t turns);
/* What the turns since the last call took; gives how many the next group may have. */
uint64_t turn_times_read(struct turn_times *times, uint64_t turns);
/* At the end of a run. */
void turn_times_end(struct turn_times *times, uint64_t turns);
/* Around a wait that may sleep.  The second before the GIL is waited for: that is the turn's. */
void turn_times_sleep(struct turn_times *times, uint64_t turns);
void turn_times_wake(struct turn_times *times);
/* The least time that belongs to a bucket. */
uint64_t turn_bucket_least(unsigned bucket);

#endif
