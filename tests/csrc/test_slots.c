/* The in-flight table and the pools: what every driver leans on. */
#include <string.h>

#include "ring/buffers.h"
#include "check.h"
#include "slots.h"

struct wide_slot {
	struct slot base;
	char payload[104];
};

static void test_token_of_a_freed_slot_names_nothing(void)
{
	struct slots slots;
	struct slot *slot;
	ul_token old = 0;

	slots_init(&slots, sizeof(struct wide_slot));
	for (int round = 0; round < 1000; round++) {
		slot = slot_take(&slots, 3, &slots);
		CHECK(slot != NULL);
		CHECK_EQUAL(slot->state, STATE_QUEUED);
		CHECK(slot_token(slot) != 0);
		CHECK(slot_token(slot) != old);
		CHECK(slot_find(&slots, slot_token(slot)) == slot);
		CHECK(slot_find(&slots, old) == NULL);
		old = slot_token(slot);
		slot->state = STATE_DONE;
		slot_free(&slots, slot);
		CHECK(slot_find(&slots, old) == NULL);
	}
	CHECK_EQUAL(slots.live, 0);
	slots_release(&slots);
}

static void test_generation_wraps_without_ever_being_zero(void)
{
	struct slots slots;
	struct slot *slot;
	uint32_t index;

	slots_init(&slots, sizeof(struct wide_slot));
	slot = slot_take(&slots, 0, NULL);
	index = slot->index;
	slot->generation = SLOT_GENERATION_MAX;
	CHECK(slot_find(&slots, slot_token(slot)) == slot);
	CHECK(slot_token(slot) >> 56 == 0);
	slot->state = STATE_DONE;
	slot_free(&slots, slot);
	slot = slot_take(&slots, 0, NULL);
	CHECK_EQUAL(slot->index, index);
	CHECK_EQUAL(slot->generation, 1);
	slot->state = STATE_DONE;
	slot_free(&slots, slot);
	slots_release(&slots);
}

static void test_slots_never_move_and_are_handed_out_zeroed(void)
{
	static struct wide_slot *taken[2000];
	struct slots slots;

	slots_init(&slots, sizeof(struct wide_slot));
	for (int round = 0; round < 2; round++) {
		for (int index = 0; index < 2000; index++) {
			taken[index] = (struct wide_slot *)slot_take(&slots, 0, &taken[index]);
			CHECK(taken[index] != NULL);
			CHECK_EQUAL((uintptr_t)taken[index] % 64, 0);
			for (unsigned byte = 0; byte < sizeof(taken[index]->payload); byte++)
				CHECK_EQUAL(taken[index]->payload[byte], 0);
			memset(taken[index]->payload, 'x', sizeof(taken[index]->payload));
		}
		CHECK_EQUAL(slots.live, 2000);
		for (int index = 0; index < 2000; index++) {
			CHECK(taken[index]->base.owner == &taken[index]);
			CHECK(slot_find(&slots, slot_token(&taken[index]->base)) ==
			      &taken[index]->base);
			taken[index]->base.state = STATE_DONE;
			slot_free(&slots, &taken[index]->base);
		}
	}
	slots_release(&slots);
}

static void test_token_from_nowhere_names_nothing(void)
{
	struct slots slots;

	slots_init(&slots, sizeof(struct wide_slot));
	CHECK(slot_find(&slots, 0) == NULL);
	CHECK(slot_find(&slots, 1) == NULL);
	CHECK(slot_find(&slots, UINT64_MAX) == NULL);
	slot_take(&slots, 0, NULL);
	CHECK(slot_find(&slots, 0) == NULL);
	CHECK(slot_find(&slots, UINT32_MAX) == NULL);
	CHECK(slot_find(&slots, UINT64_C(1) << 32 | (SLOTS_PER_BLOCK + 1)) == NULL);
	slots_release(&slots);
}

static void test_pool_finds_the_buffer_of_every_address(void)
{
	static const uint32_t shapes[][2] = {
		{ 1, 1 }, { 2, 16 }, { 256, 4096 }, { 16, 262144 }, { 64, 262288 }, { 1000, 100 },
	};

	for (unsigned shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
		struct pool pool;

		pool_init(&pool, 0, shapes[shape][0], shapes[shape][1]);
		CHECK_EQUAL(pool_open(&pool), 0);
		CHECK_EQUAL(pool.count, shapes[shape][0]);
		CHECK(pool.stride >= pool.size);
		CHECK(!pool_owns(&pool, pool.base - 1));
		CHECK(!pool_owns(&pool, pool.base + pool.bytes));
		for (uint32_t index = 0; index < pool.count; index++) {
			unsigned char *data = pool_data(&pool, index);

			CHECK(pool_owns(&pool, data));
			CHECK_EQUAL(pool_index(&pool, data), index);
			CHECK_EQUAL(pool_index(&pool, data + pool.size / 2), index);
			data[pool.size - 1] = 1;
		}
		pool_release(&pool);
	}
}

static void test_pool_lends_each_buffer_once_and_the_warmest_first(void)
{
	struct pool pool;
	int taken[3];

	pool_init(&pool, 0, 3, 64);
	CHECK_EQUAL(pool_open(&pool), 0);
	for (int index = 0; index < 3; index++) {
		taken[index] = pool_take(&pool);
		CHECK_EQUAL(taken[index], index);
		pool_lend(&pool, (uint32_t)taken[index]);
	}
	CHECK_EQUAL(pool_take(&pool), -1);
	pool_give(&pool, 1);
	/* A second time is ignored, as of a buffer lent before a fork. */
	pool_give(&pool, 1);
	CHECK_EQUAL(pool.free_count, 1);
	pool_give(&pool, 2);
	CHECK_EQUAL(pool_take(&pool), 2);
	CHECK_EQUAL(pool_take(&pool), 1);
	/* The ring is gone: only what is lent stays out. */
	pool_detach(&pool, false);
	CHECK_EQUAL(pool.free_count, 2);
	pool_detach(&pool, true);
	CHECK_EQUAL(pool.free_count, 3);
	pool_release(&pool);
}

int main(void)
{
	test_token_of_a_freed_slot_names_nothing();
	test_generation_wraps_without_ever_being_zero();
	test_slots_never_move_and_are_handed_out_zeroed();
	test_token_from_nowhere_names_nothing();
	test_pool_finds_the_buffer_of_every_address();
	test_pool_lends_each_buffer_once_and_the_warmest_first();
	return 0;
}
