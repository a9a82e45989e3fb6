/*
 * Every sequence of calls up to a length, on the smallest of each: the table of operations in
 * flight, the pools of buffers of both drivers, the selector's deadlines.  What a sequence
 * leaves is compared after each call with a model that is too simple to be wrong.
 */
#include <string.h>

#include "check.h"
#include "ring/buffers.h"
#include "selector/buffers.h"
#include "selector/selector.h"
#include "slots.h"

static long sequences;

/* Steps of a sequence, as the digits of a number; false when all have been tried. */
static bool next_sequence(int *steps, int length, int choices)
{
	for (int at = length - 1; at >= 0; at--) {
		if (++steps[at] < choices)
			return true;
		steps[at] = 0;
	}
	return false;
}

/* --- Slots: taken, freed by age ------------------------------------------- */

#define SLOT_STEPS 9
#define SLOT_CHOICES 4

/* 0, 1: take; 2: free the oldest; 3: free the newest. */
static void slots_play(const int *steps)
{
	struct slots slots;
	struct slot *live[SLOT_STEPS];
	ul_token tokens[SLOT_STEPS], dead[SLOT_STEPS];
	int count = 0, gone = 0;

	slots_init(&slots, sizeof(struct slot));
	for (int step = 0; step < SLOT_STEPS; step++) {
		if (steps[step] < 2) {
			struct slot *slot = slot_take(&slots, (uint8_t)steps[step], &slots);

			CHECK(slot != NULL && slot->flags == 0 && slot->owner == &slots);
			live[count] = slot;
			tokens[count++] = slot_token(slot);
		} else if (count > 0) {
			int at = steps[step] == 2 ? 0 : count - 1;

			live[at]->state = STATE_DONE;
			slot_free(&slots, live[at]);
			dead[gone++] = tokens[at];
			count--;
			memmove(&live[at], &live[at + 1], (size_t)(count - at) * sizeof(*live));
			memmove(&tokens[at], &tokens[at + 1],
			        (size_t)(count - at) * sizeof(*tokens));
		}
		CHECK_EQUAL(slots.live, count);
		for (int index = 0; index < count; index++) {
			CHECK(slot_find(&slots, tokens[index]) == live[index]);
			for (int other = 0; other < index; other++)
				CHECK(live[other] != live[index]);
		}
		for (int index = 0; index < gone; index++)
			CHECK(slot_find(&slots, dead[index]) == NULL);
	}
	slots_release(&slots);
}

/* --- The ring's pool: each buffer in one place ---------------------------- */

#define POOL_STEPS 6
#define POOL_BUFFERS 3
#define POOL_CHOICES (2 + 2 * POOL_BUFFERS)

/* A buffer ring in memory that no kernel reads. */
static void pool_prepare(struct pool *pool, void *entries)
{
	pool_init(pool, 0, POOL_BUFFERS, 16);
	CHECK_EQUAL(pool_open(pool), 0);
	memset(entries, 0, 4 * sizeof(struct io_uring_buf));
	pool->ring = entries;
	pool->mask = 3;
	pool->depth = 2;
}

/* 0: fill the ring; 1: take; then of each buffer: the kernel picks it; it is given back. */
static void pool_play(const int *steps, void *entries)
{
	uint8_t places[POOL_BUFFERS] = { BUFFER_FREE, BUFFER_FREE, BUFFER_FREE };
	struct pool pool;

	pool_prepare(&pool, entries);
	for (int step = 0; step < POOL_STEPS; step++) {
		int choice = steps[step], buffer = (choice - 2) / 2;
		unsigned counts[4] = { 0 };

		if (choice == 0) {
			pool_fill(&pool);
			for (int index = 0; index < POOL_BUFFERS; index++)
				places[index] = pool.places[index];
		} else if (choice == 1) {
			int taken = pool_take(&pool);

			if (taken >= 0) {
				CHECK_EQUAL(places[taken], BUFFER_FREE);
				places[taken] = BUFFER_TAKEN;
			} else {
				for (int index = 0; index < POOL_BUFFERS; index++)
					CHECK(places[index] != BUFFER_FREE);
			}
		} else if (choice % 2 == 0) {
			if (places[buffer] == BUFFER_IN_RING || places[buffer] == BUFFER_TAKEN) {
				CHECK(pool_lend(&pool, (uint32_t)buffer) ==
				      pool_data(&pool, (uint32_t)buffer));
				places[buffer] = BUFFER_LENT;
			}
		} else {
			/* Whatever is not lent or taken stays where it is. */
			pool_give(&pool, (uint32_t)buffer);
			if (places[buffer] >= BUFFER_TAKEN)
				places[buffer] = BUFFER_FREE;
		}
		for (int index = 0; index < POOL_BUFFERS; index++) {
			CHECK_EQUAL(pool.places[index], places[index]);
			counts[places[index]]++;
		}
		CHECK_EQUAL(pool.free_count, counts[BUFFER_FREE]);
		CHECK_EQUAL(pool.in_ring, counts[BUFFER_IN_RING]);
		CHECK(pool.in_ring <= pool.count);
		for (uint32_t index = 0; index < pool.free_count; index++)
			CHECK_EQUAL(places[pool.free[index]], BUFFER_FREE);
	}
	pool.ring = NULL;
	pool_release(&pool);
}

/* --- The selector's buffers: spare ones are kept up to a number ----------- */

#define BUFFERS_STEPS 9
#define BUFFERS_CHOICES 3

/* 0: take; 1: give back the oldest; 2: the newest. */
static void buffers_play(const int *steps)
{
	struct buffers buffers;
	unsigned char *lent[BUFFERS_STEPS];
	int count = 0;
	uint32_t spare = 0;

	buffers_init(&buffers, 64, 2);
	for (int step = 0; step < BUFFERS_STEPS; step++) {
		uint32_t all = 0;

		if (steps[step] == 0) {
			unsigned char *data = buffers_take(&buffers);

			CHECK(data != NULL);
			for (int other = 0; other < count; other++)
				CHECK(lent[other] != data);
			memset(data, step, buffers.size);
			lent[count++] = data;
			spare -= spare > 0;
		} else if (count > 0) {
			int at = steps[step] == 1 ? 0 : count - 1;

			buffers_give(&buffers, lent[at]);
			count--;
			memmove(&lent[at], &lent[at + 1], (size_t)(count - at) * sizeof(*lent));
			spare += spare < 2;
		}
		CHECK_EQUAL(buffers.spare_count, spare);
		for (struct trailer *each = buffers.all; each != NULL; each = each->next)
			all++;
		CHECK_EQUAL(all, (uint32_t)count + spare);
	}
	buffers_release(&buffers);
}

/* --- The selector's deadlines: the nearest first, and of equal ones the older --------- */

#define DEADLINE_STEPS 6
#define DEADLINE_CHOICES 5

/* 0 to 2: add one of that deadline; 3: remove the oldest; 4: the newest. */
static void deadlines_play(const int *steps)
{
	struct operation operations[DEADLINE_STEPS] = { 0 };
	struct operation *live[DEADLINE_STEPS];
	struct deadlines deadlines = { 0 };
	int count = 0;

	for (int step = 0; step < DEADLINE_STEPS || count > 0; step++) {
		if (step < DEADLINE_STEPS && steps[step] < 3) {
			live[count++] = &operations[step];
			CHECK_EQUAL(deadlines_add(&deadlines, &operations[step],
			                          (uint64_t)steps[step]), 0);
		} else if (count > 0) {
			int at = step < DEADLINE_STEPS && steps[step] == 4 ? count - 1 : 0;

			/* At the end all pass, the root first. */
			while (step >= DEADLINE_STEPS && live[at] != deadlines.heap[0])
				at++;
			deadlines_remove(&deadlines, live[at]);
			CHECK_EQUAL(live[at]->heap_position, 0);
			count--;
			memmove(&live[at], &live[at + 1], (size_t)(count - at) * sizeof(*live));
		}
		CHECK_EQUAL(deadlines.count, (uint32_t)count);
		if (count > 0) {
			const struct operation *nearest = live[0];

			/* In order of their age. */
			for (int index = 1; index < count; index++)
				if (live[index]->deadline_ns < nearest->deadline_ns)
					nearest = live[index];
			CHECK(deadlines.heap[0] == nearest);
		}
		for (int index = 0; index < count; index++)
			CHECK(deadlines.heap[live[index]->heap_position - 1] == live[index]);
	}
	deadlines_release(&deadlines);
}

int main(void)
{
	int steps[16] = { 0 };
	_Alignas(64) char entries[4 * sizeof(struct io_uring_buf)];

	do {
		slots_play(steps);
		sequences++;
	} while (next_sequence(steps, SLOT_STEPS, SLOT_CHOICES));
	memset(steps, 0, sizeof(steps));
	do {
		pool_play(steps, entries);
		sequences++;
	} while (next_sequence(steps, POOL_STEPS, POOL_CHOICES));
	memset(steps, 0, sizeof(steps));
	do {
		buffers_play(steps);
		sequences++;
	} while (next_sequence(steps, BUFFERS_STEPS, BUFFERS_CHOICES));
	memset(steps, 0, sizeof(steps));
	do {
		deadlines_play(steps);
		sequences++;
	} while (next_sequence(steps, DEADLINE_STEPS, DEADLINE_CHOICES));
	fprintf(stderr, "%ld sequences\n", sequences);
	return 0;
}
