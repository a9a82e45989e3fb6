/* Slots on their way to the kernel and back.  See queue.c. */
#ifndef QUEUE_H
#define QUEUE_H

#include "uring.h"

void uring_list_add(struct uring *uring, struct uring_slot *slot, enum uring_list_name name);
void uring_list_drop(struct uring *uring, struct uring_slot *slot);
void uring_push_slow(struct uring *uring, struct uring_slot *slot);
void uring_push_cancel(struct uring *uring, struct uring_slot *slot);
/* An entry to fill in; there is room. */
struct io_uring_sqe *uring_next_sqe(struct uring *uring, uint8_t opcode);
/* Poll `fd` first, then start the template again. */
void uring_push_poll(struct uring *uring, struct uring_slot *slot, int fd, uint32_t events);
/* Move the backlog to the submission queue, as far as there is room. */
void uring_fill_queue(struct uring *uring);
struct uring_cold *uring_cold_take(struct uring *uring);
/* Give back what the slot holds; the operation is terminal. */
void uring_slot_end(struct uring *uring, struct uring_slot *slot);
/* uring_slot_end(), and the slot is free. */
void uring_slot_free(struct uring *uring, struct uring_slot *slot);
/* uring_slot_free(), with the terminal completion in `out`.  1. */
int uring_finish(struct uring *uring, struct uring_slot *slot, struct ul_completion *out,
                 int result, uint32_t flags);
/* Make the terminal completion of an operation of which the kernel knows nothing. */
void uring_done(struct uring *uring, struct uring_slot *slot, int result);
/* Take an operation back out of the submission queue or our lists. */
void uring_withdraw(struct uring *uring, struct uring_slot *slot);
struct uring_slot *uring_start(struct uring *uring, enum uring_verb verb, void *owner,
                               uint8_t opcode, int fd);
/* Take in an entry that is no operation's. */
void uring_tagged_completed(struct uring *uring, const struct io_uring_cqe *cqe);
int uring_cancel(struct ul_driver *driver, ul_token token);
bool uring_released(struct ul_driver *driver, ul_token token);
int uring_outcome(struct ul_driver *driver, ul_token token, bool take);

/* Queue the slot's template. */
static inline void uring_push(struct uring *uring, struct uring_slot *slot)
{
	uint32_t tail = uring->sq_tail;

	assert(slot->list == LIST_NONE);
	if (unlikely(tail - uring->sq_head >= uring->sq_limit)) {
		uring_push_slow(uring, slot);
		return;
	}
	slot->base.state = STATE_IN_KERNEL;
	slot->sq_position = tail;
	memcpy(&uring->sqes[tail & uring->sq_mask], &slot->sqe, sizeof(slot->sqe));
	uring->sq_tail = tail + 1;
	uring->statistics.submissions[slot->sqe.opcode]++;
}

/* A receive that was being cancelled to start again goes on as it is, or has started again. */
static inline void uring_stop_moving(struct uring_slot *slot)
{
	if (slot->phase == PHASE_MOVING)
		slot->phase = PHASE_DIRECT;
}

/* Queue the template of an operation that the kernel has answered before. */
static inline void uring_push_again(struct uring *uring, struct uring_slot *slot)
{
	slot->base.flags |= SLOT_BEGAN;
	uring_push(uring, slot);
}

#endif
