/*
 * The life of a ring: made, enabled by the thread that drives it, made anew in
 * another thread or process, shut down.
 *
 * A ring belongs to one thread (IORING_SETUP_SINGLE_ISSUER): only it may enter,
 * and when it is gone nobody can even cancel.  A fork's child inherits nothing
 * but the ring's descriptor, which is closed inside fork().
 */
#include "uring.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <poll.h>
#include <unistd.h>

/* Entries stay in the cache: a queue is walked through from end to end. */
#define SQ_ENTRIES 256
#define CQ_ENTRIES 2048
#define BUFFER_COUNT 256
#define BUFFER_SIZE 4096
#define DATAGRAM_COUNT 64
#define DATAGRAM_SIZE (256 * 1024)
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

/* --- The ring ------------------------------------------------------------- */

void uring_forget_ring(struct uring *uring)
{
	uring->has_ring = false;
	uring->enabled = false;
	uring->sq_limit = 0;
	uring->sq_head = uring->sq_tail = 0;
	uring->cq_head = uring->cq_end = uring->cq_looked = 0;
	uring->turn_armed = false;
	uring->watches_armed = false;
	/* Its poll has gone with the ring, and a set without watches is not polled again. */
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
	struct ring_size size = { uring->options.sq_entries, uring->options.cq_entries };
	int result;

	do {
		fork_forbid();
		result = ring_make(uring, &size);
		fork_permit();
	} while (result == -ENOMEM && room_again(&size));
	return result;
}

/* From here on the ring is the calling thread's. */
int uring_ring_enable(struct uring *uring)
{
	unsigned workers[2] = { 0, WORKERS_UNBOUNDED };
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

/* What only a ring can be asked for: nobody but its thread may enter it. */
bool uring_may_enter(const struct uring *uring)
{
	return uring->has_ring && uring->enabled &&
	       (uring_is_here(uring) ||
	        (uring->params.flags & IORING_SETUP_SINGLE_ISSUER) == 0);
}

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

/* --- Made and remade ------------------------------------------------------ */

static uint32_t option(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

static void fill_options(struct ul_options *options)
{
	options->sq_entries = option(options->sq_entries, SQ_ENTRIES);
	options->cq_entries = option(options->cq_entries, CQ_ENTRIES);
	options->buffer_count = option(options->buffer_count, BUFFER_COUNT);
	options->buffer_size = option(options->buffer_size, BUFFER_SIZE);
	options->datagram_count = option(options->datagram_count, DATAGRAM_COUNT);
	options->datagram_size = option(options->datagram_size, DATAGRAM_SIZE);
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

/*
 * That rings work is found out once per process.  A seccomp filter that came since
 * may let one be made and refuse its use; what it allows fails for another reason.
 */
static int uring_refused(struct uring *uring)
{
	int results[2];
	int index;

	results[0] = io_uring_enter((unsigned)uring->ring.ring_fd, 0, 0, 0, NULL);
	results[1] = io_uring_register((unsigned)uring->ring.ring_fd, IORING_REGISTER_LAST,
	                               NULL, 0);
	for (index = 0; index < 2; index++)
		if (results[index] == -EPERM || results[index] == -EACCES ||
		    results[index] == -ENOSYS)
			return results[index];
	return 0;
}

int uring_open(const struct ul_options *options, struct ul_driver **driver)
{
	struct uring *uring = aligned_alloc(64, (sizeof(*uring) + 63) / 64 * 64);
	int result;

	if (uring == NULL)
		return -ENOMEM;
	memset(uring, 0, sizeof(*uring));
	uring->base.table = &uring_table;
	uring->wake_fd = -1;
	watches_init(&uring->watches);
	if (options != NULL)
		uring->options = *options;
	fill_options(&uring->options);
	pool_init(&uring->pools[POOL_SMALL], POOL_SMALL, uring->options.buffer_count,
	          uring->options.buffer_size);
	pool_init(&uring->pools[POOL_DATAGRAM], POOL_DATAGRAM, uring->options.datagram_count,
	          uring->options.datagram_size + (uint32_t)(sizeof(struct sockaddr_storage) +
	          sizeof(struct io_uring_recvmsg_out)));
	result = slots_init(&uring->slots, sizeof(struct uring_slot));
	if (result != 0)
		goto fail;
	/* Before there is anything that a child must not keep. */
	result = uring_fork_add(uring);
	if (result != 0)
		goto fail;
	result = uring_ring_open(uring);
	if (result != 0)
		goto fail;
	result = uring_refused(uring);
	if (result != 0)
		goto fail;
	result = uring_wake_open(uring);
	if (result != 0)
		goto fail;
	result = -ENOMEM;
	uring->wake_slot = uring_start(uring, URING_WAKE, NULL, IORING_OP_POLL_ADD, -1);
	uring->watches_slot = uring_start(uring, URING_WATCHES, NULL, IORING_OP_POLL_ADD, -1);
	if (uring->wake_slot == NULL || uring->watches_slot == NULL)
		goto fail;
	uring_poll_events(&uring->wake_slot->sqe, POLLIN);
	uring_poll_events(&uring->watches_slot->sqe, POLLIN);
	uring->statistics.in_flight = 0;
	uring_wake_push(uring);
	*driver = &uring->base;
	return 0;

fail:
	uring->closed = true;
	uring_destroy(&uring->base);
	return result;
}

int uring_begin(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	int result = 0;

	if (uring->closed)
		return -ESHUTDOWN;
	if (!uring->has_ring || (uring->enabled && !uring_is_here(uring)))
		result = uring_rebuild(uring);
	else if (!uring->enabled)
		result = uring_ring_enable(uring);
	if (result != 0)
		return result;
	uring->running = true;
	uring->run_enters = 0;
	return 0;
}

void uring_end(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);

	uring->running = false;
	if (!uring->has_ring)
		return;
	/* What was written last leaves now, and not with the next run. */
	uring_hand_over_all(uring);
	uring_park_accepts(uring);
	/* Completions outside the queue would be lost with the ring. */
	while (IO_URING_READ_ONCE(*uring->sq_kflags) & IORING_SQ_CQ_OVERFLOW) {
		if (uring_read_queue(uring, uring_keep) != 0 ||
		    uring_flush(uring, IORING_ENTER_GETEVENTS) < 0)
			break;
	}
	/* A registered number holds the ring open as long as the thread lives. */
	uring_ring_unregister(uring);
}

void uring_destroy(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	struct uring_cold *cold;
	unsigned pool;
	uint32_t number;

	uring_shutdown(driver);
	fork_remove(&uring->fork_node);
	uring_ring_close(uring);
	watches_release(&uring->watches);
	for (number = 1; number <= uring_slot_count(uring); number++) {
		struct uring_slot *slot = uring_slot_number(uring, number);

		if (slot != NULL)
			uring_slot_end(uring, slot);
	}
	while ((cold = uring->cold_free) != NULL) {
		uring->cold_free = cold->next;
		free(cold);
	}
	for (pool = 0; pool < POOLS; pool++)
		pool_release(&uring->pools[pool]);
	slots_release(&uring->slots);
	if (uring->wake_fd >= 0)
		close(uring->wake_fd);
	free(uring->kept);
	free(uring->inherited);
	free(uring);
}
