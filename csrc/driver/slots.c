/* The in-flight table.  See slots.h for what it promises. */
#include "slots.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void slots_init(struct slots *slots, size_t slot_size)
{
	assert(slot_size >= sizeof(struct slot));
	memset(slots, 0, sizeof(*slots));
	slots->slot_size = slot_size;
}

void slots_release(struct slots *slots)
{
	uint32_t block;

	for (block = 0; block < slots->block_count; block++)
		free(slots->blocks[block]);
	free(slots->blocks);
	memset(slots, 0, sizeof(*slots));
}

static int slots_grow(struct slots *slots)
{
	uint32_t first = slots->block_count * SLOTS_PER_BLOCK;
	char **blocks;
	char *block;
	uint32_t offset;

	if (slots->block_count == SLOT_BLOCKS_MAX)
		return -1;
	blocks = realloc(slots->blocks, (slots->block_count + 1) * sizeof(*blocks));
	if (blocks == NULL)
		return -1;
	slots->blocks = blocks;
	/* A slot whose size is a multiple of a cache line begins one. */
	block = aligned_alloc(64, SLOTS_PER_BLOCK * slots->slot_size);
	if (block == NULL)
		return -1;
	memset(block, 0, SLOTS_PER_BLOCK * slots->slot_size);
	blocks[slots->block_count++] = block;
	/* Backwards, so that slots are handed out in order of their address. */
	for (offset = SLOTS_PER_BLOCK; offset-- > 0;) {
		struct slot *slot = (struct slot *)(block + offset * slots->slot_size);

		slot->index = first + offset;
		slot->generation = 1;
		slot->next_free = slots->first_free;
		slots->first_free = slot->index + 1;
	}
	return 0;
}

struct slot *slot_take(struct slots *slots, uint8_t verb, void *owner)
{
	struct slot *slot;

	if (slots->first_free == 0 && slots_grow(slots) != 0)
		return NULL;
	slot = slot_at(slots, slots->first_free - 1);
	assert(slot->state == STATE_FREE);
	slots->first_free = slot->next_free;
	slots->live++;
	slot->owner = owner;
	slot->next_free = 0;
	slot->state = STATE_QUEUED;
	slot->verb = verb;
	slot->flags = 0;
	memset(slot + 1, 0, slots->slot_size - sizeof(*slot));
	return slot;
}

void slot_free(struct slots *slots, struct slot *slot)
{
	assert(slot->state == STATE_DONE);
	assert(slots->live > 0);
	slot->owner = NULL;
	slot->state = STATE_FREE;
	slot->generation = slot->generation == SLOT_GENERATION_MAX ? 1 : slot->generation + 1;
	slot->next_free = slots->first_free;
	slots->first_free = slot->index + 1;
	slots->live--;
}
