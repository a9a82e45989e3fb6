/*
 * The in-flight table: one slot for each operation that is not terminal yet.
 *
 * A token is generation << 32 | index + 1.  Freeing a slot raises its
 * generation, so a token never names two operations: a late completion or a
 * late cancel finds nothing, not a stranger.
 *
 *     FREE -> QUEUED -> IN_KERNEL -> DONE -> FREE
 *                |           |        ^
 *                +-----------+-> CANCELLING
 *
 * A driver's own slot begins with struct slot.  Slots live in blocks that
 * never move: a pointer to one stays valid until slots_release().
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <stddef.h>

#include "driver.h"

enum slot_state {
	STATE_FREE,    /* on the free list */
	STATE_QUEUED,  /* asked for; the kernel has not seen it */
	STATE_IN_KERNEL, /* the kernel owns it (selector: it waits for readiness) */
	STATE_CANCELLING, /* asked to end; its terminal completion is still due */
	STATE_DONE,    /* its terminal completion is made, but not harvested */
};

struct slot {
	void *owner;         /* the caller's; never looked at */
	uint32_t generation; /* 24 bits: 1 ... SLOT_GENERATION_MAX */
	uint32_t index;
	uint32_t next_free;  /* index + 1 of the next free slot, 0 for none */
	uint8_t state;       /* enum slot_state */
	uint8_t verb;        /* the driver's enum */
	uint16_t flags;      /* the driver's */
};

#define SLOT_GENERATION_MAX UINT32_C(0xffffff)
#define SLOTS_PER_BLOCK 256
/* More operations in flight than descriptors can exist would be a leak. */
#define SLOT_BLOCKS_MAX 16384

struct slots {
	size_t slot_size;    /* sizeof the driver's own slot */
	char **blocks;       /* owned; each SLOTS_PER_BLOCK slots */
	uint32_t block_count;
	uint32_t first_free; /* index + 1, 0 for none */
	uint32_t live;       /* slots not FREE */
};

void slots_init(struct slots *slots, size_t slot_size);
void slots_release(struct slots *slots);

/*
 * Take a zeroed slot in state QUEUED, or NULL when memory is out.  The caller
 * must give it back with slot_free(), on the one edge out of DONE.
 */
struct slot *slot_take(struct slots *slots, uint8_t verb, void *owner);
void slot_free(struct slots *slots, struct slot *slot);

static inline ul_token slot_token(const struct slot *slot)
{
	return (ul_token)slot->generation << 32 | (slot->index + 1);
}

static inline struct slot *slot_at(const struct slots *slots, uint32_t index)
{
	return (struct slot *)(slots->blocks[index / SLOTS_PER_BLOCK] +
	                       index % SLOTS_PER_BLOCK * slots->slot_size);
}

/* The live slot that `token` names, or NULL; bits above the generation are ignored. */
static inline struct slot *slot_find(const struct slots *slots, ul_token token)
{
	uint32_t number = (uint32_t)token;
	struct slot *slot;

	if (number == 0 || number > slots->block_count * SLOTS_PER_BLOCK)
		return NULL;
	slot = slot_at(slots, number - 1);
	if (slot->state == STATE_FREE ||
	    slot->generation != (uint32_t)(token >> 32 & SLOT_GENERATION_MAX))
		return NULL;
	return slot;
}

#endif
