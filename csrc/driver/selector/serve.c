/*
 * What a ready descriptor does for those who wait for it.
 *
 * Runs inside harvest(): the calls are made here, lazily, so that the bytes
 * of one receive are copied out by the owner before the next receive fills
 * the same, still cached, buffer.
 *
 * A stream of bytes is received once per turn, so that one fast sender cannot
 * starve the others; a receive that filled its buffer puts the descriptor on
 * the list for the next turn.  A receive that did not fill it has drained the
 * socket (epoll(7), Question 9), which saves the receive that would say EAGAIN.
 * Exceptions to that, in which the next turn asks again:
 *
 *   - EPOLLRDHUP, EPOLLHUP or EPOLLERR was seen: what they announce makes no
 *     further edge;
 *   - urgent data: a TCP receive stops short at its mark (see also doubts.c);
 *   - ancillary data: an AF_UNIX receive stops short behind passed descriptors.
 *     recvmsg(2) without room for them says MSG_CTRUNC then;
 *   - any other kind of socket, of which nothing but EAGAIN says that it is drained.
 *
 * What comes in bulk is not copied out of a buffer of ours: the owner is told
 * UL_READABLE, and take() receives into its memory, by the same rules.
 */
#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>

#include "epoll.h"
#include "selector.h"

/*
 * Most datagrams or accepted connections per descriptor and turn: enough to
 * pay for the turn, little enough not to starve the others.
 */
#define DATAGRAMS_PER_TURN 16
#define ACCEPTS_PER_TURN 64
/* Accepts of a turn after which there are likely more, and nobody asks before. */
#define ACCEPTS_ASKED 3
/*
 * From so many bytes on to copy them once more costs clearly more than what
 * the owner does to receive into memory of its own.
 */
#define BULK_BYTES (16 * 1024)
/* Much in a row makes a stream a bulk stream, and so many small receives end that. */
#define MUCH_TO_BULK 2
#define SLIGHT_TO_SMALL 16

enum served {
	BLOCKED,        /* nothing more for now */
	AGAIN,          /* nothing more this turn, but the next without an event */
	PARKED,         /* nothing more before a take() */
	GAVE,           /* a completion; the operation goes on */
	LENT,           /* the same, with a lent buffer */
	ENDED,          /* `result` is terminal */
};

static ssize_t stream_call(int fd, enum ul_stream kind, const struct iovec *iov,
                           uint32_t count, bool *ancillary)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	ssize_t result;

	if (kind != UL_STREAM_UNIX && count == 1)
		return recv(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT);
	result = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	*ancillary = kind == UL_STREAM_UNIX && (message.msg_flags & MSG_CTRUNC) != 0;
	return result;
}

/* A receive of `size` bytes: is the stream one of bulk from now on? */
static void stream_adapt(const struct selector *selector, struct operation *operation,
                         uint32_t size)
{
	bool much = size >= BULK_BYTES || size >= selector->buffers.size;

	if (operation->stream.for_good)
		return;
	if (much == operation->stream.bulk) {
		operation->stream.streak = 0;
		return;
	}
	/* Other kinds may keep the boundaries of messages, which a take() could cut. */
	if (operation->stream.kind == UL_STREAM_OTHER)
		return;
	if (++operation->stream.streak < (much ? MUCH_TO_BULK : SLIGHT_TO_SMALL))
		return;
	operation->stream.bulk = much;
	operation->stream.streak = 0;
}

/* One receive of a stream: its result, and whether the next turn is to ask again. */
static int stream_receive(struct selector *selector, struct descriptor *descriptor,
                          struct operation *operation, const struct iovec *iov,
                          uint32_t count, bool *again)
{
	bool more = false;
	size_t size = 0;
	uint32_t index;
	ssize_t result;

	do {
		result = stream_call(operation->fd, operation->stream.kind, iov, count, &more);
	} while (result < 0 && errno == EINTR);
	if (result <= 0)
		return result == 0 ? 0 : -errno;
	for (index = 0; index < count; index++)
		size += iov[index].iov_len;
	*again = more || (size_t)result == size || descriptor->announced != 0 ||
	         operation->stream.kind == UL_STREAM_OTHER;
	if (!*again)
		selector->doubtful = descriptor->doubtful = true;
	stream_adapt(selector, operation, (uint32_t)result);
	return (int)result;
}

static enum served serve_recv(struct selector *selector, struct descriptor *descriptor,
                              struct operation *operation, struct ul_completion *completion)
{
	struct iovec iov = {.iov_len = selector->buffers.size};
	bool again = false;

	if (operation->stream.bulk) {
		if (operation->stream.readable)
			return PARKED;
		operation->stream.readable = true;
		completion->flags = UL_READABLE | UL_MORE;
		return GAVE;
	}
	iov.iov_base = buffers_take(&selector->buffers);
	if (iov.iov_base == NULL) {
		selector->statistics.buffers_exhausted++;
		return AGAIN;
	}
	completion->result = stream_receive(selector, descriptor, operation, &iov, 1, &again);
	if (completion->result > 0) {
		if (again)
			descriptor->again |= DUE_READ;
		descriptor->due &= (uint8_t)~DUE_READ;
		completion->flags = UL_MORE | UL_LENT;
		completion->data = iov.iov_base;
		return LENT;
	}
	buffers_give(&selector->buffers, iov.iov_base);
	return completion->result == -EAGAIN ? BLOCKED : ENDED;
}

/* The recv stream, as long as it lives; or NULL. */
static struct operation *stream_find(const struct selector *selector, ul_token token)
{
	struct operation *operation;

	if (token & WATCH_TOKEN)
		return NULL;
	operation = (struct operation *)slot_find(&selector->slots, token);
	if (operation == NULL || operation->slot.verb != VERB_RECV ||
	    operation->slot.state != STATE_IN_KERNEL)
		return NULL;
	return operation;
}

void selector_hold(struct ul_driver *driver, ul_token token, bool for_good)
{
	struct operation *operation = stream_find(selector_of(driver), token);

	if (operation == NULL)
		return;
	operation->stream.bulk = true;
	operation->stream.for_good = for_good;
	operation->stream.streak = 0;
}

int selector_take(struct ul_driver *driver, ul_token token, const struct iovec *iov,
                  uint32_t count)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation = stream_find(selector, token);
	struct descriptor *descriptor;
	bool again = false;
	int result;

	if (operation == NULL || !operation->stream.readable)
		return -ENOENT;
	descriptor = descriptor_find(selector, operation->fd);
	result = stream_receive(selector, descriptor, operation, iov, count, &again);
	if (result <= 0 && result != -EAGAIN) {
		operation_end(selector, operation);
		/* Whoever waits behind it finds out the same. */
		again = descriptor->readers.first != NULL;
	} else {
		operation->stream.readable = false;
	}
	if (result == -EAGAIN) {
		/* The urgent mark: see serve_queue(). */
		again = (descriptor->announced & EPOLLPRI) != 0;
		descriptor->announced = 0;
	}
	if (again) {
		descriptor->again |= DUE_READ;
		if (descriptor->list == NULL)
			descriptor_list_append(&selector->later, descriptor);
	}
	descriptor_settle(selector, descriptor);
	return result;
}

static enum served serve_recv_from(struct selector *selector, struct descriptor *descriptor,
                                   struct operation *operation,
                                   struct ul_completion *completion)
{
	struct iovec iov = {.iov_len = selector->buffers.size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t result;

	if (descriptor->served >= DATAGRAMS_PER_TURN)
		return AGAIN;
	iov.iov_base = buffers_take(&selector->buffers);
	if (iov.iov_base == NULL) {
		selector->statistics.buffers_exhausted++;
		return AGAIN;
	}
	message.msg_name = buffers_sender(&selector->buffers, iov.iov_base);
	message.msg_namelen = sizeof(struct sockaddr_storage);
	do {
		result = recvmsg(operation->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (result < 0 && errno == EINTR);
	/* Empty datagrams exist; but after a hang-up it is the end, again and again. */
	if (result > 0 || (result == 0 && !(descriptor->announced & (EPOLLRDHUP | EPOLLHUP)))) {
		descriptor->served++;
		completion->result = (int32_t)result;
		completion->flags = UL_MORE | UL_LENT;
		completion->data = iov.iov_base;
		completion->address = message.msg_name;
		completion->address_size = message.msg_namelen;
		return LENT;
	}
	completion->result = result == 0 ? 0 : -errno;
	buffers_give(&selector->buffers, iov.iov_base);
	return completion->result == -EAGAIN ? BLOCKED : ENDED;
}

/*
 * accept(2) makes a socket and a file before it looks for a connection, so one that
 * finds none is several times as dear as a look at the queue.
 */
static enum served serve_accept(struct descriptor *descriptor, struct operation *operation,
                                struct ul_completion *completion)
{
	if (descriptor->served >= ACCEPTS_PER_TURN)
		return AGAIN;
	if (descriptor->served > 0 && descriptor->served <= ACCEPTS_ASKED &&
	    poll_now(operation->fd, EPOLLIN) == 0)
		return BLOCKED;
	do {
		/* ECONNABORTED: that one hung up in the queue; the next may be there. */
		completion->result = accept4(operation->fd, NULL, NULL,
		                             SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (completion->result < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (completion->result >= 0) {
		descriptor->served++;
		completion->flags = UL_MORE;
		return GAVE;
	}
	completion->result = -errno;
	return completion->result == -EAGAIN ? BLOCKED : ENDED;
}

static enum served serve_one(struct selector *selector, struct descriptor *descriptor,
                             struct operation *operation, struct ul_completion *completion)
{
	assert(operation->slot.state == STATE_IN_KERNEL);
	*completion = (struct ul_completion){
		.owner = operation->slot.owner,
		.token = slot_token(&operation->slot),
	};
	switch (operation->slot.verb) {
	case VERB_RECV:
		return serve_recv(selector, descriptor, operation, completion);
	case VERB_RECV_FROM:
		return serve_recv_from(selector, descriptor, operation, completion);
	case VERB_ACCEPT:
		return serve_accept(descriptor, operation, completion);
	default:
		completion->result = operation_attempt(selector, operation);
		return completion->result == -EAGAIN ? BLOCKED : ENDED;
	}
}

/*
 * Serve a queue, first come, first served, until it blocks.  `due` is cleared
 * when it needs no more this turn.  True when a buffer was lent.
 */
static bool serve_queue(struct selector *selector, struct descriptor *descriptor,
                        struct operation_queue *queue, uint8_t due,
                        struct ul_completion *out, int capacity, int *count)
{
	struct operation *operation;

	while ((operation = queue->first) != NULL && (descriptor->due & due)) {
		if (*count == capacity)
			return false;
		switch (serve_one(selector, descriptor, operation, &out[*count])) {
		case BLOCKED:
			descriptor->due &= (uint8_t)~due;
			/*
			 * At an urgent mark TCP says EAGAIN, although there is data, while
			 * a signal is pending (tcp_recvmsg_locked()).
			 */
			if (due == DUE_READ && descriptor->announced & EPOLLPRI)
				descriptor->again |= DUE_READ;
			if (due == DUE_READ)
				descriptor->announced = 0;
			return false;
		case AGAIN:
			descriptor->due &= (uint8_t)~due;
			descriptor->again |= due;
			return false;
		case PARKED:
			descriptor->due &= (uint8_t)~due;
			return false;
		case GAVE:
			(*count)++;
			break;
		case LENT:
			(*count)++;
			return true;
		case ENDED:
			(*count)++;
			operation_end(selector, operation);
			break;
		}
	}
	descriptor->due &= (uint8_t)~due;
	return false;
}

static void serve_pollers(struct selector *selector, struct descriptor *descriptor,
                          struct ul_completion *out, int capacity, int *count)
{
	struct operation *operation = descriptor->pollers.first;

	while (operation != NULL) {
		struct operation *next = operation->next;
		uint32_t events = operation->poll_events | EPOLLERR | EPOLLHUP;

		if (descriptor->ready & events) {
			if (*count == capacity)
				return;
			out[(*count)++] = (struct ul_completion){
				.owner = operation->slot.owner,
				.token = slot_token(&operation->slot),
				.result = (int32_t)(descriptor->ready & events),
				.flags = operation->poll_level ? UL_MORE : 0,
			};
		}
		if (descriptor->ready & events && !operation->poll_level) {
			operation_end(selector, operation);
		}
		operation = next;
	}
	descriptor->due &= (uint8_t)~DUE_POLL;
}

static void serve_watch(struct descriptor *descriptor, struct ul_completion *out, int capacity,
                        int *count)
{
	uint32_t events = descriptor->ready & (descriptor->watch_events | EPOLLERR | EPOLLHUP);

	if (descriptor->watch_events != 0 && events != 0) {
		if (*count == capacity)
			return;
		out[(*count)++] = (struct ul_completion){
			.owner = descriptor->watch_owner,
			.token = descriptor->watch_token,
			.result = (int32_t)events,
			.flags = UL_WATCH | UL_MORE,
		};
	}
	descriptor->due &= (uint8_t)~DUE_WATCH;
}

bool descriptor_serve(struct selector *selector, struct descriptor *descriptor,
                      struct ul_completion *out, int capacity, int *count)
{
	bool lent = false;

	if (descriptor->due & DUE_WATCH)
		serve_watch(descriptor, out, capacity, count);
	if (descriptor->due & DUE_POLL)
		serve_pollers(selector, descriptor, out, capacity, count);
	if (descriptor->due & DUE_WRITE)
		serve_queue(selector, descriptor, &descriptor->writers, DUE_WRITE,
		            out, capacity, count);
	if (descriptor->due & DUE_READ)
		lent = serve_queue(selector, descriptor, &descriptor->readers, DUE_READ,
		                   out, capacity, count);
	return lent;
}
