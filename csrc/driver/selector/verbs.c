/*
 * The selector's verbs: how each starts, and is tried again.
 *
 * The call is made first; most succeed, and then neither a slot nor a
 * completion is needed.  What would block waits in the queue of its
 * descriptor, in order: nobody overtakes.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "monotonic.h"
#include "selector.h"
#include "socket_facts.h"

/* The calls: their result, or -errno. */

uint32_t poll_now(int fd, uint32_t events)
{
	struct pollfd polled = {.fd = fd, .events = (short)events};

	return poll(&polled, 1, 0) == 1 ? (uint32_t)(unsigned short)polled.revents : 0;
}

static int call_send(int fd, const struct iovec *iov, uint32_t count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	ssize_t result;

	do {
		if (count == 1)
			result = send(fd, iov->iov_base, iov->iov_len,
			              MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			result = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : (int)result;
}

static uint8_t send_opcode(uint32_t count)
{
	return count == 1 ? IORING_OP_SEND : IORING_OP_SENDMSG;
}

/* Receiving. */

/* Replaces what is not known.  0 or -errno. */
static int stream_kind_of(int fd, enum ul_stream *kind)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (*kind != UL_STREAM_UNKNOWN)
		return 0;
	*kind = UL_STREAM_OTHER;
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &size) != 0)
		return -errno;
	if (value == IPPROTO_TCP) {
		*kind = UL_STREAM_TCP;
	} else if (socket_is_unix(fd)) {
		size = sizeof(value);
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 &&
		    value == SOCK_STREAM)
			*kind = UL_STREAM_UNIX;
	}
	return 0;
}

int selector_recv(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
                  ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;
	int result = stream_kind_of(fd, &kind);

	*token = 0;
	if (result != 0)
		return result;
	operation = operation_take(selector, VERB_RECV, owner);
	if (operation == NULL)
		return -ENOMEM;
	operation->stream.kind = kind;
	return operation_start(selector, operation, fd, READERS, token);
}

int selector_recv_from(struct ul_driver *driver, void *owner, int fd, ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation = operation_take(selector, VERB_RECV_FROM, owner);

	*token = 0;
	if (operation == NULL)
		return -ENOMEM;
	return operation_start(selector, operation, fd, READERS, token);
}

/* Sharing makes no difference: with epoll no connection is taken before it is there. */
int selector_accept(struct ul_driver *driver, void *owner, int fd, bool shared,
                    ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation = operation_take(selector, VERB_ACCEPT, owner);

	(void)shared;
	*token = 0;
	if (operation == NULL)
		return -ENOMEM;
	return operation_start(selector, operation, fd, READERS, token);
}

/* Sending. */

static size_t iov_size(const struct iovec *iov, uint32_t count)
{
	size_t size = 0;
	uint32_t index;

	for (index = 0; index < count; index++)
		size += iov[index].iov_len;
	return size;
}

/*
 * Remember a short send.  The kernel notes that we want space then
 * (SOCK_NOSPACE) and reports EPOLLOUT when there is some, an edge that cannot
 * be missed while the descriptor is registered.
 */
static void send_noticed(struct descriptor *descriptor, const struct iovec *iov,
                         uint32_t count, int result)
{
	if (descriptor != NULL && result >= 0 && descriptor_is_streaming(descriptor) &&
	    (size_t)result < iov_size(iov, count))
		descriptor->full = true;
}

int selector_send(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
                  uint32_t count, ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct descriptor *descriptor = descriptor_find(selector, fd);
	struct operation *operation;

	*token = 0;
	if (count > IOV_MAX)
		count = IOV_MAX;
	if (descriptor == NULL || (descriptor->writers.first == NULL &&
	                           !(descriptor->full && descriptor_is_streaming(descriptor)))) {
		int result = call_send(fd, iov, count);

		if (result != -EAGAIN) {
			send_noticed(descriptor, iov, count, result);
			return operation_done_at_once(selector, send_opcode(count), result);
		}
	}
	operation = operation_take(selector, VERB_SEND, owner);
	if (operation == NULL)
		return -ENOMEM;
	operation->opcode = send_opcode(count);
	operation->send.count = count;
	operation->send.iov = operation->send.inline_iov;
	if (count > IOVECS_INLINE) {
		operation->copy = malloc(count * sizeof(*iov));
		if (operation->copy == NULL) {
			operation_drop(selector, operation);
			return -ENOMEM;
		}
		operation->send.iov = operation->copy;
	}
	memcpy((struct iovec *)operation->send.iov, iov, count * sizeof(*iov));
	return operation_start(selector, operation, fd, WRITERS, token);
}

/* Connecting. */

static int connect_result(int fd)
{
	/* An event of before the connect proves nothing. */
	if (!(poll_now(fd, POLLOUT) & (POLLOUT | POLLERR | POLLHUP)))
		return -EAGAIN;
	return socket_connected(fd);
}

int selector_connect(struct ul_driver *driver, void *owner, int fd,
                     const struct sockaddr *address, uint32_t address_size,
                     ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;
	int result;

	*token = 0;
	result = connect(fd, address, address_size) == 0 ? 0 : -errno;
	/* EINTR: it goes on without us. */
	if (result != -EINPROGRESS && result != -EALREADY && result != -EINTR)
		return operation_done_at_once(selector, IORING_OP_CONNECT, result);
	operation = operation_take(selector, VERB_CONNECT, owner);
	if (operation == NULL)
		return -ENOMEM;
	return operation_start(selector, operation, fd, WRITERS, token);
}

/* Readiness and the clock. */

int selector_poll(struct ul_driver *driver, void *owner, int fd, uint32_t events,
                  ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;
	uint32_t ready;

	*token = 0;
	if ((events & UL_POLL_LEVEL) == 0) {
		ready = poll_now(fd, events);
		if (ready & POLLNVAL)
			return -EBADF;
		if (ready != 0)
			return operation_done_at_once(selector, IORING_OP_POLL_ADD, (int)ready);
	}
	operation = operation_take(selector, VERB_POLL, owner);
	if (operation == NULL)
		return -ENOMEM;
	/* POLL* and EPOLL* are the same bits on Linux. */
	operation->poll_events = events & UINT32_C(0xffff);
	operation->poll_level = (events & UL_POLL_LEVEL) != 0;
	return operation_start(selector, operation, fd, POLLERS, token);
}

int selector_timeout(struct ul_driver *driver, void *owner, uint64_t duration_ns,
                     ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation = operation_take(selector, VERB_TIMEOUT, owner);
	uint64_t now = monotonic_ns();
	int result;

	*token = 0;
	if (operation == NULL)
		return -ENOMEM;
	result = deadlines_add(&selector->deadlines, operation,
	                       duration_ns < UINT64_MAX - now ? now + duration_ns
	                                                      : UINT64_MAX);
	if (result != 0) {
		operation_drop(selector, operation);
		return result;
	}
	return operation_started(selector, operation, token);
}

/* A splice may wait for a disk, and there is no thread for one. */
int selector_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
                    int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
                    ul_token *token)
{
	(void)driver, (void)owner, (void)fd_in, (void)offset_in;
	(void)fd_out, (void)offset_out, (void)size, (void)flags;
	*token = 0;
	return -EOPNOTSUPP;
}

/* Trying again. */

int operation_attempt(struct selector *selector, struct operation *operation)
{
	int fd = operation->fd;
	int result;

	switch (operation->slot.verb) {
	case VERB_SEND:
		result = call_send(fd, operation->send.iov, operation->send.count);
		send_noticed(descriptor_find(selector, fd), operation->send.iov,
		             operation->send.count, result);
		return result;
	case VERB_CONNECT:
		return connect_result(fd);
	default:
		assert(!"an operation of one call");
		return -EINVAL;
	}
}
