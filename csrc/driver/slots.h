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
 * A driver's own slot begins with struct ul_slot.  Slots live in blocks that
 * never move: a pointer to one stays valid until ul_slots_release().
 */
#ifndef UL_SLOTS_H
#define UL_SLOTS_H

#include <stddef.h>

#include "driver.h"

enum ul_state {
	UL_FREE,       /* on the free list */
	UL_QUEUED,     /* asked for; the kernel has not seen it */
	UL_IN_KERNEL,  /* the kernel owns it (selector: it waits for readiness) */
	UL_CANCELLING, /* asked to end; its terminal completion is still due */
	UL_DONE,       /* its terminal completion is made, but not harvested */
};

struct ul_slot {
	void *owner;         /* the caller's; never looked at */
	uint32_t generation; /* 24 bits: 1 ... UL_GENERATION_MAX */
	uint32_t index;
	uint32_t next_free;  /* index + 1 of the next free slot, 0 for none */
	uint8_t state;       /* enum ul_state */
	uint8_t verb;        /* the driver's enum */
	uint16_t flags;      /* the driver's */
};

#define UL_GENERATION_MAX UINT32_C(0xffffff)
#define UL_SLOTS_PER_BLOCK 256
/* More operations in flight than descriptors can exist would be a leak. */
#define UL_SLOT_BLOCKS_MAX 16384

struct ul_slots {
	size_t slot_size;    /* sizeof the driver's own slot */
	char **blocks;       /* owned; each UL_SLOTS_PER_BLOCK slots */
	uint32_t block_count;
	uint32_t first_free; /* index + 1, 0 for none */
	uint32_t live;       /* slots not FREE */
};

int ul_slots_init(struct ul_slots *slots, size_t slot_size);
void ul_slots_release(struct ul_slots *slots);

/*
 * Take a zeroed slot in state QUEUED, or NULL when memory is out.  The caller
 * must give it back with ul_slot_free(), on the one edge out of DONE.
 */
struct ul_slot *ul_slot_take(struct ul_slots *slots, uint8_t verb, void *owner);
void ul_slot_free(struct ul_slots *slots, struct ul_slot *slot);

static inline ul_token ul_slot_token(const struct ul_slot *slot)
{
	return (ul_token)slot->generation << 32 | (slot->index + 1);
}

static inline struct ul_slot *ul_slot_at(const struct ul_slots *slots, uint32_t index)
{
	return (struct ul_slot *)(slots->blocks[index / UL_SLOTS_PER_BLOCK] +
	                          index % UL_SLOTS_PER_BLOCK * slots->slot_size);
}

/* The live slot that `token` names, or NULL; bits above the generation are ignored. */
static inline struct ul_slot *ul_slot_find(const struct ul_slots *slots, ul_token token)
{
	uint32_t number = (uint32_t)token;
	struct ul_slot *slot;

	if (number == 0 || number > slots->block_count * UL_SLOTS_PER_BLOCK)
		return NULL;
	slot = ul_slot_at(slots, number - 1);
	if (slot->state == UL_FREE ||
	    slot->generation != (uint32_t)(token >> 32 & UL_GENERATION_MAX))
		return NULL;
	return slot;
}

#endif
