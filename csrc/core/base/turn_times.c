/* What the turns of a loop take: reading the clock, and the histogram. */
#include "turn_times.h"

/* A clock is read in 25 ns: of this, 0.15 %. */
#define GROUP_NS 16384
#define GROUP_TURNS_MAX 128
/* A prime, so that it keeps step with nothing. */
#define WAITS_PER_SAMPLE 61

static unsigned turn_bucket(uint64_t ns)
{
	unsigned bits, index;

	if (ns < (UINT64_C(1) << TURN_BUCKET_MIN_BITS))
		return 0;
	bits = 63 - (unsigned)__builtin_clzll(ns);
	index = (bits - TURN_BUCKET_MIN_BITS) * 4 + (unsigned)(ns >> (bits - 2) & 3) + 1;
	return index < TURN_BUCKETS ? index : TURN_BUCKETS - 1;
}

uint64_t turn_bucket_least(unsigned bucket)
{
	unsigned bits = TURN_BUCKET_MIN_BITS + (bucket - 1) / 4;

	return bucket == 0 ? 0 : (UINT64_C(4) + (bucket - 1) % 4) << (bits - 2);
}

static void turns_took(struct turn_times *times, uint64_t turns, uint64_t each)
{
	unsigned bucket = turn_bucket(each);

	times->buckets[bucket].turns += turns;
	times->buckets[bucket].ns += turns * each;
	if (each > times->longest)
		times->longest = each;
	if (unlikely(each >= LONG_TURN_NS))
		times->long_at = times->read_at;
}

/* `turns` turns have taken `ns` together, the last of them a moment ago. */
static void group_took(struct turn_times *times, uint64_t turns, int64_t ns)
{
	uint64_t mean = (uint64_t)ns / turns, others;

	if (turns > 1 && ns > 2 * GROUP_NS) {
		others = mean < (uint64_t)times->usual ? mean : (uint64_t)times->usual;
		turns_took(times, turns - 1, others);
		turns_took(times, 1, (uint64_t)ns - others * (turns - 1));
	} else {
		turns_took(times, turns, mean);
	}
	times->usual = (int64_t)mean;
}

void turn_times_begin(struct turn_times *times, uint64_t turns)
{
	/* Not the first wait of all, which is like no other. */
	if (times->waited == 0)
		times->unsampled = WAITS_PER_SAMPLE / 2;
	times->read_at = clock_ns();
	times->turns = turns;
}

/* `more`: 1 in the middle of a turn that `turns` does not count yet. */
static void read_clock(struct turn_times *times, uint64_t turns, uint64_t more)
{
	int64_t now = clock_ns(), ns = now - times->read_at;
	uint64_t count = turns + more - times->turns;

	times->read_at = now;
	times->turns = turns;
	times->busy += (uint64_t)ns;
	if (likely(count > 0))
		group_took(times, count, ns);
}

uint64_t turn_times_read(struct turn_times *times, uint64_t turns)
{
	uint64_t usual;

	read_clock(times, turns, 0);
	usual = (uint64_t)times->usual;
	if (usual >= GROUP_NS)
		return 1;
	return usual < GROUP_NS / GROUP_TURNS_MAX ? GROUP_TURNS_MAX : GROUP_NS / usual;
}

void turn_times_end(struct turn_times *times, uint64_t turns)
{
	read_clock(times, turns, 1);
	times->read_at = 0;
}

static int64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void turn_times_sleep(struct turn_times *times, uint64_t turns)
{
	read_clock(times, turns, 1);
	times->waiting = true;
	if (times->unsampled-- == 0) {
		times->unsampled = WAITS_PER_SAMPLE - 1;
		times->cpu = cpu_ns();
	}
}

void turn_times_wake(struct turn_times *times)
{
	int64_t now = clock_ns();

	if (times->unsampled == WAITS_PER_SAMPLE - 1)
		times->worked += (uint64_t)(cpu_ns() - times->cpu) * WAITS_PER_SAMPLE;
	times->waited += (uint64_t)(now - times->read_at);
	times->read_at = now;
	/* The wait's own turn. */
	times->turns++;
	times->waiting = false;
}
