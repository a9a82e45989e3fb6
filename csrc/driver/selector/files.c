/*
 * The selector's verbs that are not about sockets: readiness itself, the
 * clock, and what can be read and written.
 *
 * Regular files have no readiness (epoll refuses them with EPERM), but their
 * calls never say EAGAIN either: they are made at once, and block.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "monotonic.h"
#include "selector.h"

uint32_t poll_now(int fd, uint32_t events)
{
	struct pollfd polled = { .fd = fd, .events = (short)events };

	return poll(&polled, 1, 0) == 1 ? (uint32_t)(unsigned short)polled.revents : 0;
}

static int call_read(int fd, void *buffer, uint32_t size, int64_t offset)
{
	ssize_t result;

	do {
		result = offset < 0 ? read(fd, buffer, size) : pread(fd, buffer, size, offset);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : (int)result;
}

static int call_write(int fd, const void *data, uint32_t size, int64_t offset)
{
	ssize_t result;

	do {
		result = offset < 0 ? write(fd, data, size) : pwrite(fd, data, size, offset);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : (int)result;
}

static int call_splice(int fd_in, int64_t offset_in, int fd_out, int64_t offset_out,
                       uint32_t size, uint32_t flags)
{
	loff_t in = offset_in;
	loff_t out = offset_out;
	ssize_t result;

	do {
		result = splice(fd_in, offset_in < 0 ? NULL : &in, fd_out,
		                offset_out < 0 ? NULL : &out, size,
		                flags | SPLICE_F_NONBLOCK);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : (int)result;
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

/* Files, pipes and whatever else can be read and written. */

int selector_read(struct ul_driver *driver, void *owner, int fd, void *buffer,
                  uint32_t size, int64_t offset, ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;

	*token = 0;
	if (!somebody_waits(selector, fd, READERS)) {
		int result = call_read(fd, buffer, size, offset);

		if (result != -EAGAIN)
			return operation_done_at_once(selector, IORING_OP_READ, result);
	}
	operation = operation_take(selector, VERB_READ, owner);
	if (operation == NULL)
		return -ENOMEM;
	operation->transfer.buffer = buffer;
	operation->transfer.size = size;
	operation->transfer.offset = offset;
	return operation_start(selector, operation, fd, READERS, token);
}

int selector_write(struct ul_driver *driver, void *owner, int fd, const void *data,
                   uint32_t size, int64_t offset, ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;

	*token = 0;
	if (!somebody_waits(selector, fd, WRITERS)) {
		int result = call_write(fd, data, size, offset);

		if (result != -EAGAIN)
			return operation_done_at_once(selector, IORING_OP_WRITE, result);
	}
	operation = operation_take(selector, VERB_WRITE, owner);
	if (operation == NULL)
		return -ENOMEM;
	operation->transfer.buffer = (void *)data;
	operation->transfer.size = size;
	operation->transfer.offset = offset;
	return operation_start(selector, operation, fd, WRITERS, token);
}

/*
 * EAGAIN of splice(2) does not say which descriptor is to blame.  poll(2) does;
 * when it finds both ready (the pipe has room, but not for this), the clock
 * tries again.  0 or -ENOMEM.
 */
static int splice_side(struct selector *selector, struct operation *operation, int *fd,
                       enum side *side)
{
	if (poll_now(operation->splice.fd_in, POLLIN) == 0) {
		*fd = operation->splice.fd_in;
		*side = READERS;
		return 0;
	}
	*fd = operation->splice.fd_out;
	*side = WRITERS;
	if (poll_now(operation->splice.fd_out, POLLOUT) == 0)
		return 0;
	return operation_retry_later(selector, operation);
}

bool splice_move(struct selector *selector, struct operation *operation)
{
	enum side side;
	int fd;
	int result = splice_side(selector, operation, &fd, &side);

	/* Where it waits already it is not registered again: that would report anew. */
	if (result == 0 && fd == operation->fd)
		return false;
	operation_queue_remove(operation);
	if (result == 0)
		result = operation_wait(selector, operation, fd, side);
	if (result != 0)
		operation_complete(selector, operation, result);
	return true;
}

int selector_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
                    int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
                    ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;
	enum side side;
	int result;
	int fd;

	*token = 0;
	result = call_splice(fd_in, offset_in, fd_out, offset_out, size, flags);
	if (result != -EAGAIN)
		return operation_done_at_once(selector, IORING_OP_SPLICE, result);
	operation = operation_take(selector, VERB_SPLICE, owner);
	if (operation == NULL)
		return -ENOMEM;
	operation->splice.fd_in = fd_in;
	operation->splice.fd_out = fd_out;
	operation->splice.offset_in = offset_in;
	operation->splice.offset_out = offset_out;
	operation->splice.size = size;
	operation->splice.flags = flags;
	result = splice_side(selector, operation, &fd, &side);
	if (result != 0) {
		operation_drop(selector, operation);
		return result;
	}
	return operation_start(selector, operation, fd, side, token);
}

int file_attempt(struct operation *operation)
{
	int fd = operation->fd;

	switch (operation->slot.verb) {
	case VERB_READ:
		return call_read(fd, operation->transfer.buffer, operation->transfer.size,
		                 operation->transfer.offset);
	case VERB_WRITE:
		return call_write(fd, operation->transfer.buffer, operation->transfer.size,
		                  operation->transfer.offset);
	case VERB_SPLICE:
		return call_splice(operation->splice.fd_in, operation->splice.offset_in,
		                   operation->splice.fd_out, operation->splice.offset_out,
		                   operation->splice.size, operation->splice.flags);
	default:
		assert(!"an operation of one call");
		return -EINVAL;
	}
}
