/* The in-flight table and the pools: what every driver leans on. */
#include <string.h>

#include "ring/buffers.h"
#include "check.h"
#include "slots.h"

struct wide_slot {
	struct ul_slot base;
	char payload[104];
};

static void test_token_of_a_freed_slot_names_nothing(void)
{
	struct ul_slots slots;
	struct ul_slot *slot;
	ul_token old = 0;

	CHECK_EQUAL(ul_slots_init(&slots, sizeof(struct wide_slot)), 0);
	for (int round = 0; round < 1000; round++) {
		slot = ul_slot_take(&slots, 3, &slots);
		CHECK(slot != NULL);
		CHECK_EQUAL(slot->state, UL_QUEUED);
		CHECK(ul_slot_token(slot) != 0);
		CHECK(ul_slot_token(slot) != old);
		CHECK(ul_slot_find(&slots, ul_slot_token(slot)) == slot);
		CHECK(ul_slot_find(&slots, old) == NULL);
		old = ul_slot_token(slot);
		slot->state = UL_DONE;
		ul_slot_free(&slots, slot);
		CHECK(ul_slot_find(&slots, old) == NULL);
	}
	CHECK_EQUAL(slots.live, 0);
	ul_slots_release(&slots);
}

static void test_generation_wraps_without_ever_being_zero(void)
{
	struct ul_slots slots;
	struct ul_slot *slot;
	uint32_t index;

	CHECK_EQUAL(ul_slots_init(&slots, sizeof(struct wide_slot)), 0);
	slot = ul_slot_take(&slots, 0, NULL);
	index = slot->index;
	slot->generation = UL_GENERATION_MAX;
	CHECK(ul_slot_find(&slots, ul_slot_token(slot)) == slot);
	CHECK(ul_slot_token(slot) >> 56 == 0);
	slot->state = UL_DONE;
	ul_slot_free(&slots, slot);
	slot = ul_slot_take(&slots, 0, NULL);
	CHECK_EQUAL(slot->index, index);
	CHECK_EQUAL(slot->generation, 1);
	slot->state = UL_DONE;
	ul_slot_free(&slots, slot);
	ul_slots_release(&slots);
}

static void test_slots_never_move_and_are_handed_out_zeroed(void)
{
	static struct wide_slot *taken[2000];
	struct ul_slots slots;

	CHECK_EQUAL(ul_slots_init(&slots, sizeof(struct wide_slot)), 0);
	for (int round = 0; round < 2; round++) {
		for (int index = 0; index < 2000; index++) {
			taken[index] = (struct wide_slot *)ul_slot_take(&slots, 0, &taken[index]);
			CHECK(taken[index] != NULL);
			CHECK_EQUAL((uintptr_t)taken[index] % 64, 0);
			for (unsigned byte = 0; byte < sizeof(taken[index]->payload); byte++)
				CHECK_EQUAL(taken[index]->payload[byte], 0);
			memset(taken[index]->payload, 'x', sizeof(taken[index]->payload));
		}
		CHECK_EQUAL(slots.live, 2000);
		for (int index = 0; index < 2000; index++) {
			CHECK(taken[index]->base.owner == &taken[index]);
			CHECK(ul_slot_find(&slots, ul_slot_token(&taken[index]->base)) ==
			      &taken[index]->base);
			taken[index]->base.state = UL_DONE;
			ul_slot_free(&slots, &taken[index]->base);
		}
	}
	ul_slots_release(&slots);
}

static void test_token_from_nowhere_names_nothing(void)
{
	struct ul_slots slots;

	CHECK_EQUAL(ul_slots_init(&slots, sizeof(struct wide_slot)), 0);
	CHECK(ul_slot_find(&slots, 0) == NULL);
	CHECK(ul_slot_find(&slots, 1) == NULL);
	CHECK(ul_slot_find(&slots, UINT64_MAX) == NULL);
	ul_slot_take(&slots, 0, NULL);
	CHECK(ul_slot_find(&slots, 0) == NULL);
	CHECK(ul_slot_find(&slots, UINT32_MAX) == NULL);
	CHECK(ul_slot_find(&slots, UINT64_C(1) << 32 | (UL_SLOTS_PER_BLOCK + 1)) == NULL);
	ul_slots_release(&slots);
}

static void test_pool_finds_the_buffer_of_every_address(void)
{
	static const uint32_t shapes[][2] = {
		{ 1, 1 }, { 2, 16 }, { 256, 4096 }, { 16, 262144 }, { 64, 262288 }, { 1000, 100 },
	};

	for (unsigned shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
		struct ul_pool pool;

		ul_pool_init(&pool, 0, shapes[shape][0], shapes[shape][1]);
		CHECK_EQUAL(ul_pool_open(&pool), 0);
		CHECK_EQUAL(pool.count, shapes[shape][0]);
		CHECK(pool.stride >= pool.size);
		CHECK(!ul_pool_owns(&pool, pool.base - 1));
		CHECK(!ul_pool_owns(&pool, pool.base + pool.bytes));
		for (uint32_t index = 0; index < pool.count; index++) {
			unsigned char *data = ul_pool_data(&pool, index);

			CHECK(ul_pool_owns(&pool, data));
			CHECK_EQUAL(ul_pool_index(&pool, data), index);
			CHECK_EQUAL(ul_pool_index(&pool, data + pool.size / 2), index);
			data[pool.size - 1] = 1;
		}
		ul_pool_release(&pool);
	}
}

static void test_pool_lends_each_buffer_once_and_the_warmest_first(void)
{
	struct ul_pool pool;
	int taken[3];

	ul_pool_init(&pool, 0, 3, 64);
	CHECK_EQUAL(ul_pool_open(&pool), 0);
	for (int index = 0; index < 3; index++) {
		taken[index] = ul_pool_take(&pool);
		CHECK_EQUAL(taken[index], index);
		ul_pool_lend(&pool, (uint32_t)taken[index]);
	}
	CHECK_EQUAL(ul_pool_take(&pool), -1);
	ul_pool_give(&pool, 1);
	/* A second time is ignored, as of a buffer lent before a fork. */
	ul_pool_give(&pool, 1);
	CHECK_EQUAL(pool.free_count, 1);
	ul_pool_give(&pool, 2);
	CHECK_EQUAL(ul_pool_take(&pool), 2);
	CHECK_EQUAL(ul_pool_take(&pool), 1);
	/* The ring is gone: only what is lent stays out. */
	ul_pool_detach(&pool, false);
	CHECK_EQUAL(pool.free_count, 2);
	ul_pool_detach(&pool, true);
	CHECK_EQUAL(pool.free_count, 3);
	ul_pool_release(&pool);
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
