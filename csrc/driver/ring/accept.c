/*
 * The stream of accepted connections: multishot or one-shot accept; for a listener that
 * others may share, poll and accept4(2).
 *
 * An accept in the kernel is an exclusive waiter: of those on one socket the
 * kernel wakes the first (io_uring/net.c, since 5.13), which may be a process
 * that is busy for long; every other would leave the connection to it.  A poll
 * is no such waiter.  One-shot, it reports a level: what is left over is
 * reported again, and who is busy with connections is not woken for more.
 */
#include "queue.h"

#include <unistd.h>

/* Connections of a shared listener in one turn; others want their turn, too. */
#define ACCEPTS_PER_TURN 64
/* Answers in a row that should not come; an endless loop is worse than an error. */
#define RETRIES_MAX 8

/* A number that no other socket has before the next boot; 0: no socket. Linux 4.12. */
static uint64_t socket_cookie(int fd)
{
	uint64_t cookie;
	socklen_t size = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

/* Accept from now on with calls of our own, and only of the socket that this is. */
void uring_share_listener(struct uring *uring, struct uring_slot *slot)
{
	slot->base.flags |= SLOT_SHARED;
	slot->cold = uring_cold_take(uring);
	/* Without memory for that it is taken for the same. */
	if (likely(slot->cold != NULL))
		slot->cold->cookie = socket_cookie(slot->sqe.fd);
}

void uring_accept_start(struct uring *uring, struct uring_slot *slot, bool poll_first)
{
	if ((slot->base.flags & SLOT_SHARED) == 0) {
		uring_push(uring, slot);
	} else if (poll_first) {
		uring_push_poll(uring, slot, slot->sqe.fd, POLLIN);
	} else {
		slot->accepted = 0;
		slot->base.state = STATE_QUEUED;
		uring_list_add(uring, slot, LIST_ACCEPTING);
	}
}

static void accept_again(struct uring *uring, struct uring_slot *slot, bool poll_first)
{
	uring->statistics.rearmed++;
	slot->base.flags |= SLOT_BEGAN;
	uring_accept_start(uring, slot, poll_first);
}

int uring_accept(struct ul_driver *driver, void *owner, int fd, bool shared, ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = uring_start(uring, URING_ACCEPT, owner, IORING_OP_ACCEPT, fd);

	*token = 0;
	if (unlikely(slot == NULL))
		return uring->closed ? -ESHUTDOWN : -ENOMEM;
	if (shared)
		uring_share_listener(uring, slot);
	else
		uring->accepts++;
	slot->sqe.accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
	if (uring_has(uring, UL_FEATURE_MULTISHOT_ACCEPT))
		slot->sqe.ioprio = IORING_ACCEPT_MULTISHOT;
	*token = slot_token(&slot->base);
	uring_accept_start(uring, slot, true);
	return -EINPROGRESS;
}

/* An accept that ended without a connection starts again, or ends with the error. */
static int accept_interrupted(struct uring *uring, struct uring_slot *slot, int error,
                              struct ul_completion *out)
{
	bool cancelling = slot->base.state == STATE_CANCELLING;

	switch (error) {
	case -ECANCELED:
		if (cancelling || slot->retries++ == RETRIES_MAX)
			break;
		accept_again(uring, slot, true);
		return 0;
	case -EAGAIN:
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		uring->statistics.rearmed++;
		slot->base.flags |= SLOT_BEGAN;
		uring_push_poll(uring, slot, slot->sqe.fd, POLLIN);
		return 0;
	case -EINTR:
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		accept_again(uring, slot, true);
		return 0;
	default:
		break;
	}
	return uring_finish(uring, slot, out, error, 0);
}

int uring_accept_completed(struct uring *uring, struct uring_slot *slot,
                           const struct io_uring_cqe *cqe, struct ul_completion *out)
{
	if (unlikely(cqe->res < 0)) {
		if (cqe->flags & IORING_CQE_F_MORE)
			return 0;
		/* A peer that left early is not the listener's trouble. */
		return accept_interrupted(uring, slot,
		                          cqe->res == -ECONNABORTED ? -EINTR : cqe->res, out);
	}
	slot->retries = 0;
	if (unlikely((cqe->flags & IORING_CQE_F_MORE) == 0)) {
		if (slot->base.state == STATE_CANCELLING)
			return uring_finish(uring, slot, out, cqe->res, 0);
		accept_again(uring, slot, false);
	}
	*out = (struct ul_completion){
		.owner = slot->base.owner,
		.token = slot_token(&slot->base),
		.result = cqe->res,
		.flags = UL_MORE,
	};
	return 1;
}

/* One connection of a shared listener, or what ends that for now or for good. */
static int accept_one(const struct uring_slot *slot)
{
	int result;

	/*
	 * The ring's poll keeps a listener that somebody has closed, and its number may
	 * be another's, whose connections are not for us.
	 */
	if (slot->cold != NULL && socket_cookie(slot->sqe.fd) != slot->cold->cookie)
		return -EBADF;
	do {
		result = accept4(slot->sqe.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (result < 0 && (errno == EINTR || errno == ECONNABORTED));
	return result >= 0 ? result : -errno;
}

int uring_harvest_accepts(struct uring *uring, struct ul_completion *out, int capacity)
{
	int count = 0;

	while (uring->lists[LIST_ACCEPTING].count != 0 && count < capacity) {
		struct uring_slot *slot = uring_slot_at(uring, uring->lists[LIST_ACCEPTING].first);
		int result = -EAGAIN;

		if (slot->accepted < ACCEPTS_PER_TURN)
			result = accept_one(slot);
		if (result >= 0) {
			slot->accepted++;
			slot->retries = 0;
			out[count++] = (struct ul_completion){
				.owner = slot->base.owner,
				.token = slot_token(&slot->base),
				.result = result,
				.flags = UL_MORE,
			};
			continue;
		}
		uring_list_drop(uring, slot);
		if (result == -EAGAIN)
			accept_again(uring, slot, true);
		else
			count += uring_finish(uring, slot, out + count, result, 0);
	}
	return count;
}
