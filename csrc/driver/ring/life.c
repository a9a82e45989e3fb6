/*
 * The life of the ring driver: opened, begun and ended by the thread that drives it,
 * destroyed; and its table.
 */
#include "queue.h"

#include <stdlib.h>
#include <unistd.h>

/* Entries stay in the cache: a queue is walked through from end to end. */
#define SQ_ENTRIES 256
#define CQ_ENTRIES 2048
#define BUFFER_COUNT 256
#define BUFFER_SIZE 4096
#define DATAGRAM_COUNT 64
#define DATAGRAM_SIZE (256 * 1024)

static uint32_t option_or(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

static void fill_options(struct ul_options *options)
{
	options->sq_entries = option_or(options->sq_entries, SQ_ENTRIES);
	options->cq_entries = option_or(options->cq_entries, CQ_ENTRIES);
	options->buffer_count = option_or(options->buffer_count, BUFFER_COUNT);
	options->buffer_size = option_or(options->buffer_size, BUFFER_SIZE);
	options->datagram_count = option_or(options->datagram_count, DATAGRAM_COUNT);
	options->datagram_size = option_or(options->datagram_size, DATAGRAM_SIZE);
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
	slots_init(&uring->slots, sizeof(struct uring_slot));
	/* The handlers come before anything that a child must not keep. */
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
	uring->base.table->destroy(&uring->base);
	return result;
}

static int uring_begin(struct ul_driver *driver)
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

static void uring_end(struct ul_driver *driver)
{
	struct uring *uring = uring_of(driver);

	uring->running = false;
	if (!uring->has_ring)
		return;
	/* The last writes leave now, and not with the next run. */
	uring_hand_over_all(uring);
	uring_park_accepts(uring);
	/* Completions outside the queue would be lost with the ring. */
	while (IO_URING_READ_ONCE(*uring->sq_kflags) & IORING_SQ_CQ_OVERFLOW) {
		if (uring_read_queue(uring, uring_put_aside) != 0 ||
		    uring_flush(uring, IORING_ENTER_GETEVENTS) < 0)
			break;
	}
	/* A registered number holds the ring open as long as the thread lives. */
	uring_ring_unregister(uring);
}

static int uring_close(struct ul_driver *driver, int fd)
{
	struct uring *uring = uring_of(driver);

#ifndef NDEBUG
	/* An entry that is submitted later would act on whatever `fd` is by then. */
	for (uint32_t position = uring->sq_head; position != uring->sq_tail; position++)
		assert(uring->sqes[position & uring->sq_mask].fd != fd);
#endif
	watches_forget(&uring->watches, fd);
	/* EINTR: Linux has closed it all the same. */
	return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

static int uring_watch(struct ul_driver *driver, void *owner, int fd, uint32_t events,
                       ul_token *token)
{
	struct uring *uring = uring_of(driver);

	*token = 0;
	return uring->closed ? -ESHUTDOWN : watches_set(&uring->watches, owner, fd, events, token);
}

static const struct ul_statistics *uring_statistics(struct ul_driver *driver)
{
	return &uring_of(driver)->statistics;
}

static void uring_destroy(struct ul_driver *driver)
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
	free(uring->left_over);
	free(uring->inherited);
	free(uring);
}

const struct ul_table uring_table = {
	.size = sizeof(struct ul_table),
	.abi = UL_ABI,
	.name = "uring",
	/*
	 * Small sends ride along with the turn's own system call.  Large ones would
	 * save little of what they cost, and the bytes of many connections kept until
	 * then leave the cache and make the heap grow and shrink: with 48 KiB on each
	 * of 100 connections three times as dear, with 20 KiB a tenth, with 12 equal.
	 */
	.eager_send_bytes = 14 * 1024,
	.receives_in_turn = true,
	.begin = uring_begin,
	.end = uring_end,
	.turn = uring_turn,
	.immediate = uring_immediate,
	.harvest = uring_harvest,
	.wake = uring_wake,
	.recycle = uring_recycle,
	.recv = uring_recv,
	.take = uring_take,
	.hold = uring_hold,
	.recv_from = uring_recv_from,
	.send = uring_send,
	.accept = uring_accept,
	.connect = uring_connect,
	.poll = uring_poll,
	.timeout = uring_timeout,
	.splice = uring_splice,
	.submit = uring_submit,
	.cancel = uring_cancel,
	.outcome = uring_outcome,
	.released = uring_released,
	.close = uring_close,
	.watch = uring_watch,
	.shutdown = uring_shutdown,
	.destroy = uring_destroy,
	.statistics = uring_statistics,
};

uint64_t ul_features(struct ul_driver *driver)
{
	return driver->table == &uring_table ? uring_of(driver)->features : 0;
}

void ul_ring_size(struct ul_driver *driver, uint32_t sizes[4])
{
	struct uring *uring = uring_of(driver);

	memset(sizes, 0, 4 * sizeof(*sizes));
	if (driver->table != &uring_table)
		return;
	sizes[0] = uring->params.sq_entries;
	sizes[1] = uring->params.cq_entries;
	sizes[2] = uring->options.sq_entries;
	sizes[3] = uring->options.cq_entries;
}
