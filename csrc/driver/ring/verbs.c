/*
 * The verbs: each fills the template of a slot and queues it.  Nothing here
 * enters the kernel: turn() submits.
 */
#include "uring.h"
#include "selector/threads.h"

#include <stdlib.h>
#include <unistd.h>

/* Why uring_start() had no slot. */
static int start_failed(const struct uring *uring, ul_token *token)
{
	*token = 0;
	return uring->closed ? -ESHUTDOWN : -ENOMEM;
}

static int started(struct uring *uring, struct uring_slot *slot, ul_token *token)
{
	*token = slot_token(&slot->base);
	uring_push(uring, slot);
	return -EINPROGRESS;
}

/* Undo uring_start(), before anything was queued. */
static int start_undo(struct uring *uring, struct uring_slot *slot, int error, ul_token *token)
{
	uring_slot_end(uring, slot);
	slot->base.state = STATE_DONE;
	slot_free(&uring->slots, &slot->base);
	*token = 0;
	return error;
}

static int uring_send(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
                      uint32_t count, ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_start(uring, URING_SEND, owner, IORING_OP_SEND, fd);
	struct uring_cold *cold;
	struct iovec *vector;

	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	slot->sqe.msg_flags = MSG_NOSIGNAL;
	if (likely(count == 1)) {
		slot->sqe.addr = (uintptr_t)iov->iov_base;
		/* A short send is in order, a length of 0 would not be. */
		slot->sqe.len = iov->iov_len < INT32_MAX ? (uint32_t)iov->iov_len : INT32_MAX;
		return started(uring, slot, token);
	}
	if (count > UIO_MAXIOV)
		count = UIO_MAXIOV;
	cold = slot->cold = uring_cold_take(uring);
	if (unlikely(cold == NULL))
		return start_undo(uring, slot, -ENOMEM, token);
	vector = cold->vector;
	if (count > sizeof(cold->vector) / sizeof(cold->vector[0])) {
		vector = cold->many = malloc(count * sizeof(*vector));
		if (unlikely(vector == NULL))
			return start_undo(uring, slot, -ENOMEM, token);
	}
	memcpy(vector, iov, count * sizeof(*vector));
	cold->message.msg_iov = vector;
	cold->message.msg_iovlen = count;
	slot->sqe.opcode = IORING_OP_SENDMSG;
	slot->sqe.addr = (uintptr_t)&cold->message;
	slot->sqe.len = 1;
	return started(uring, slot, token);
}

static int uring_connect(struct ul_driver *driver, void *owner, int fd,
                         const struct sockaddr *address, uint32_t address_size,
                         ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot;

	*token = 0;
	if (address_size > sizeof(slot->cold->address))
		return -EINVAL;
	slot = uring_start(uring, URING_CONNECT, owner, IORING_OP_CONNECT, fd);
	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	slot->cold = uring_cold_take(uring);
	if (unlikely(slot->cold == NULL))
		return start_undo(uring, slot, -ENOMEM, token);
	memcpy(&slot->cold->address, address, address_size);
	slot->sqe.addr = (uintptr_t)&slot->cold->address;
	slot->sqe.off = address_size;
	return started(uring, slot, token);
}

static int uring_poll(struct ul_driver *driver, void *owner, int fd, uint32_t events,
                      ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_start(uring, URING_POLL, owner, IORING_OP_POLL_ADD, fd);

	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	if (events & UL_POLL_LEVEL)
		slot->base.flags |= SLOT_LEVEL;
	uring_poll_events(&slot->sqe, events & ~UL_POLL_LEVEL);
	return started(uring, slot, token);
}

static int uring_timeout(struct ul_driver *driver, void *owner, uint64_t duration_ns,
                         ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_start(uring, URING_TIMEOUT, owner, IORING_OP_TIMEOUT, -1);
	struct uring_cold *cold;
	uint64_t now = monotonic_ns();

	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	cold = slot->cold = uring_cold_take(uring);
	if (unlikely(cold == NULL))
		return start_undo(uring, slot, -ENOMEM, token);
	cold->timespec.tv_sec = (int64_t)(duration_ns / 1000000000);
	cold->timespec.tv_nsec = (long long)(duration_ns % 1000000000);
	cold->deadline_ns = duration_ns < UINT64_MAX - now ? now + duration_ns : UINT64_MAX;
	slot->sqe.addr = (uintptr_t)&cold->timespec;
	slot->sqe.len = 1;
	return started(uring, slot, token);
}

static int uring_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
                        int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
                        ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_start(uring, URING_SPLICE, owner, IORING_OP_SPLICE,
	                                      fd_out);

	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	slot->sqe.splice_fd_in = fd_in;
	slot->sqe.splice_off_in = (uint64_t)offset_in;
	slot->sqe.off = (uint64_t)offset_out;
	slot->sqe.len = size;
	slot->sqe.splice_flags = flags;
	return started(uring, slot, token);
}

/*
 * The kernel tries these in the thread that submits, as far as its caches
 * answer.  But a file's own open() and release() know no such attempt: they ask
 * a server (NFS, FUSE), wait for the other end (a FIFO) or free what is on a
 * disk.
 */
static bool belongs_to_worker(uint8_t opcode)
{
	return opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2 ||
	       opcode == IORING_OP_CLOSE;
}

static int uring_submit(struct ul_driver *driver, void *owner,
                        const struct ul_request *request, ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot;

	if (!kernel_has_opcode(request->opcode)) {
		*token = 0;
		return -EOPNOTSUPP;
	}
	slot = uring_start(uring, URING_REQUEST, owner, request->opcode, request->fd);
	if (unlikely(slot == NULL))
		return start_failed(uring, token);
	slot->sqe.addr = request->address;
	slot->sqe.off = request->address2;
	slot->sqe.len = request->length;
	slot->sqe.open_flags = request->op_flags;
	if (belongs_to_worker(request->opcode))
		slot->sqe.flags = IOSQE_ASYNC;
	return started(uring, slot, token);
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
	return uring->closed ? -ESHUTDOWN :
	                       watches_set(&uring->watches, owner, fd, events, token);
}

static const struct ul_statistics *uring_statistics(struct ul_driver *driver)
{
	return &uring_of(driver)->statistics;
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

int ul_has_request(struct ul_driver *driver, uint8_t opcode)
{
	return driver->table == &uring_table ? kernel_has_opcode(opcode) : threads_have(opcode);
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
