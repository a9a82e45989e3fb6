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
#include <time.h>
#include <unistd.h>

/* Entries stay in the cache: a queue is walked through from end to end. */
#define SQ_ENTRIES 256
#define CQ_ENTRIES 4096
#define BUFFER_COUNT 256
#define BUFFER_SIZE 4096
#define BULK_COUNT 16
#define BULK_SIZE (256 * 1024)
#define DATAGRAM_COUNT 64
#define DATAGRAM_SIZE (256 * 1024)
/* Worker threads, for files and splice only: {bounded, unbounded}. */
#define WORKERS_UNBOUNDED 16
/* How long the kernel may take to let go of our memory. */
#define SHUTDOWN_NS UINT64_C(1000000000)
#define REBUILD_NS UINT64_C(100000000)

uint64_t uring_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

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

static void forget_ring(struct uring *uring)
{
	uring->has_ring = false;
	uring->enabled = false;
	uring->sq_limit = 0;
	uring->sq_head = uring->sq_tail = 0;
	uring->cq_head = uring->cq_end = 0;
	uring->turn_armed = false;
	uring->watches_armed = false;
}

/* In the child of a fork: see fork.h. */
static void ring_in_child(struct ul_fork_node *node)
{
	struct uring *uring =
		(struct uring *)((char *)node - offsetof(struct uring, fork_node));

	if (uring->has_ring)
		close(uring->ring.ring_fd);
	if (uring->wake_fd >= 0)
		close(uring->wake_fd);
	uring->wake_fd = -1;
	forget_ring(uring);
	uring->kept_next = uring->kept_count = 0;
	uring->watches_fired = false;
	uring->forked = true;
	atomic_store(&uring->sleeping, 0);
}

static int open_ring(struct uring *uring)
{
	int result = ul_setup(&uring->ring, uring->options.sq_entries, uring->options.cq_entries,
	                      uring->options.disable, &uring->params, &uring->features);
	unsigned index;

	if (result != 0)
		return result;
	result = io_uring_ring_dontfork(&uring->ring);
	if (result != 0) {
		io_uring_queue_exit(&uring->ring);
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
	uring->cq_head = uring->cq_end = *uring->cq_khead;
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

/* From here on the ring is the calling thread's. */
static int enable_ring(struct uring *uring)
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

static void unregister_fd(struct uring *uring)
{
	if ((uring->enter_flags & IORING_ENTER_REGISTERED_RING) == 0)
		return;
	io_uring_unregister_ring_fd(&uring->ring);
	uring->enter_flags &= ~(unsigned)IORING_ENTER_REGISTERED_RING;
	uring->enter_fd = uring->ring.ring_fd;
}

static void close_ring(struct uring *uring)
{
	if (!uring->has_ring)
		return;
	unregister_fd(uring);
	io_uring_queue_exit(&uring->ring);
	forget_ring(uring);
}

/* What only a ring can be asked for: nobody but its thread may enter it. */
static bool may_enter(const struct uring *uring)
{
	return uring->has_ring && uring->enabled &&
	       (uring->thread == this_thread() ||
	        (uring->params.flags & IORING_SETUP_SINGLE_ISSUER) == 0);
}

/* A pool is mapped, and handed to the ring, when it is first needed. */
int uring_pool_prepare(struct uring *uring, unsigned pool)
{
	bool wants_ring = pool == POOL_DATAGRAM ?
	                          uring_has(uring, UL_FEATURE_MULTISHOT_RECV) :
	                          uring_has(uring, UL_FEATURE_BUFFER_RING);
	int result;

	if (likely(uring->pools[pool].base != NULL))
		return 0;
	result = ul_pool_open(&uring->pools[pool]);
	/* Without a ring of buffers, receives bring their own. */
	if (result == 0 && wants_ring && uring->has_ring &&
	    (!uring->enabled || may_enter(uring)))
		ul_pool_register(&uring->pools[pool], &uring->ring);
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
	options->bulk_count = option(options->bulk_count, BULK_COUNT);
	options->bulk_size = option(options->bulk_size, BULK_SIZE);
	options->datagram_count = option(options->datagram_count, DATAGRAM_COUNT);
	options->datagram_size = option(options->datagram_size, DATAGRAM_SIZE);
}

static int open_wake(struct uring *uring)
{
	uring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return uring->wake_fd >= 0 ? 0 : -errno;
}

static void push_wake(struct uring *uring)
{
	uring->wake_slot->sqe.fd = uring->wake_fd;
	uring->wake_slot->sqe.len =
		uring_has(uring, UL_FEATURE_MULTISHOT_POLL) ? IORING_POLL_ADD_MULTI : 0;
	uring_push(uring, uring->wake_slot);
}

int ul_uring_open(const struct ul_options *options, struct ul_driver **driver)
{
	struct uring *uring = aligned_alloc(64, (sizeof(*uring) + 63) / 64 * 64);
	int result;

	if (uring == NULL)
		return -ENOMEM;
	memset(uring, 0, sizeof(*uring));
	uring->base.table = &ul_uring_table;
	uring->wake_fd = -1;
	uring->watches.epoll_fd = -1;
	if (options != NULL)
		uring->options = *options;
	fill_options(&uring->options);
	ul_pool_init(&uring->pools[POOL_SMALL], POOL_SMALL, uring->options.buffer_count,
	             uring->options.buffer_size);
	ul_pool_init(&uring->pools[POOL_BULK], POOL_BULK, uring->options.bulk_count,
	             uring->options.bulk_size);
	ul_pool_init(&uring->pools[POOL_DATAGRAM], POOL_DATAGRAM, uring->options.datagram_count,
	             uring->options.datagram_size + (uint32_t)(sizeof(struct sockaddr_storage) +
	             sizeof(struct io_uring_recvmsg_out)));
	result = ul_slots_init(&uring->slots, sizeof(struct uring_slot));
	if (result != 0)
		goto fail;
	result = open_ring(uring);
	if (result != 0)
		goto fail;
	result = open_wake(uring);
	if (result != 0)
		goto fail;
	result = ul_watches_init(&uring->watches);
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
	push_wake(uring);
	uring->fork_node.in_child = ring_in_child;
	result = ul_fork_add(&uring->fork_node);
	if (result != 0)
		goto fail;
	*driver = &uring->base;
	return 0;

fail:
	uring->closed = true;
	uring_destroy(&uring->base);
	return result;
}

static struct uring_slot *slot_number(const struct uring *uring, uint32_t number)
{
	struct uring_slot *slot = uring_slot_at(uring, number);

	return slot->base.state != UL_FREE ? slot : NULL;
}

static uint32_t slot_count(const struct uring *uring)
{
	return uring->slots.block_count * UL_SLOTS_PER_BLOCK;
}

static bool is_receive(const struct uring_slot *slot)
{
	return slot->base.verb == URING_RECV || slot->base.verb == URING_RECV_FROM;
}

/* The kernel owes a completion entry for `slot`. */
static bool in_kernel(const struct uring_slot *slot)
{
	if (slot->base.flags & SLOT_KEPT)
		return false;
	if (slot->base.state == UL_CANCELLING)
		return true;
	/* On the backlog in this state is only a cancel. */
	return slot->base.state == UL_IN_KERNEL;
}

/* Everything that the kernel has not seen, back from the queue to the backlog. */
static void withdraw_all(struct uring *uring)
{
	uint32_t number;

	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot == NULL || slot->base.flags & SLOT_LISTED ||
		    slot->base.state != UL_IN_KERNEL || !uring_unsubmitted(uring, slot))
			continue;
		uring_withdraw(uring, slot);
		slot->base.state = UL_QUEUED;
		/* The driver's own polls are made anew with each ring. */
		if (slot->base.verb < URING_WAKE)
			uring_list_add(uring, &uring->backlog, slot, SLOT_BACKLOG);
	}
}

static int keep(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot = NULL;
	struct io_uring_cqe *kept;

	if (cqe->user_data >> TAG_SHIFT == TAG_OPERATION)
		slot = uring_slot_find(uring, cqe->user_data);
	if (slot == NULL)
		return 0;
	if (slot->base.verb >= URING_WAKE) {
		if ((cqe->flags & IORING_CQE_F_MORE) == 0)
			slot->base.state = UL_QUEUED;
		return 0;
	}
	kept = realloc(uring->kept, (uring->kept_count + 1) * sizeof(*kept));
	if (kept == NULL)
		return -ENOMEM;
	uring->kept = kept;
	kept[uring->kept_count++] = *cqe;
	/* So that the pool does not take it for the old ring's. */
	if (is_receive(slot) && cqe->flags & IORING_CQE_F_BUFFER)
		ul_pool_lend(&uring->pools[slot->pool],
		             cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
		slot->base.flags |= SLOT_KEPT;
		if (is_receive(slot) && slot->buffer >= 0)
			ul_pool_lend(&uring->pools[slot->pool], (uint32_t)slot->buffer);
		/* A cancel of it need not be submitted any more. */
		if (slot->base.flags & SLOT_BACKLOG)
			uring_list_drop(uring, slot);
	}
	return 0;
}

/* While shutting down: the entry's terminal completion, and nothing else of it. */
static int put_away(struct uring *uring, const struct io_uring_cqe *cqe)
{
	struct uring_slot *slot = NULL;
	int result = cqe->res;

	if (cqe->user_data >> TAG_SHIFT == TAG_OPERATION)
		slot = uring_slot_find(uring, cqe->user_data);
	if (slot == NULL || slot->base.flags & SLOT_DONE)
		return 0;
	if (slot->base.verb <= URING_ACCEPT && result >= 0) {
		if (slot->base.verb == URING_ACCEPT && (slot->base.flags & SLOT_POLLING) == 0)
			close(result);
		result = -ECANCELED;
	}
	if (is_receive(slot))
		uring_drop_buffer(uring, slot, cqe);
	if (cqe->flags & IORING_CQE_F_MORE)
		return 0;
	if (slot->base.flags & SLOT_LISTED)
		uring_list_drop(uring, slot);
	slot->base.flags &= (uint16_t)~SLOT_KEPT;
	if (slot->base.verb >= URING_WAKE)
		slot->base.state = UL_QUEUED;
	else
		uring_done(uring, slot, slot->base.flags & SLOT_POLLING ? -ECANCELED : result);
	return 0;
}

typedef int (*entry_handler)(struct uring *uring, const struct io_uring_cqe *cqe);

static int read_queue(struct uring *uring, entry_handler handle)
{
	uint32_t tail = io_uring_smp_load_acquire(uring->cq_ktail);
	int result = 0;

	while (uring->cq_head != tail && result == 0)
		result = handle(uring, &uring->cqes[uring->cq_head++ & uring->cq_mask]);
	uring->cq_end = uring->cq_head;
	io_uring_smp_store_release(uring->cq_khead, uring->cq_head);
	return result;
}

static uint32_t count_in_kernel(const struct uring *uring)
{
	uint32_t count = 0;
	uint32_t number;

	for (number = 1; number <= slot_count(uring); number++) {
		const struct uring_slot *slot = slot_number(uring, number);

		count += slot != NULL && in_kernel(slot);
	}
	return count;
}

static void cancel_everything(struct uring *uring)
{
	struct io_uring_sync_cancel_reg request = {
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
		.timeout = { .tv_nsec = 10000000 },
	};
	uint32_t number;

	if (uring_has(uring, UL_FEATURE_SYNC_CANCEL)) {
		int result = io_uring_register_sync_cancel(&uring->ring, &request);

		if (result >= 0 || result == -ENOENT || result == -ETIME || result == -EALREADY)
			return;
	}
	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot == NULL || !in_kernel(slot) || slot->base.flags & SLOT_LISTED)
			continue;
		if (uring_sq_room(uring) == 0)
			uring_flush(uring, 0);
		uring_push_cancel(uring, slot);
	}
}

/*
 * End what is in the kernel and give each entry to `handle`, until the kernel
 * owes none or `limit_ns` have passed.
 */
static void drain(struct uring *uring, entry_handler handle, uint64_t limit_ns)
{
	static const struct timespec moment = { 0, 200000 };
	uint64_t deadline_ns = uring_now_ns() + limit_ns;
	bool first = true;

	while (true) {
		uring_flush(uring, IORING_ENTER_GETEVENTS);
		if (read_queue(uring, handle) != 0 || count_in_kernel(uring) == 0)
			return;
		if (uring_now_ns() >= deadline_ns)
			return;
		if (!first)
			nanosleep(&moment, NULL);
		first = false;
		cancel_everything(uring);
	}
}

/* May the operation be done twice if it was done once, unknown to us? */
static bool may_repeat(const struct uring_slot *slot)
{
	return slot->base.verb != URING_WRITE && slot->base.verb != URING_SPLICE &&
	       slot->base.verb != URING_REQUEST;
}

static void start_in_new_ring(struct uring *uring, struct uring_slot *slot)
{
	bool on_backlog = (slot->base.flags & SLOT_BACKLOG) != 0;

	if (slot->base.flags & (SLOT_KEPT | SLOT_DONE | SLOT_STARVED))
		return;
	if (on_backlog)
		uring_list_drop(uring, slot);
	if (slot->base.state == UL_CANCELLING) {
		uring_done(uring, slot, -ECANCELED);
		return;
	}
	if (slot->base.state == UL_IN_KERNEL) {
		slot->base.flags |= SLOT_BEGAN;
		if (!may_repeat(slot)) {
			uring_done(uring, slot, -ECANCELED);
			return;
		}
		slot->base.flags &= (uint16_t)~(SLOT_POLLING | SLOT_MOVING);
	}
	if (slot->base.verb == URING_TIMEOUT) {
		uint64_t now = uring_now_ns();
		uint64_t left = slot->cold->deadline_ns > now ? slot->cold->deadline_ns - now : 0;

		slot->cold->timespec.tv_sec = (int64_t)(left / 1000000000);
		slot->cold->timespec.tv_nsec = (long long)(left % 1000000000);
	}
	uring->statistics.rearmed++;
	if (is_receive(slot)) {
		/* Buffers of its own went back to the pool with the ring. */
		slot->base.flags &= (uint16_t)~SLOT_POLLING;
		uring_stream_start(uring, slot, true);
	} else if (slot->base.flags & SLOT_POLLING) {
		uring_push_poll(uring, slot, slot->poll_fd, slot->poll_events);
	} else {
		uring_push(uring, slot);
	}
}

/* Every operation that lives and is not about to be told its end. */
static void start_all(struct uring *uring)
{
	uint32_t number;

	push_wake(uring);
	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot != NULL && slot->base.verb < URING_WAKE)
			start_in_new_ring(uring, slot);
	}
}

static void forget_own_buffers(struct uring *uring)
{
	uint32_t number;

	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot != NULL && is_receive(slot) && (slot->base.flags & SLOT_KEPT) == 0)
			slot->buffer = -1;
	}
}

static void clear_kept_flags(struct uring *uring)
{
	uint32_t number;

	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot != NULL)
			slot->base.flags &= (uint16_t)~SLOT_KEPT;
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
	if (may_enter(uring)) {
		unregister_fd(uring);
		drain(uring, keep, REBUILD_NS);
	}
	if (read_queue(uring, keep) != 0)
		return -ENOMEM;
	close_ring(uring);
	return 0;
}

int uring_rebuild(struct uring *uring)
{
	bool forked = uring->forked;
	unsigned pool;
	int result;

	if (forked)
		clear_kept_flags(uring);
	else if (uring->has_ring) {
		result = leave_ring(uring);
		if (result != 0)
			return result;
	}
	for (pool = 0; pool < POOLS; pool++)
		ul_pool_detach(&uring->pools[pool], forked);
	forget_own_buffers(uring);
	if (uring->wake_fd < 0) {
		result = open_wake(uring);
		if (result != 0)
			return result;
	}
	if (forked) {
		result = ul_watches_rebuild(&uring->watches);
		if (result != 0)
			return result;
	}
	result = open_ring(uring);
	if (result != 0)
		return result;
	result = enable_ring(uring);
	if (result != 0) {
		close_ring(uring);
		return result;
	}
	uring->forked = false;
	uring->statistics.rebuilt++;
	for (pool = 0; pool < POOLS; pool++)
		if (uring->pools[pool].base != NULL &&
		    uring_has(uring, pool == POOL_DATAGRAM ? UL_FEATURE_MULTISHOT_RECV :
		                                             UL_FEATURE_BUFFER_RING))
			ul_pool_register(&uring->pools[pool], &uring->ring);
	start_all(uring);
	return 0;
}

int uring_begin(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	int result = 0;

	if (uring->closed)
		return -ESHUTDOWN;
	if (!uring->has_ring || (uring->enabled && uring->thread != this_thread()))
		result = uring_rebuild(uring);
	else if (!uring->enabled)
		result = enable_ring(uring);
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
	if (uring->sq_tail != uring->sq_head)
		uring_flush(uring, 0);
	/* Completions outside the queue would be lost with the ring. */
	while (IO_URING_READ_ONCE(*uring->sq_kflags) & IORING_SQ_CQ_OVERFLOW) {
		if (read_queue(uring, keep) != 0 ||
		    uring_flush(uring, IORING_ENTER_GETEVENTS) < 0)
			break;
	}
	/* A registered number holds the ring open as long as the thread lives. */
	unregister_fd(uring);
}

/* --- Shut down ------------------------------------------------------------ */

static void end_all(struct uring *uring, bool unsafe)
{
	uint32_t number;

	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);
		bool owed;

		if (slot == NULL || slot->base.verb >= URING_WAKE || slot->base.flags & SLOT_DONE)
			continue;
		owed = in_kernel(slot);
		if (slot->base.flags & SLOT_LISTED)
			uring_list_drop(uring, slot);
		if (owed && unsafe) {
			slot->base.flags |= SLOT_UNSAFE;
			if (is_receive(slot))
				uring->pools[slot->pool].leaked = true;
		}
		slot->base.flags &= (uint16_t)~SLOT_KEPT;
		uring_done(uring, slot, -ECANCELED);
	}
}

void uring_shutdown(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	uint32_t index;

	if (uring->closed)
		return;
	ul_watches_release(&uring->watches);
	uring->watches_fired = false;
	for (index = uring->kept_next; index < uring->kept_count; index++)
		put_away(uring, &uring->kept[index]);
	uring->kept_next = uring->kept_count = 0;
	if (uring->has_ring) {
		withdraw_all(uring);
		if (may_enter(uring)) {
			unregister_fd(uring);
			drain(uring, put_away, SHUTDOWN_NS);
		} else {
			read_queue(uring, put_away);
		}
	}
	end_all(uring, uring->has_ring && uring->enabled);
	uring->closed = true;
	close_ring(uring);
	uring->done_ready = uring->done.count;
}

void uring_destroy(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);
	struct uring_cold *cold;
	unsigned pool;
	uint32_t number;

	uring_shutdown(driver);
	ul_fork_remove(&uring->fork_node);
	close_ring(uring);
	if (uring->watches.epoll_fd >= 0)
		ul_watches_release(&uring->watches);
	for (number = 1; number <= slot_count(uring); number++) {
		struct uring_slot *slot = slot_number(uring, number);

		if (slot != NULL)
			uring_slot_end(uring, slot);
	}
	while ((cold = uring->cold_free) != NULL) {
		uring->cold_free = cold->next;
		free(cold);
	}
	for (pool = 0; pool < POOLS; pool++)
		ul_pool_release(&uring->pools[pool]);
	ul_slots_release(&uring->slots);
	if (uring->wake_fd >= 0)
		close(uring->wake_fd);
	free(uring->kept);
	free(uring);
}
