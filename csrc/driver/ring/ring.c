/*
 * One ring: opened, enabled by the thread that drives it, entered, read, closed; the
 * pools of buffers that it picks from, and the poll that wakes it.
 *
 * A ring belongs to one thread (IORING_SETUP_SINGLE_ISSUER): only it may enter,
 * and when it is gone nobody can even cancel.  A fork's child inherits nothing
 * but the ring's descriptor, which is closed inside fork().
 */
#include "queue.h"
#include "setup.h"

#include <sys/eventfd.h>
#include <time.h>

/* Worker threads, for files and splice only: {bounded, unbounded}. */
#define WORKERS_UNBOUNDED 16

/* Thread ids are used again; these numbers are not. */
static uint64_t this_thread(void)
{
	static _Atomic uint64_t last;
	static _Thread_local uint64_t number;

	if (number == 0)
		number = atomic_fetch_add(&last, 1) + 1;
	return number;
}

/* --- Opened and closed ---------------------------------------------------- */

void uring_forget_ring(struct uring *uring)
{
	uring->has_ring = false;
	uring->enabled = false;
	uring->sq_limit = 0;
	uring->sq_head = uring->sq_tail = 0;
	uring->cq_head = uring->cq_end = uring->cq_looked = 0;
	uring->turn_armed = false;
	uring->watches_armed = false;
	/* The poll of the watches has gone with the ring; a set without any is not polled again. */
	if (uring->watches_slot != NULL)
		uring->watches_slot->base.state = STATE_QUEUED;
}

/* A ring that no child inherits.  Forks are forbidden.  0 or -errno. */
static int ring_make(struct uring *uring, const struct ring_size *size)
{
	int result = setup_ring(&uring->ring, size, uring->options.disable, &uring->params,
	                        &uring->features);
	unsigned index;

	if (result != 0)
		return result;
	result = io_uring_ring_dontfork(&uring->ring);
	if (result != 0) {
		room_close(&uring->ring);
		return result;
	}
	uring->has_ring = true;
	uring->sqes = uring->ring.sq.sqes;
	uring->sq_khead = uring->ring.sq.khead;
	uring->sq_ktail = uring->ring.sq.ktail;
	uring->sq_kflags = uring->ring.sq.kflags;
	uring->sq_mask = uring->params.sq_entries - 1;
	uring->sq_limit = uring->params.sq_entries;
	uring->sq_head = uring->sq_tail = *uring->sq_khead;
	uring->cqes = uring->ring.cq.cqes;
	uring->cq_khead = uring->ring.cq.khead;
	uring->cq_ktail = uring->ring.cq.ktail;
	uring->cq_mask = uring->params.cq_entries - 1;
	uring->cq_head = uring->cq_end = uring->cq_looked = *uring->cq_khead;
	/* Entries are used in order, so the index array never changes (none since 6.6). */
	if ((uring->params.flags & IORING_SETUP_NO_SQARRAY) == 0)
		for (index = 0; index < uring->params.sq_entries; index++)
			uring->ring.sq.array[index] = index;
	uring->enter_fd = uring->ring.ring_fd;
	/* An idle loop is not one that waits for a disk. */
	uring->enter_flags = uring_has(uring, UL_FEATURE_NO_IOWAIT) ? IORING_ENTER_NO_IOWAIT : 0;
	uring->enabled = false;
	return 0;
}

int uring_ring_open(struct uring *uring)
{
	struct ring_size size = {uring->options.sq_entries, uring->options.cq_entries};
	int result;

	do {
		fork_forbid();
		result = ring_make(uring, &size);
		fork_permit();
	} while (result == -ENOMEM && room_again(&size));
	return result;
}

/* Makes the ring the calling thread's. */
int uring_ring_enable(struct uring *uring)
{
	unsigned workers[2] = {0, WORKERS_UNBOUNDED};
	int result = 0;

	if (uring->params.flags & IORING_SETUP_R_DISABLED)
		result = io_uring_register((unsigned)uring->ring.ring_fd,
		                           IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (result < 0)
		return result;
	/* 5.15; without it there is the limit of processes. */
	io_uring_register_iowq_max_workers(&uring->ring, workers);
	uring->thread = this_thread();
	uring->enabled = true;
	return 0;
}

/* Enter it by a number of this thread's, which spares the kernel a search. */
void uring_ring_register(struct uring *uring)
{
	if (io_uring_register_ring_fd(&uring->ring) != 1) {
		uring->features &= ~(uint64_t)UL_FEATURE_REGISTERED_FD;
		return;
	}
	uring->enter_fd = uring->ring.enter_ring_fd;
	uring->enter_flags |= IORING_ENTER_REGISTERED_RING;
}

void uring_ring_unregister(struct uring *uring)
{
	if ((uring->enter_flags & IORING_ENTER_REGISTERED_RING) == 0)
		return;
	io_uring_unregister_ring_fd(&uring->ring);
	uring->enter_flags &= ~(unsigned)IORING_ENTER_REGISTERED_RING;
	uring->enter_fd = uring->ring.ring_fd;
}

void uring_ring_close(struct uring *uring)
{
	if (!uring->has_ring)
		return;
	uring_ring_unregister(uring);
	/* Between the two a child would close whatever has got the number. */
	fork_forbid();
	room_close(&uring->ring);
	uring_forget_ring(uring);
	fork_permit();
}

bool uring_is_here(const struct uring *uring)
{
	return uring->thread == this_thread();
}

/* A ring with a single issuer may be entered by its own thread only. */
bool uring_may_enter(const struct uring *uring)
{
	return uring->has_ring && uring->enabled &&
	       (uring_is_here(uring) ||
	        (uring->params.flags & IORING_SETUP_SINGLE_ISSUER) == 0);
}

/* --- Entered and read ----------------------------------------------------- */

/* The submission queue is written by us directly: its tail is published here only. */
int uring_enter(struct uring *uring, unsigned to_submit, unsigned wait_for, unsigned flags,
                void *argument, size_t argument_size)
{
	uint32_t head;
	int result;

	uring->statistics.enters++;
	uring->run_enters++;
	io_uring_smp_store_release(uring->sq_ktail, uring->sq_tail);
	result = io_uring_enter2((unsigned)uring->enter_fd, to_submit, wait_for,
	                         flags | uring->enter_flags, argument, argument_size);
	/* The result counts entries only when nothing else was worth reporting. */
	head = io_uring_smp_load_acquire(uring->sq_khead);
	uring->statistics.submitted += head - uring->sq_head;
	uring->sq_head = head;
	return result;
}

bool uring_wait_out(const struct uring *uring, int error)
{
	static const struct timespec moment = {0, 1000000};

	switch (error) {
	case -EINTR:
	case -ETIME:
	/* Too many completions wait outside the queue: read the queue first. */
	case -EBUSY:
		return true;
	case -EAGAIN:
	case -ENOMEM:
		/* Out of memory for requests; in flight ones give theirs back. */
		if (!uring_has_entries(uring))
			nanosleep(&moment, NULL);
		return true;
	default:
		return false;
	}
}

int uring_flush(struct uring *uring, unsigned flags)
{
	return uring_enter(uring, uring->sq_tail - uring->sq_head, 0, flags, NULL, _NSIG / 8);
}

int uring_read_queue(struct uring *uring, uring_entry_handler handle)
{
	uint32_t tail = io_uring_smp_load_acquire(uring->cq_ktail);
	int result = 0;

	while (uring->cq_head != tail) {
		result = handle(uring, &uring->cqes[uring->cq_head & uring->cq_mask]);
		/* An entry that there is no memory for stays where it is. */
		if (result != 0)
			break;
		uring->cq_head++;
	}
	uring->cq_end = uring->cq_head;
	io_uring_smp_store_release(uring->cq_khead, uring->cq_head);
	return result;
}

/* --- What hangs on it ----------------------------------------------------- */

/*
 * Without DEFER_TASKRUN a receive in the kernel goes on whenever the thread leaves a
 * system call, and takes a datagram socket's error from the send that would have been
 * told it.  A poll takes nothing; then the receive comes after it, with its own buffer.
 */
bool uring_pool_wants_ring(const struct uring *uring, unsigned pool)
{
	if (pool != POOL_DATAGRAM)
		return uring_has(uring, UL_FEATURE_BUFFER_RING);
	return uring_has(uring, UL_FEATURE_MULTISHOT_RECV) &&
	       uring_has(uring, UL_FEATURE_DEFER_TASKRUN);
}

/* A pool is mapped, and handed to the ring, when it is first needed. */
int uring_pool_prepare(struct uring *uring, unsigned pool)
{
	int result;

	if (likely(uring->pools[pool].base != NULL))
		return 0;
	result = pool_open(&uring->pools[pool]);
	/* Without a ring of buffers, receives bring their own. */
	if (result == 0 && uring_pool_wants_ring(uring, pool) && uring->has_ring &&
	    (!uring->enabled || uring_may_enter(uring)))
		pool_register(&uring->pools[pool], &uring->ring);
	return result;
}

int uring_wake_open(struct uring *uring)
{
	uring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return uring->wake_fd >= 0 ? 0 : -errno;
}

void uring_wake_push(struct uring *uring)
{
	uring->wake_slot->sqe.fd = uring->wake_fd;
	uring->wake_slot->sqe.len =
		uring_has(uring, UL_FEATURE_MULTISHOT_POLL) ? IORING_POLL_ADD_MULTI : 0;
	uring_push(uring, uring->wake_slot);
}
