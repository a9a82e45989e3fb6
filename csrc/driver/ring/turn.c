/*
 * A turn and its harvest: submit and wait with one system call, then read the
 * completion queue.
 *
 * The head of the queue is published as soon as its entries are read, so the kernel
 * never sees a completion twice and its wait is never satisfied by an old one.
 */
#include "queue.h"

#include <unistd.h>

/* Further looks at work that the kernel still holds back after a wait. */
#define MORE_LOOKS 2

static inline unsigned kernel_flags(const struct uring *uring)
{
	return IO_URING_READ_ONCE(*uring->sq_kflags);
}

/* Move the lists of ours to the submission queue, as far as there is room. */
static void fill_queue(struct uring *uring)
{
	if (uring->lists[LIST_STARVED].count != 0)
		uring_feed_starved(uring);
	uring_fill_queue(uring);
}

/* Move all of it: the kernel gets at once what fills the queue. */
static void hand_over(struct uring *uring)
{
	fill_queue(uring);
	/* More than the queue holds goes in several loads. */
	while (uring->lists[LIST_BACKLOG].count != 0 && uring_flush(uring, 0) > 0)
		fill_queue(uring);
}

/* --- Waiting -------------------------------------------------------------- */

/*
 * Without IORING_ENTER_EXT_ARG (5.11) the end of the wait is an entry of its
 * own.  One that is still armed and ends no later is good enough: a turn may
 * end early.  False: there is no room for it, and nothing would end the wait.
 */
static bool arm_turn_timeout(struct uring *uring, int64_t timeout_ns)
{
	int64_t deadline_ns = (int64_t)monotonic_ns() + timeout_ns;
	struct io_uring_sqe *sqe;

	if (uring->turn_armed && uring->turn_deadline_ns <= deadline_ns)
		return true;
	if (uring_sq_room(uring) < 2)
		uring_flush(uring, 0);
	if (uring_sq_room(uring) == 0)
		return false;
	/* The old one stays in a queue of one entry, and ends a later turn early. */
	if (uring->turn_armed && uring_sq_room(uring) >= 2) {
		sqe = uring_next_sqe(uring, IORING_OP_TIMEOUT_REMOVE);
		sqe->fd = -1;
		sqe->addr = TAGGED(TAG_TURN_TIMEOUT, uring->turn_sequence);
		sqe->user_data = TAGGED(TAG_IGNORED, 0);
	}
	uring->turn_sequence++;
	uring->turn_armed = true;
	uring->turn_deadline_ns = deadline_ns;
	uring->turn_timespec.tv_sec = timeout_ns / 1000000000;
	uring->turn_timespec.tv_nsec = timeout_ns % 1000000000;
	sqe = uring_next_sqe(uring, IORING_OP_TIMEOUT);
	sqe->fd = -1;
	sqe->addr = (uintptr_t)&uring->turn_timespec;
	sqe->len = 1;
	sqe->user_data = TAGGED(TAG_TURN_TIMEOUT, uring->turn_sequence);
	return true;
}

/* Submit and sleep until there is an entry, or for `timeout_ns`. */
static int enter_and_wait(struct uring *uring, int64_t timeout_ns)
{
	struct __kernel_timespec timespec;
	struct io_uring_getevents_arg argument = { .sigmask_sz = _NSIG / 8 };
	unsigned flags = IORING_ENTER_GETEVENTS;

	if (timeout_ns > 0 && !uring_has(uring, UL_FEATURE_EXT_ARG)) {
		if (!arm_turn_timeout(uring, timeout_ns))
			return uring_flush(uring, flags);
	} else if (timeout_ns > 0) {
		timespec.tv_sec = timeout_ns / 1000000000;
		timespec.tv_nsec = timeout_ns % 1000000000;
		argument.ts = (uintptr_t)&timespec;
		return uring_enter(uring, uring->sq_tail - uring->sq_head, 1,
		             flags | IORING_ENTER_EXT_ARG, &argument, sizeof(argument));
	}
	return uring_enter(uring, uring->sq_tail - uring->sq_head, 1, flags, NULL, _NSIG / 8);
}

/* enter_and_wait(), but wake() ends it. */
static int sleep_in_kernel(struct uring *uring, int64_t timeout_ns)
{
	int result;

	atomic_store(&uring->sleeping, 1);
	if (atomic_load(&uring->woken)) {
		result = uring_flush(uring, IORING_ENTER_GETEVENTS);
	} else {
		uring->statistics.waits++;
		result = enter_and_wait(uring, timeout_ns);
	}
	atomic_store_explicit(&uring->sleeping, 0, memory_order_release);
	return result;
}

/* Registering costs two calls per run; this many calls pay for them. */
#define ENTERS_TO_REGISTER 32

/* The rarer work of a turn; true when there is a reason not to sleep. */
static bool turn_prepare(struct uring *uring)
{
	unsigned pool;

	for (pool = 0; pool < POOLS; pool++)
		if (pool_thirsty(&uring->pools[pool]))
			pool_fill(&uring->pools[pool]);
	if (uring->watches.count != 0 && !uring->watches_armed) {
		uring->watches_armed = true;
		uring->watches_slot->sqe.fd = uring->watches.epoll_fd;
		uring_push(uring, uring->watches_slot);
	}
	if (unlikely(uring->lists[LIST_STARVED].count + uring->lists[LIST_BACKLOG].count != 0))
		hand_over(uring);
	if (unlikely(uring->run_enters == ENTERS_TO_REGISTER) &&
	    uring_has(uring, UL_FEATURE_REGISTERED_FD) &&
	    (uring->enter_flags & IORING_ENTER_REGISTERED_RING) == 0)
		uring_ring_register(uring);
	uring->done_ready = uring->lists[LIST_DONE].count;
	/* The backlog must not wait for the end of a sleep. */
	return uring->done_ready != 0 || uring->lists[LIST_BACKLOG].count != 0 ||
	       uring->left_over_next != uring->left_over_count || uring->watches_fired ||
	       uring->lists[LIST_ACCEPTING].count != 0;
}

int uring_turn(struct ul_driver *driver, int64_t timeout_ns)
{
	struct uring *uring = uring_of(driver);
	bool something;
	unsigned flags;
	int looks;
	int result = 0;

	statistics_turn(&uring->statistics, &uring->batch_before);
	if (unlikely(uring->sq_limit == 0)) {
		if (uring->closed)
			return 0;
		result = uring_rebuild(uring);
		if (result != 0)
			return result;
	}
	something = turn_prepare(uring);
	flags = kernel_flags(uring);
	/*
	 * Work that waits for us need not end in a completion; to sleep after it
	 * would break immediate()'s promise, on which the caller keeps the GIL.
	 */
	if (timeout_ns != 0 && !something && !uring_has_entries(uring) &&
	    !(flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))) {
		result = sleep_in_kernel(uring, timeout_ns);
	} else if (uring->sq_tail != uring->sq_head ||
	           flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
		result = uring_flush(uring, IORING_ENTER_GETEVENTS);
	}
	if (unlikely(result == -EEXIST)) {
		/* Driven by another thread than began it: its ring, then. */
		result = uring_rebuild(uring);
		if (result == 0)
			result = uring_flush(uring, IORING_ENTER_GETEVENTS);
	}
	if (likely(result >= 0) || uring_wait_out(uring, result))
		result = 0;
	/*
	 * A deferred ring runs only some of its work in each call (6.13+), and
	 * a larger batch is worth a call more.
	 */
	flags = kernel_flags(uring);
	if (unlikely(flags & IORING_SQ_CQ_OVERFLOW))
		uring->statistics.cq_overflows++;
	for (looks = 0; looks < MORE_LOOKS && flags & IORING_SQ_TASKRUN; looks++) {
		if (uring_enter(uring, 0, 0, IORING_ENTER_GETEVENTS, NULL, _NSIG / 8) < 0)
			break;
		flags = kernel_flags(uring);
	}
	if (atomic_load_explicit(&uring->woken, memory_order_relaxed))
		atomic_exchange(&uring->woken, 0);
	uring->cq_end = io_uring_smp_load_acquire(uring->cq_ktail);
	return result;
}

bool uring_immediate(struct ul_driver *driver)
{
	const struct uring *uring = uring_of(driver);

	if (uring->sq_limit == 0)
		return uring->closed;
	return uring_has_entries(uring) ||
	       (kernel_flags(uring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0 ||
	       uring->lists[LIST_DONE].count != 0 ||
	       uring->left_over_next != uring->left_over_count ||
	       uring->lists[LIST_ACCEPTING].count != 0 ||
	       atomic_load_explicit(&uring->woken, memory_order_relaxed) != 0;
}

void uring_wake(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	uint64_t one = 1;
	int error;

	if (atomic_exchange(&uring->woken, 1) != 0 || !atomic_load(&uring->sleeping))
		return;
	error = errno;
	__atomic_fetch_add(&uring->statistics.wakes, 1, __ATOMIC_RELAXED);
	/* Full means that the loop is being woken. */
	if (write(uring->wake_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN || errno == EBADF);
	errno = error;
}

/* --- Completions ---------------------------------------------------------- */

/* The driver's own polls. */
static void own_poll_completed(struct uring *uring, struct uring_slot *slot,
                               const struct io_uring_cqe *cqe)
{
	uint64_t count;

	if (slot->base.verb == URING_WATCHES) {
		slot->base.state = STATE_QUEUED;
		uring->watches_armed = false;
		uring->watches_fired = true;
		return;
	}
	if (cqe->flags & IORING_CQE_F_MORE)
		return;
	/* One-shot polls see a level: make it low again. */
	if (read(uring->wake_fd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN);
	uring_push(uring, slot);
}

/* The rarer part of taking in an entry of `slot`; false when nothing is left to do. */
static bool entry_is_rare(struct uring *uring, struct uring_slot *slot,
                          const struct io_uring_cqe *cqe)
{
	if (uring_is_own(slot)) {
		own_poll_completed(uring, slot, cqe);
		return false;
	}
	slot->base.flags &= (uint16_t)~SLOT_LEFT_OVER;
	/* The cancel on the backlog is needed no longer. */
	if (slot->list != LIST_NONE && (cqe->flags & IORING_CQE_F_MORE) == 0)
		uring_list_drop(uring, slot);
	return true;
}

/* One entry: how many completions it makes, 0 or 1. */
static inline int entry_completed(struct uring *uring, const struct io_uring_cqe *cqe,
                                  struct ul_completion *out)
{
	struct uring_slot *slot;

	if (unlikely(cqe->user_data >> TAG_SHIFT != TAG_OPERATION)) {
		uring_tagged_completed(uring, cqe);
		return 0;
	}
	slot = uring_slot_find(uring, cqe->user_data);
	if (unlikely(slot == NULL))
		return 0;
	if (unlikely((slot->list | slot->phase) != 0 || slot->base.flags & SLOT_LEFT_OVER ||
	             uring_is_own(slot))) {
		if (!entry_is_rare(uring, slot, cqe))
			return 0;
		if (slot->phase == PHASE_POLLING)
			return uring_polling_completed(uring, slot, cqe->res, out);
	}
	switch (slot->base.verb) {
	case URING_RECV:
		return uring_recv_completed(uring, slot, cqe, out);
	case URING_RECV_FROM:
		return uring_recv_from_completed(uring, slot, cqe, out);
	case URING_ACCEPT:
		return uring_accept_completed(uring, slot, cqe, out);
	default:
		/* restrictions.c has none with a second entry, as a SEND_ZC's would be. */
		assert((cqe->flags & IORING_CQE_F_MORE) == 0);
		return uring_operation_completed(uring, slot, cqe->res, out);
	}
}

static inline void prefetch_slot(const struct uring *uring, uint64_t user_data)
{
	uint32_t number = (uint32_t)user_data;
	const char *slot;

	if (unlikely(number == 0 || number > uring->slots.block_count * SLOTS_PER_BLOCK))
		return;
	slot = (const char *)slot_at(&uring->slots, number - 1);
	__builtin_prefetch(slot);
	__builtin_prefetch(slot + 64);
}

static int harvest_done(struct uring *uring, struct ul_completion *out, int capacity)
{
	int count = 0;

	while (uring->done_ready != 0 && count < capacity) {
		struct uring_slot *slot = uring_slot_at(uring, uring->lists[LIST_DONE].first);
		uint32_t flags = slot->base.flags & SLOT_UNSAFE ? UL_KEEP : 0;

		uring->done_ready--;
		uring_list_drop(uring, slot);
		count += uring_finish(uring, slot, out + count, slot->result, flags);
	}
	return count;
}

static int harvest_watches(struct uring *uring, struct ul_completion *out, int capacity)
{
	int count;

	uring->watches_fired = false;
	count = watches_harvest(&uring->watches, out, capacity);
	if (unlikely(uring->watches.stale) && !uring->watches_armed)
		watches_rebuild(&uring->watches);
	return count > 0 ? count : 0;
}

/* Out of line: a turn that has found nothing is the cheaper for it. */
__attribute__((noinline))
static int harvest_found(struct uring *uring, struct ul_completion *out, int capacity)
{
	uint32_t head = uring->cq_head;
	int count = 0;

	uring->batch = out;
	while (unlikely(uring->left_over_next != uring->left_over_count) && count < capacity)
		count += entry_completed(uring, &uring->left_over[uring->left_over_next++],
		                         out + count);
	while (head != uring->cq_end && count < capacity) {
		const struct io_uring_cqe *cqe = &uring->cqes[head & uring->cq_mask];

		head++;
		if (head != uring->cq_end)
			prefetch_slot(uring, uring->cqes[head & uring->cq_mask].user_data);
		count += entry_completed(uring, cqe, out + count);
	}
	if (head != uring->cq_head) {
		uring->cq_head = head;
		io_uring_smp_store_release(uring->cq_khead, head);
	}
	if (unlikely(uring->lists[LIST_ACCEPTING].count != 0) && count < capacity)
		count += uring_harvest_accepts(uring, out + count, capacity - count);
	if (unlikely(uring->done_ready != 0) && count < capacity)
		count += harvest_done(uring, out + count, capacity - count);
	if (unlikely(uring->watches_fired) && count < capacity)
		count += harvest_watches(uring, out + count, capacity - count);
	uring->statistics.completed += (uint32_t)count;
	return count;
}

int uring_harvest(struct ul_driver *driver, struct ul_completion *out, int capacity)
{
	struct uring *uring = uring_of(driver);

	if (uring->cq_head == uring->cq_end &&
	    uring->left_over_next == uring->left_over_count &&
	    (uring->lists[LIST_ACCEPTING].count | uring->done_ready |
	     uring->watches_fired) == 0)
		return 0;
	return harvest_found(uring, out, capacity);
}
