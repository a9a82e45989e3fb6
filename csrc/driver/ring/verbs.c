/*
 * The verbs that are no streams: how each starts, and what the kernel's answer means,
 * which may be "once more".
 *
 * A start fills the template of a slot and queues it.  Nothing here enters the kernel:
 * turn() submits.
 */
#include "queue.h"
#include "restrictions.h"
#include "setup.h"
#include "socket_facts.h"

#include <stdlib.h>

/* An error that need not last is passed on when it comes this often in a row. */
#define RETRIES_MAX 8

const struct uring_traits uring_traits[] = {
	[URING_RECV] = {
		.stream = true,
		.receive = true,
		.again = true,
		.borrows = BORROWS_IN_ENTER,
		.events = POLLIN,
	},
	[URING_RECV_FROM] = {
		.stream = true,
		.receive = true,
		.again = true,
		.borrows = BORROWS_IN_ENTER,
		.events = POLLIN,
	},
	[URING_ACCEPT] = { .stream = true, .again = true, .events = POLLIN },
	[URING_SEND] = { .again = true, .borrows = BORROWS_IN_ENTER, .events = POLLOUT },
	[URING_CONNECT] = { .again = true, .events = POLLOUT },
	[URING_POLL] = { .again = true, .events = POLLIN },
	[URING_TIMEOUT] = { .again = true },
	[URING_SPLICE] = { .again = false },
	[URING_REQUEST] = { .again = false, .borrows = BORROWS },
	[URING_WAKE] = { .again = true, .events = POLLIN },
	[URING_WATCHES] = { .again = true, .events = POLLIN },
};
_Static_assert(sizeof(uring_traits) / sizeof(uring_traits[0]) == URING_VERBS, "a row each");

void uring_stream_start(struct uring *uring, struct uring_slot *slot, bool poll_first)
{
	assert(uring_traits_of(slot)->stream);
	if (uring_traits_of(slot)->receive)
		uring_receive_start(uring, slot, poll_first);
	else
		uring_accept_start(uring, slot, poll_first);
}

/* --- Starts --------------------------------------------------------------- */

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
	uring_slot_free(uring, slot);
	*token = 0;
	return error;
}

int uring_send(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
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

int uring_connect(struct ul_driver *driver, void *owner, int fd,
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

int uring_poll(struct ul_driver *driver, void *owner, int fd, uint32_t events,
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

int uring_timeout(struct ul_driver *driver, void *owner, uint64_t duration_ns,
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

int uring_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
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

int uring_submit(struct ul_driver *driver, void *owner,
                 const struct ul_request *request, ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot;

	if (!kernel_has_opcode(request->opcode) || !restrictions_have(request->opcode)) {
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

/* --- Answers -------------------------------------------------------------- */

/* splice(2) would block on one of its two descriptors: on which? */
static void poll_for_splice(struct uring *uring, struct uring_slot *slot)
{
	struct pollfd in = { .fd = slot->sqe.splice_fd_in, .events = POLLIN };

	if (poll(&in, 1, 0) == 0)
		uring_push_poll(uring, slot, in.fd, POLLIN);
	else
		uring_push_poll(uring, slot, slot->sqe.fd, POLLOUT);
}

void uring_timeout_continue(struct uring_slot *slot)
{
	uint64_t now = monotonic_ns();
	uint64_t left = slot->cold->deadline_ns > now ? slot->cold->deadline_ns - now : 0;

	slot->cold->timespec.tv_sec = (int64_t)(left / 1000000000);
	slot->cold->timespec.tv_nsec = (long long)(left % 1000000000);
}

static void operation_would_block(struct uring *uring, struct uring_slot *slot)
{
	slot->base.flags |= SLOT_BEGAN;
	uring->statistics.rearmed++;
	switch (slot->base.verb) {
	case URING_SPLICE:
		poll_for_splice(uring, slot);
		return;
	case URING_SEND:
		if (uring_has(uring, UL_FEATURE_POLL_FIRST)) {
			slot->sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
			uring_push(uring, slot);
			return;
		}
		break;
	default:
		break;
	}
	uring_push_poll(uring, slot, slot->sqe.fd, uring_traits_of(slot)->events);
}

/*
 * Once more behind what this turn's owners do: what still holds when the next
 * turn submits it is reported again.
 */
static int level_reported(struct uring *uring, struct uring_slot *slot, int events,
                          struct ul_completion *out)
{
	*out = (struct ul_completion){
		.owner = slot->base.owner,
		.token = slot_token(&slot->base),
		.result = events,
		.flags = UL_MORE,
	};
	slot->retries = 0;
	uring_push_again(uring, slot);
	return 1;
}

/*
 * A one-shot operation has an answer.  A socket that does not block is polled
 * by the kernel; but once a request was passed to a worker thread (6.3+), or
 * with no memory to poll, EAGAIN comes back and means: once more.
 */
int uring_operation_completed(struct uring *uring, struct uring_slot *slot, int result,
                              struct ul_completion *out)
{
	bool cancelling = slot->base.state == STATE_CANCELLING;

	if (likely(result >= 0)) {
		if (slot->base.verb == URING_POLL)
			result = uring_polled_events(&slot->sqe, result);
		if (unlikely(slot->base.flags & SLOT_LEVEL) && !cancelling)
			return level_reported(uring, slot, result, out);
		return uring_finish(uring, slot, out, result, 0);
	}
	switch (result) {
	case -EAGAIN:
		/* connect(2) to a busy Unix socket: no readiness ever tells when. */
		if (slot->base.verb == URING_CONNECT || slot->base.verb == URING_REQUEST)
			break;
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		operation_would_block(uring, slot);
		return 0;
	case -EALREADY:
	case -EINPROGRESS:
		if (slot->base.verb != URING_CONNECT)
			break;
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		operation_would_block(uring, slot);
		return 0;
	case -EISCONN:
		/* Only a connect that was started again can be connected already. */
		if (slot->base.verb == URING_CONNECT && slot->base.flags & SLOT_BEGAN)
			result = 0;
		break;
	case -ECANCELED:
		/* Cancelled by nobody: no worker thread could be started, and nothing was done. */
		if (slot->base.verb == URING_REQUEST && !cancelling)
			result = -ENOTBLK;
		/* Or the ring's thread is gone, and it may have been done. */
		if (!uring_traits_of(slot)->again)
			break;
		/* fall through */
	case -ENOMEM:
		/* Some kernels say so for a moment (to 6.13). */
	case -EINTR:
		if (slot->base.verb == URING_REQUEST)
			break;
		if (cancelling) {
			result = -ECANCELED;
			break;
		}
		if (slot->retries++ == RETRIES_MAX)
			break;
		if (slot->base.verb == URING_TIMEOUT)
			uring_timeout_continue(slot);
		uring_push_again(uring, slot);
		return 0;
	default:
		break;
	}
	return uring_finish(uring, slot, out, result, 0);
}

/* The poll that came before the operation proper is through. */
int uring_polling_completed(struct uring *uring, struct uring_slot *slot, int result,
                            struct ul_completion *out)
{
	slot->phase = PHASE_DIRECT;
	if (slot->base.state == STATE_CANCELLING)
		return uring_finish(uring, slot, out, -ECANCELED, 0);
	if (unlikely(result < 0) && slot->retries++ == RETRIES_MAX)
		return uring_finish(uring, slot, out, result, 0);
	if (slot->base.verb == URING_CONNECT && result > 0)
		return uring_finish(uring, slot, out, socket_connected(slot->sqe.fd), 0);
	slot->base.flags |= SLOT_BEGAN;
	if (slot->base.flags & SLOT_BULK)
		return uring_bulk_readable(slot, out);
	if (uring_traits_of(slot)->stream)
		uring_stream_start(uring, slot, false);
	else
		uring_push(uring, slot);
	return 0;
}
