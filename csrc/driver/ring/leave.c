/*
 * Leaving a ring: for another thread's or process's, with every operation that
 * lives (rebuild), or for good (shutdown).
 */
#include "queue.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* The time that the kernel may take to let go of our memory. */
#define SHUTDOWN_NS UINT64_C(1000000000)
#define REBUILD_NS UINT64_C(100000000)
/* Refusals for want of memory, a millisecond each, after which a run ends all the same. */
#define SHORTAGES_MAX 50
/* A cancelled accept has ended after one; more than a few would be a bug. */
#define PARK_LOOKS 8

/* The kernel owes a completion entry for `slot`. */
static bool in_kernel(const struct uring_slot *slot)
{
	if (slot->base.flags & SLOT_LEFT_OVER)
		return false;
	if (slot->base.state == STATE_CANCELLING)
		return true;
	/* Only a cancel is on the backlog in this state. */
	return slot->base.state == STATE_IN_KERNEL;
}

/* Everything that the kernel has not seen, back from the queue to the backlog. */
static void withdraw_all(struct uring *uring)
{
	uint32_t number;

	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot == NULL || slot->list != LIST_NONE ||
		    slot->base.state != STATE_IN_KERNEL || !uring_unsubmitted(uring, slot))
			continue;
		uring_withdraw(uring, slot);
		slot->base.state = STATE_QUEUED;
		/* The driver's own polls are made anew with each ring. */
		if (!uring_is_own(slot))
			uring_list_add(uring, slot, LIST_BACKLOG);
	}
}

int uring_put_aside(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot;
	struct io_uring_cqe *entries;

	if (cqe->user_data >> TAG_SHIFT != TAG_OPERATION) {
		uring_tagged_completed(uring, cqe);
		return 0;
	}
	slot = uring_slot_find(uring, cqe->user_data);
	if (slot == NULL)
		return 0;
	if (uring_is_own(slot)) {
		if ((cqe->flags & IORING_CQE_F_MORE) == 0)
			slot->base.state = STATE_QUEUED;
		return 0;
	}
	/* The array is read to its end: begin again. */
	if (uring->left_over_next == uring->left_over_count)
		uring->left_over_next = uring->left_over_count = 0;
	entries = realloc(uring->left_over, (uring->left_over_count + 1) * sizeof(*entries));
	if (entries == NULL)
		return -ENOMEM;
	uring->left_over = entries;
	entries[uring->left_over_count++] = *cqe;
	/* So that the pool does not take it for the old ring's. */
	if (uring_traits_of(slot)->receive && cqe->flags & IORING_CQE_F_BUFFER)
		pool_lend(&uring->pools[uring_pool_of(slot)],
		          cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
		slot->base.flags |= SLOT_LEFT_OVER;
		/* An end that we made says nothing of what comes when it starts again. */
		slot->retries = 0;
		if (uring_traits_of(slot)->receive && slot->buffer >= 0)
			pool_lend(&uring->pools[uring_pool_of(slot)], (uint32_t)slot->buffer);
		/* A cancel of it need not be submitted any more. */
		if (slot->list == LIST_BACKLOG)
			uring_list_drop(uring, slot);
	}
	return 0;
}

/*
 * Linux 5.10 takes nothing while completions have no place (EBUSY): they are put
 * aside, and it is asked again.
 */
static int flush_aside(struct uring *uring)
{
	uint32_t head;
	int result;

	do {
		head = uring->cq_head;
		result = uring_flush(uring, 0);
	} while (result == -EBUSY && uring_read_queue(uring, uring_put_aside) == 0 &&
	         uring->cq_head != head);
	return result;
}

void uring_hand_over_all(struct uring *uring)
{
	int shortages = 0;

	while (uring->lists[LIST_BACKLOG].count != 0 || uring->sq_tail != uring->sq_head) {
		int result;

		uring_feed_starved(uring);
		uring_fill_queue(uring);
		result = flush_aside(uring);
		if (result > 0)
			continue;
		if (result == -EBUSY || shortages++ == SHORTAGES_MAX ||
		    !uring_wait_out(uring, result))
			break;
	}
}

/*
 * An accept in the kernel is an exclusive waiter (accept.c).  One that
 * stays armed while its loop does not run takes connections' wake-ups from
 * whoever serves the socket meanwhile, another thread's ring or a forked child,
 * and loses them.  So none stays: each is cancelled here, and starts again when
 * its entry is harvested in the next run.
 */
void uring_park_accepts(struct uring *uring)
{
	uint32_t number;
	int looks;

	for (looks = 0; uring->accepts != 0 && looks < PARK_LOOKS; looks++) {
		uint32_t armed = 0;
		int result;

		for (number = 1; number <= uring_slot_count(uring); number++) {
			struct uring_slot *slot = uring_slot_number(uring, number);

			if (slot == NULL || slot->base.verb != URING_ACCEPT || !in_kernel(slot) ||
			    slot->phase == PHASE_POLLING || slot->list != LIST_NONE)
				continue;
			armed++;
			if (looks != 0 || slot->base.state != STATE_IN_KERNEL)
				continue;
			if (uring_sq_room(uring) == 0)
				uring_flush(uring, 0);
			uring_push_cancel(uring, slot);
		}
		if (armed == 0)
			return;
		/* A shortage that passes leaves none armed. */
		uring_hand_over_all(uring);
		result = uring_flush(uring, IORING_ENTER_GETEVENTS);
		if ((result < 0 && !uring_wait_out(uring, result)) ||
		    uring_read_queue(uring, uring_put_aside) != 0)
			return;
	}
}

/* While shutting down: the entry's terminal completion, and nothing else of it. */
static int put_away(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot = NULL;
	int result = cqe->res;

	if (cqe->user_data >> TAG_SHIFT == TAG_OPERATION)
		slot = uring_slot_find(uring, cqe->user_data);
	if (slot == NULL || slot->list == LIST_DONE)
		return 0;
	if (uring_traits_of(slot)->stream && result >= 0) {
		if (slot->base.verb == URING_ACCEPT && slot->phase != PHASE_POLLING)
			close(result);
		result = -ECANCELED;
	}
	if (uring_traits_of(slot)->receive)
		uring_drop_buffer(uring, slot, cqe);
	if (cqe->flags & IORING_CQE_F_MORE)
		return 0;
	if (slot->list != LIST_NONE)
		uring_list_drop(uring, slot);
	slot->base.flags &= (uint16_t)~SLOT_LEFT_OVER;
	if (uring_is_own(slot))
		slot->base.state = STATE_QUEUED;
	else
		uring_done(uring, slot, slot->phase == PHASE_POLLING ? -ECANCELED : result);
	return 0;
}

static uint32_t count_in_kernel(const struct uring *uring)
{
	uint32_t count = 0;
	uint32_t number;

	for (number = 1; number <= uring_slot_count(uring); number++) {
		const struct uring_slot *slot = uring_slot_number(uring, number);

		count += slot != NULL && in_kernel(slot);
	}
	return count;
}

static void cancel_everything(struct uring *uring)
{
	struct io_uring_sync_cancel_reg request = {
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
		.timeout = {.tv_nsec = 10000000},
	};
	uint32_t number;

	if (uring_has(uring, UL_FEATURE_SYNC_CANCEL)) {
		int result = io_uring_register_sync_cancel(&uring->ring, &request);

		if (result >= 0 || result == -ENOENT || result == -ETIME || result == -EALREADY)
			return;
	}
	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot == NULL || !in_kernel(slot))
			continue;
		/* A cancel on the backlog, from where nothing is submitted any more. */
		if (slot->list != LIST_NONE)
			uring_list_drop(uring, slot);
		if (uring_sq_room(uring) == 0)
			uring_flush(uring, 0);
		uring_push_cancel(uring, slot);
	}
}

/*
 * End what is in the kernel and give each entry to `handle`, until the kernel
 * owes none or `limit_ns` have passed.
 */
static void drain(struct uring *uring, uring_entry_handler handle, uint64_t limit_ns)
{
	static const struct timespec moment = {0, 200000};
	uint64_t deadline_ns = monotonic_ns() + limit_ns;
	bool first = true;

	while (true) {
		int result = uring_flush(uring, IORING_ENTER_GETEVENTS);

		if (uring_read_queue(uring, handle) != 0 || count_in_kernel(uring) == 0)
			return;
		/* Of a ring that somebody has closed behind our back nothing more comes. */
		if ((result < 0 && !uring_wait_out(uring, result)) || monotonic_ns() >= deadline_ns)
			return;
		if (!first)
			nanosleep(&moment, NULL);
		first = false;
		cancel_everything(uring);
	}
}

static void start_in_new_ring(struct uring *uring, struct uring_slot *slot, bool forked)
{
	bool on_backlog = slot->list == LIST_BACKLOG;

	if (slot->base.flags & SLOT_LEFT_OVER || slot->phase == PHASE_READABLE ||
	    (slot->list != LIST_NONE && !on_backlog))
		return;
	if (on_backlog)
		uring_list_drop(uring, slot);
	if (slot->base.state == STATE_CANCELLING) {
		uring_done(uring, slot, -ECANCELED);
		return;
	}
	if (slot->base.state == STATE_IN_KERNEL) {
		slot->base.flags |= SLOT_BEGAN;
		/* One that only polls so far has done nothing. */
		if (!uring_traits_of(slot)->again && slot->phase != PHASE_POLLING) {
			/* A worker of the old ring may be at it; a parent's has its own memory. */
			if (!forked && uring_traits_of(slot)->borrows == BORROWS)
				slot->base.flags |= SLOT_UNSAFE;
			uring_done(uring, slot, -ECANCELED);
			return;
		}
		if (slot->phase == PHASE_MOVING)
			uring_move(slot);
		slot->phase = PHASE_DIRECT;
	}
	if (slot->base.verb == URING_TIMEOUT)
		uring_timeout_continue(slot);
	uring->statistics.rearmed++;
	if (uring_traits_of(slot)->receive || slot->base.flags & SLOT_SHARED) {
		/* Buffers of its own went back to the pool with the ring. */
		slot->phase = PHASE_DIRECT;
		uring_stream_start(uring, slot, true);
	} else if (slot->phase == PHASE_POLLING) {
		uring_push_poll(uring, slot, slot->poll_fd, slot->poll_events);
	} else {
		uring_push(uring, slot);
	}
}

/* Every operation that lives and is not about to be told its end. */
static void start_all(struct uring *uring, bool forked)
{
	uint32_t number;

	/* The driver's own polls may have been on the way to the old ring. */
	if (uring->wake_slot->list != LIST_NONE)
		uring_list_drop(uring, uring->wake_slot);
	if (uring->watches_slot->list != LIST_NONE)
		uring_list_drop(uring, uring->watches_slot);
	uring_wake_push(uring);
	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot != NULL && !uring_is_own(slot))
			start_in_new_ring(uring, slot, forked);
	}
}

static void forget_own_buffers(struct uring *uring)
{
	uint32_t number;

	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot != NULL && uring_traits_of(slot)->receive &&
		    (slot->base.flags & SLOT_LEFT_OVER) == 0)
			slot->buffer = -1;
	}
}

/*
 * Leave the ring of another thread.  One that only its thread may enter is
 * read and closed: closing ends its operations, and the kernel runs none of
 * them for a ring that is going.  Any other is drained first.
 */
static int leave_ring(struct uring *uring)
{
	withdraw_all(uring);
	if (uring_may_enter(uring)) {
		uring_ring_unregister(uring);
		drain(uring, uring_put_aside, REBUILD_NS);
	}
	if (uring_read_queue(uring, uring_put_aside) != 0)
		return -ENOMEM;
	uring_ring_close(uring);
	return 0;
}

int uring_rebuild(struct uring *uring)
{
	bool forked = uring->forked;
	unsigned pool;
	int result;

	if (forked)
		uring_leave_to_parent(uring);
	else if (uring->has_ring) {
		result = leave_ring(uring);
		if (result != 0)
			return result;
	}
	for (pool = 0; pool < POOLS; pool++)
		pool_detach(&uring->pools[pool], forked);
	forget_own_buffers(uring);
	if (uring->wake_fd < 0) {
		result = uring_wake_open(uring);
		if (result != 0)
			return result;
	}
	if (forked) {
		result = watches_rebuild(&uring->watches);
		if (result != 0)
			return result;
	}
	result = uring_ring_open(uring);
	if (result != 0)
		return result;
	result = uring_ring_enable(uring);
	if (result != 0) {
		uring_ring_close(uring);
		return result;
	}
	uring->forked = false;
	uring->statistics.rebuilt++;
	for (pool = 0; pool < POOLS; pool++)
		if (uring->pools[pool].base != NULL && uring_pool_wants_ring(uring, pool))
			pool_register(&uring->pools[pool], &uring->ring);
	start_all(uring, forked);
	return 0;
}

/* --- Shut down ------------------------------------------------------------ */

static bool borrows_memory(const struct uring *uring, const struct uring_slot *slot)
{
	uint8_t borrows = uring_traits_of(slot)->borrows;

	if (slot->phase == PHASE_POLLING)
		return false;
	return borrows == BORROWS ||
	       (borrows == BORROWS_IN_ENTER &&
	        (uring_may_enter(uring) ||
	         (uring->params.flags & IORING_SETUP_DEFER_TASKRUN) == 0));
}

static void end_all(struct uring *uring, bool unsafe)
{
	uint32_t number;

	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);
		bool owed;

		if (slot == NULL || uring_is_own(slot) || slot->list == LIST_DONE)
			continue;
		owed = in_kernel(slot);
		if (slot->list != LIST_NONE)
			uring_list_drop(uring, slot);
		if (owed && unsafe && borrows_memory(uring, slot)) {
			slot->base.flags |= SLOT_UNSAFE;
			if (uring_traits_of(slot)->receive)
				uring->pools[uring_pool_of(slot)].leaked = true;
		}
		slot->base.flags &= (uint16_t)~SLOT_LEFT_OVER;
		slot->phase = PHASE_DIRECT;
		uring_done(uring, slot, -ECANCELED);
	}
}

void uring_shutdown(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	uint32_t index;

	if (uring->closed)
		return;
	/* Another thread may fork now: it leaves the child nothing of what is taken apart here. */
	fork_forbid();
	uring->closing = true;
	fork_permit();
	watches_release(&uring->watches);
	uring->watches_fired = false;
	if (uring->forked)
		uring_leave_to_parent(uring);
	for (index = uring->left_over_next; index < uring->left_over_count; index++)
		put_away(uring, &uring->left_over[index]);
	uring->left_over_next = uring->left_over_count = 0;
	if (uring->has_ring) {
		withdraw_all(uring);
		if (uring_may_enter(uring)) {
			uring_ring_unregister(uring);
			drain(uring, put_away, SHUTDOWN_NS);
		} else {
			uring_read_queue(uring, put_away);
		}
	}
	end_all(uring, uring->has_ring && uring->enabled);
	uring->closed = true;
	uring_ring_close(uring);
	uring->done_ready = uring->lists[LIST_DONE].count;
}
