/*
 * One-shot operations: what the kernel's answer means, and when it means
 * "once more".
 */
#include "socket_facts.h"
#include "uring.h"

#include <poll.h>

/* An error that need not last is passed on when it comes this often in a row. */
#define RETRIES_MAX 8

/* Which readiness an operation waits for. */
static uint32_t wanted_events(const struct uring_slot *slot)
{
	switch (slot->base.verb) {
	case URING_SEND:
	case URING_CONNECT:
		return POLLOUT;
	default:
		return POLLIN;
	}
}

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
	uring_push_poll(uring, slot, slot->sqe.fd, wanted_events(slot));
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
		if (slot->base.verb == URING_CONNECT || slot->base.verb >= URING_REQUEST)
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
		/* Nobody asked for it: no worker thread could be started, and nothing was done. */
		if (slot->base.verb == URING_REQUEST && !cancelling)
			result = -ENOTBLK;
		/* Or the ring's thread is gone. */
		if (slot->base.verb >= URING_SPLICE)
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
	slot->base.flags &= (uint16_t)~SLOT_POLLING;
	if (slot->base.state == STATE_CANCELLING)
		return uring_finish(uring, slot, out, -ECANCELED, 0);
	if (unlikely(result < 0) && slot->retries++ == RETRIES_MAX)
		return uring_finish(uring, slot, out, result, 0);
	if (slot->base.verb == URING_CONNECT && result > 0)
		return uring_finish(uring, slot, out, socket_connected(slot->sqe.fd), 0);
	slot->base.flags |= SLOT_BEGAN;
	if (slot->base.flags & SLOT_BULK)
		return uring_bulk_readable(slot, out);
	if (slot->base.verb <= URING_ACCEPT)
		uring_stream_start(uring, slot, false);
	else
		uring_push(uring, slot);
	return 0;
}
