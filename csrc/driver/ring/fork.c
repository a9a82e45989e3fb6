/*
 * What the child of a fork inherits of a ring, and makes of it.
 *
 * The descriptor, which it closes; no memory of the ring; and every slot, as it was.
 * What had ended before the fork has ended for both: its entry, which the child cannot
 * read any more, is copied just before.  A send that had left is not sent twice, a file
 * that was opened is not opened twice.  Only what the kernel gave away once is the
 * parent's alone: received bytes, and connections, of which the child closes its copy.
 * All else, the child asks for itself (uring_rebuild()).
 */
#include "queue.h"

#include <stdlib.h>
#include <unistd.h>

static struct uring *uring_of_node(struct fork_node *node)
{
	return (struct uring *)((char *)node - offsetof(struct uring, fork_node));
}

/* Another thread may be at work in it; but not if it is this one's, or sleeps. */
static bool may_look(const struct uring *uring)
{
	return !uring->running || uring_is_here(uring) || atomic_load(&uring->sleeping);
}

static void ring_before_fork(struct fork_node *node)
{
	struct uring *uring = uring_of_node(node);
	struct io_uring_cqe *entries;
	uint32_t tail, position;
	size_t count;

	/* Without one, what is there is of an earlier fork. */
	if (!uring->has_ring)
		return;
	uring->inherited_count = 0;
	if (uring->closing || !may_look(uring))
		return;
	tail = io_uring_smp_load_acquire(uring->cq_ktail);
	count = uring->left_over_count - uring->left_over_next + (tail - uring->cq_head);
	if (count == 0)
		return;
	entries = realloc(uring->inherited, count * sizeof(*entries));
	if (entries == NULL)
		return;
	uring->inherited = entries;
	for (position = uring->left_over_next; position != uring->left_over_count; position++)
		entries[uring->inherited_count++] = uring->left_over[position];
	for (position = uring->cq_head; position != tail; position++)
		entries[uring->inherited_count++] = uring->cqes[position & uring->cq_mask];
}

/* The operation whose end the entry is; NULL for none. */
static struct uring_slot *ended_by(const struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot;

	if (cqe->user_data >> TAG_SHIFT != TAG_OPERATION)
		return NULL;
	slot = uring_slot_find(uring, cqe->user_data);
	if (slot == NULL || slot->phase == PHASE_POLLING || slot->list == LIST_DONE)
		return NULL;
	return slot;
}

static void ring_in_child(struct fork_node *node)
{
	struct uring *uring = uring_of_node(node);
	uint32_t index;

	if (uring->has_ring)
		close(uring->ring.ring_fd);
	if (uring->wake_fd >= 0)
		close(uring->wake_fd);
	uring->wake_fd = -1;
	for (index = 0; uring->has_ring && index < uring->inherited_count; index++) {
		const struct io_uring_cqe *cqe = &uring->inherited[index];
		const struct uring_slot *slot = ended_by(uring, cqe);

		if (slot != NULL && slot->base.verb == URING_ACCEPT && cqe->res >= 0)
			close(cqe->res);
	}
	for (index = 0; index < POOLS; index++)
		pool_forked(&uring->pools[index]);
	uring_forget_ring(uring);
	uring->left_over_next = uring->left_over_count = 0;
	uring->watches_fired = false;
	uring->forked = true;
	atomic_store(&uring->sleeping, 0);
}

int uring_fork_add(struct uring *uring)
{
	uring->fork_node.before = ring_before_fork;
	uring->fork_node.in_child = ring_in_child;
	return fork_add(&uring->fork_node);
}

/* An answer that means "once more", or that says nothing of what was asked for. */
static bool is_no_answer(int result)
{
	return result == -EAGAIN || result == -EALREADY || result == -EINPROGRESS ||
	       result == -EINTR || result == -ENOMEM || result == -ECANCELED ||
	       result == -EISCONN;
}

static void has_ended(struct uring *uring, struct uring_slot *slot, int result)
{
	if (slot->list != LIST_NONE)
		uring_list_drop(uring, slot);
	uring_done(uring, slot, result);
}

static void take_answer(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot = ended_by(uring, cqe);

	/* A stream starts again, and a poll sees what is ready then. */
	if (slot == NULL || uring_traits_of(slot)->stream || uring_is_own(slot) ||
	    slot->base.verb == URING_POLL || cqe->flags & IORING_CQE_F_MORE ||
	    is_no_answer(cqe->res))
		return;
	has_ended(uring, slot, cqe->res);
}

void uring_leave_to_parent(struct uring *uring)
{
	uint32_t index;
	uint32_t number;

	for (index = 0; index < uring->inherited_count; index++)
		take_answer(uring, &uring->inherited[index]);
	uring->inherited_count = 0;
	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot == NULL)
			continue;
		if (slot->base.flags & SLOT_SENT && slot->list != LIST_DONE)
			has_ended(uring, slot, slot->result);
		slot->base.flags &= (uint16_t)~(SLOT_LEFT_OVER | SLOT_SENT | SLOT_RELEASED);
		/* Every listener is shared with the parent now. */
		if (slot->base.verb == URING_ACCEPT && (slot->base.flags & SLOT_SHARED) == 0) {
			uring_share_listener(uring, slot);
			uring->accepts--;
		}
	}
}
