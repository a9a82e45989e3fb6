/*
 * Slots on their way to the kernel and back: taken, on the lists where they wait, in
 * the submission queue, taken back out of it, finished.
 *
 * What finds no room in the submission queue waits on the backlog, in order.
 */
#include "queue.h"

#include <stdlib.h>

/* A cancel that found nothing is repeated while its target has not ended. */
#define CANCELS_MAX 16

void uring_list_add(struct uring *uring, struct uring_slot *slot, enum uring_list_name name)
{
	struct uring_list *list = &uring->lists[name];
	uint32_t number = slot->base.index + 1;

	assert(slot->list == LIST_NONE);
	slot->list = (uint8_t)name;
	slot->next = 0;
	slot->previous = list->last;
	if (list->last != 0)
		uring_slot_at(uring, list->last)->next = number;
	else
		list->first = number;
	list->last = number;
	list->count++;
}

void uring_list_drop(struct uring *uring, struct uring_slot *slot)
{
	struct uring_list *list = &uring->lists[slot->list];

	assert(slot->list != LIST_NONE);
	if (slot->previous != 0)
		uring_slot_at(uring, slot->previous)->next = slot->next;
	else
		list->first = slot->next;
	if (slot->next != 0)
		uring_slot_at(uring, slot->next)->previous = slot->previous;
	else
		list->last = slot->previous;
	list->count--;
	slot->list = LIST_NONE;
}

/* --- Slots ---------------------------------------------------------------- */

struct uring_slot *uring_start(struct uring *uring, enum uring_verb verb, void *owner,
                               uint8_t opcode, int fd)
{
	struct uring_slot *slot;

	if (unlikely(uring->closed))
		return NULL;
	slot = (struct uring_slot *)slot_take(&uring->slots, (uint8_t)verb, owner);
	if (unlikely(slot == NULL))
		return NULL;
	slot->buffer = -1;
	slot->sqe.opcode = opcode;
	slot->sqe.fd = fd;
	slot->sqe.user_data = slot_token(&slot->base);
	uring->statistics.in_flight++;
	return slot;
}

struct uring_cold *uring_cold_take(struct uring *uring)
{
	struct uring_cold *cold = uring->cold_free;

	if (likely(cold != NULL))
		uring->cold_free = cold->next;
	else
		cold = malloc(sizeof(*cold));
	if (unlikely(cold == NULL))
		return NULL;
	cold->many = NULL;
	memset(&cold->message, 0, sizeof(cold->message));
	return cold;
}

void uring_slot_end(struct uring *uring, struct uring_slot *slot)
{
	struct uring_cold *cold = slot->cold;

	uring->statistics.in_flight--;
	if (slot->base.verb == URING_ACCEPT && (slot->base.flags & SLOT_SHARED) == 0)
		uring->accepts--;
	if (unlikely(slot->base.flags & SLOT_UNSAFE))
		return;
	if (unlikely(slot->buffer >= 0)) {
		pool_give(&uring->pools[uring_pool_of(slot)], (uint32_t)slot->buffer);
		slot->buffer = -1;
	}
	if (cold != NULL) {
		free(cold->many);
		cold->next = uring->cold_free;
		uring->cold_free = cold;
		slot->cold = NULL;
	}
}

void uring_slot_free(struct uring *uring, struct uring_slot *slot)
{
	uring_slot_end(uring, slot);
	slot->base.state = STATE_DONE;
	slot_free(&uring->slots, &slot->base);
}

int uring_finish(struct uring *uring, struct uring_slot *slot, struct ul_completion *out,
                 int result, uint32_t flags)
{
	*out = (struct ul_completion){
		.owner = slot->base.owner,
		.token = slot_token(&slot->base),
		.result = result,
		.flags = flags,
	};
	uring_slot_free(uring, slot);
	return 1;
}

void uring_done(struct uring *uring, struct uring_slot *slot, int result)
{
	slot->base.state = STATE_DONE;
	slot->result = result;
	uring_list_add(uring, slot, LIST_DONE);
}

/* --- The submission queue ------------------------------------------------- */

void uring_push_slow(struct uring *uring, struct uring_slot *slot)
{
	if (slot->base.state == STATE_IN_KERNEL)
		slot->base.state = STATE_QUEUED;
	uring_list_add(uring, slot, LIST_BACKLOG);
}

struct io_uring_sqe *uring_next_sqe(struct uring *uring, uint8_t opcode)
{
	struct io_uring_sqe *sqe = &uring->sqes[uring->sq_tail++ & uring->sq_mask];

	uring->statistics.submissions[opcode]++;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	return sqe;
}

static void fill_cancel(struct uring *uring, struct uring_slot *slot)
{
	struct io_uring_sqe *sqe = uring_next_sqe(uring, IORING_OP_ASYNC_CANCEL);

	sqe->fd = -1;
	sqe->addr = slot_token(&slot->base);
	sqe->user_data = TAGGED(TAG_CANCEL, slot_token(&slot->base));
	/* A failure alone is of interest; the target has a completion of its own. */
	if (uring_has(uring, UL_FEATURE_CQE_SKIP))
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

static void fill_poll(struct uring *uring, struct uring_slot *slot)
{
	struct io_uring_sqe *sqe;

	slot->sq_position = uring->sq_tail;
	slot->base.state = STATE_IN_KERNEL;
	sqe = uring_next_sqe(uring, IORING_OP_POLL_ADD);
	sqe->fd = slot->poll_fd;
	uring_poll_events(sqe, slot->poll_events);
	sqe->user_data = slot_token(&slot->base);
}

void uring_push_cancel(struct uring *uring, struct uring_slot *slot)
{
	assert(slot->list == LIST_NONE);
	if (uring_sq_room(uring) != 0)
		fill_cancel(uring, slot);
	else
		uring_list_add(uring, slot, LIST_BACKLOG);
}

void uring_push_poll(struct uring *uring, struct uring_slot *slot, int fd, uint32_t events)
{
	assert(slot->phase <= PHASE_POLLING);
	slot->phase = PHASE_POLLING;
	slot->poll_fd = fd;
	slot->poll_events = events;
	if (uring_sq_room(uring) != 0)
		fill_poll(uring, slot);
	else
		uring_push_slow(uring, slot);
}

void uring_fill_queue(struct uring *uring)
{
	while (uring->lists[LIST_BACKLOG].count != 0 && uring_sq_room(uring) != 0) {
		struct uring_slot *slot = uring_slot_at(uring, uring->lists[LIST_BACKLOG].first);

		uring_list_drop(uring, slot);
		if (slot->base.state != STATE_QUEUED)
			fill_cancel(uring, slot);
		else if (slot->phase == PHASE_POLLING)
			fill_poll(uring, slot);
		else
			uring_push(uring, slot);
	}
}

void uring_withdraw(struct uring *uring, struct uring_slot *slot)
{
	struct io_uring_sqe *sqe;

	if (slot->list != LIST_NONE) {
		uring_list_drop(uring, slot);
		return;
	}
	assert(uring_unsubmitted(uring, slot));
	sqe = &uring->sqes[slot->sq_position & uring->sq_mask];
	uring->statistics.submissions[sqe->opcode]--;
	uring->statistics.submissions[IORING_OP_NOP]++;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_NOP;
	sqe->fd = -1;
	sqe->user_data = TAGGED(TAG_IGNORED, 0);
	if (uring_has(uring, UL_FEATURE_CQE_SKIP))
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

/* --- Cancelled, or ended already ------------------------------------------ */

int uring_cancel(struct ul_driver *driver, ul_token token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = token >> TAG_SHIFT == 0 ? uring_slot_find(uring, token) : NULL;

	if (slot == NULL || uring_is_own(slot))
		return -ENOENT;
	if (slot->base.state == STATE_CANCELLING || slot->base.state == STATE_DONE)
		return -EINPROGRESS;
	if (slot->phase == PHASE_READABLE) {
		/* The owner may not have seen that completion yet. */
		slot->phase = PHASE_DIRECT;
		uring_done(uring, slot, -ECANCELED);
		return -EINPROGRESS;
	}
	if ((slot->list != LIST_NONE && slot->base.state == STATE_QUEUED) ||
	    uring_unsubmitted(uring, slot)) {
		uring_withdraw(uring, slot);
		/*
		 * Completions that were harvested before may still be on their
		 * way to the owner, so the end must come behind them.
		 */
		if (slot->base.flags & SLOT_BEGAN) {
			uring_done(uring, slot, -ECANCELED);
			return -EINPROGRESS;
		}
		uring_slot_free(uring, slot);
		return 0;
	}
	slot->base.state = STATE_CANCELLING;
	/* A receive that moves is being cancelled already. */
	if (slot->phase != PHASE_MOVING)
		uring_push_cancel(uring, slot);
	return -EINPROGRESS;
}

void uring_tagged_completed(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot;

	switch (cqe->user_data >> TAG_SHIFT) {
	case TAG_TURN_TIMEOUT:
		if (UNTAGGED(cqe->user_data) == uring->turn_sequence)
			uring->turn_armed = false;
		break;
	case TAG_CANCEL:
		/*
		 * The target had not been found or could not be stopped.  Mostly
		 * it has ended; but one that was between two states at that
		 * moment goes on, and is asked again.
		 */
		slot = uring_slot_find(uring, UNTAGGED(cqe->user_data));
		if (cqe->res >= 0 || slot == NULL ||
		    slot->list != LIST_NONE || slot->base.flags & SLOT_LEFT_OVER)
			break;
		if (slot->base.state != STATE_CANCELLING &&
		    slot->phase != PHASE_MOVING)
			break;
		if (slot->retries++ < CANCELS_MAX)
			uring_push_cancel(uring, slot);
		else
			/* The stream stays as it is; a cancel of its owner's is a new one. */
			uring_stop_moving(slot);
		break;
	default:
		break;
	}
}

/*
 * Look ahead at what is not harvested yet.  Each entry is looked at once, however
 * many operations are asked about.
 */
static void look_ahead(struct uring *uring)
{
	uint32_t tail = io_uring_smp_load_acquire(uring->cq_ktail);

	if ((int32_t)(uring->cq_looked - uring->cq_head) < 0)
		uring->cq_looked = uring->cq_head;
	for (; uring->cq_looked != tail; uring->cq_looked++) {
		const struct io_uring_cqe *cqe = &uring->cqes[uring->cq_looked & uring->cq_mask];
		struct uring_slot *ended;

		if (cqe->flags & IORING_CQE_F_MORE || cqe->user_data >> TAG_SHIFT != TAG_OPERATION)
			continue;
		ended = uring_slot_find(uring, cqe->user_data);
		if (ended == NULL)
			continue;
		if (ended->base.state == STATE_CANCELLING) {
			ended->base.flags |= SLOT_RELEASED;
		} else if (ended->base.verb == URING_SEND && cqe->res >= 0 &&
		           ended->phase != PHASE_POLLING) {
			ended->base.flags |= SLOT_SENT;
			ended->result = cqe->res;
		}
	}
}

/*
 * A cancelled operation never starts again, so its next last entry is its end,
 * and before that was made the kernel had let go of the descriptor.
 */
bool uring_released(struct ul_driver *driver, ul_token token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_slot_find(uring, token);

	if (slot == NULL || slot->base.state == STATE_DONE)
		return true;
	if (uring->forked || !uring->has_ring || slot->base.state != STATE_CANCELLING ||
	    slot->list != LIST_NONE)
		return false;
	/* An entry that came before the cancel was. */
	if (slot->base.flags & SLOT_SENT)
		return true;
	look_ahead(uring);
	return (slot->base.flags & SLOT_RELEASED) != 0;
}

int uring_outcome(struct ul_driver *driver, ul_token token, bool take)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_slot_find(uring, token);
	struct ul_completion end;

	if (slot == NULL || uring->forked || !uring->has_ring ||
	    slot->base.state != STATE_IN_KERNEL || slot->list != LIST_NONE ||
	    slot->base.flags & SLOT_LEFT_OVER)
		return -EINPROGRESS;
	if ((slot->base.flags & SLOT_SENT) == 0)
		look_ahead(uring);
	if ((slot->base.flags & SLOT_SENT) == 0)
		return -EINPROGRESS;
	if (!take)
		return slot->result;
	/* The entry that is still in the queue will find a dead generation. */
	uring_finish(uring, slot, &end, slot->result, 0);
	uring->statistics.completed++;
	return end.result;
}
