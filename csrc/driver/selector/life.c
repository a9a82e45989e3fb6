/*
 * The life of the selector, the driver's verbs by readiness, on epoll: opened, begun
 * and ended, closed; and its table.
 *
 * It serves where there is no io_uring, and must not be slower there than an
 * event loop made for epoll: a message costs one receive and one send, and its
 * share of an epoll_wait(2) that reports up to 256 descriptors.  What keeps it
 * at that is told in descriptors.c (registered once, edge-triggered) and in
 * serve.c (one receive, one hot buffer).
 */
#include "selector.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "epoll.h"

/*
 * A receive buffer.  Measured on a C echo server over loopback, CPU time per
 * message: at 1 KiB its size makes no difference (5.3 us), since only what is
 * received is touched; at 100 KiB buffers of 64 KiB cost 30 us, of 128 KiB 24
 * and of 256 KiB 23, and larger ones gain nothing.
 */
#define BUFFER_SIZE_DEFAULT (256 * 1024)
/* One is enough while the owner recycles during dispatch; more are for those that do not. */
#define BUFFERS_SPARE_DEFAULT 8

int selector_open(const struct ul_options *options, struct ul_driver **driver)
{
	struct selector *selector;
	uint32_t buffer_size = BUFFER_SIZE_DEFAULT;
	uint32_t buffer_count = BUFFERS_SPARE_DEFAULT;
	int result;

	*driver = NULL;
	if (options != NULL) {
		if (options->size != 0 && options->size != sizeof(*options))
			return -EINVAL;
		if (options->buffer_size != 0)
			buffer_size = options->buffer_size;
		if (options->buffer_count != 0)
			buffer_count = options->buffer_count;
	}
	/* A child that took itself for its parent would undo what its parent waits for. */
	result = fork_is_seen();
	if (result != 0)
		return result;
	selector = calloc(1, sizeof(*selector));
	if (selector == NULL)
		return -ENOMEM;
	selector->driver.table = &selector_table;
	selector->has_pwait2 = true;
	selector->epoch = fork_epoch_now();
	slots_init(&selector->slots, sizeof(struct operation));
	buffers_init(&selector->buffers, buffer_size, buffer_count);
	selector->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	result = selector->epoll_fd < 0 ? -errno : 0;
	selector->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (result == 0)
		result = selector->wake_fd < 0 ? -errno : selector_wake_register(selector);
	if (result != 0) {
		selector_table.destroy(&selector->driver);
		return result;
	}
	*driver = &selector->driver;
	return 0;
}

static int selector_begin(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);

	return belongs_to_parent(selector) || selector->stale ? selector_rebuild(selector) : 0;
}

static void selector_end(struct ul_driver *driver)
{
	(void)driver;
}

static int selector_cancel(struct ul_driver *driver, ul_token token)
{
	struct selector *selector = selector_of(driver);
	struct operation *operation;
	struct descriptor *descriptor;
	bool was_readable;

	if (token & WATCH_TOKEN)
		return -ENOENT;
	operation = (struct operation *)slot_find(&selector->slots, token);
	if (operation == NULL)
		return -ENOENT;
	if (operation->slot.state == STATE_DONE)
		return -EINPROGRESS;
	if (operation->slot.verb == VERB_REQUEST)
		return request_cancel(selector, operation);
	was_readable = operation->slot.verb == VERB_RECV && operation->stream.readable;
	operation_end(selector, operation);
	descriptor = descriptor_find(selector, operation->fd);
	if (descriptor == NULL)
		return 0;
	/* The event that the next in the queue waits for was reported to this one. */
	if (was_readable && descriptor->readers.first != NULL &&
	    descriptor_register(selector, descriptor) == -ENOENT)
		descriptor_abandon(selector, descriptor);
	descriptor_settle(selector, descriptor);
	return 0;
}

/* Sends end in the verb, or in harvest(). */
static int selector_outcome(struct ul_driver *driver, ul_token token, bool take)
{
	(void)driver;
	(void)token;
	(void)take;
	return -EINPROGRESS;
}

/* An operation that is done here names its descriptor no more. */
static bool selector_released(struct ul_driver *driver, ul_token token)
{
	struct slot *slot = slot_find(&selector_of(driver)->slots, token);

	return slot == NULL || slot->state == STATE_DONE;
}

static int selector_close(struct ul_driver *driver, int fd)
{
	struct selector *selector = selector_of(driver);
	struct descriptor *descriptor = descriptor_find(selector, fd);

	if (descriptor != NULL) {
		/* The caller promised that there are none; but a lost one would hang. */
		descriptor_end(selector, descriptor, -ECANCELED);
		if (descriptor->registration == LEVEL)
			descriptor_unregister(selector, descriptor);
		descriptor_list_remove(descriptor);
		descriptor->registration = UNREGISTERED;
		descriptor->due = 0;
		descriptor->again = 0;
		descriptor->ready = 0;
	}
	/* EINTR: Linux has closed it all the same. */
	return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

static int selector_watch(struct ul_driver *driver, void *owner, int fd, uint32_t events,
                          ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct descriptor *descriptor = descriptor_find(selector, fd);
	struct descriptor before;
	int result;

	*token = 0;
	events &= WATCH_EVENTS;
	if (events == 0) {
		if (descriptor != NULL && descriptor->watch_events != 0) {
			descriptor->watch_owner = NULL;
			descriptor->watch_events = 0;
			descriptor_settle(selector, descriptor);
		}
		return 0;
	}
	result = descriptor_get(selector, fd, &descriptor);
	if (result != 0)
		return result;
	before = *descriptor;
	descriptor->watch_owner = owner;
	descriptor->watch_events = events;
	result = descriptor_register(selector, descriptor);
	if (result == -ENOENT) {
		descriptor_abandon(selector, descriptor);
		if (before.watch_events != 0)
			return result;
		descriptor->watch_owner = owner;
		descriptor->watch_events = events;
		result = descriptor_register(selector, descriptor);
	}
	if (result != 0) {
		descriptor->watch_owner = before.watch_owner;
		descriptor->watch_events = before.watch_events;
		return result;
	}
	descriptor->watch_token = WATCH_TOKEN |
	                          ((uint64_t)selector->generation << 32 | ((uint32_t)fd + 1));
	*token = descriptor->watch_token;
	return 0;
}

static void selector_shutdown(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);
	uint32_t index;

	requests_end(selector);
	for (index = 0; index < selector->slots.block_count * SLOTS_PER_BLOCK; index++) {
		struct slot *slot = slot_at(&selector->slots, index);

		if (slot->state == STATE_IN_KERNEL)
			operation_complete(selector, (struct operation *)slot, -ECANCELED);
	}
	for (index = 0; index < selector->block_count * DESCRIPTORS_PER_BLOCK; index++) {
		struct descriptor *descriptor = descriptor_find(selector, (int)index);

		if (descriptor != NULL && descriptor->watch_events != 0) {
			descriptor->watch_owner = NULL;
			descriptor->watch_events = 0;
			descriptor_settle(selector, descriptor);
		}
	}
}

static void selector_destroy(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);

	/* Frees what the operations own. */
	selector_shutdown(driver);
	if (selector->epoll_fd >= 0)
		close(selector->epoll_fd);
	if (selector->wake_fd >= 0)
		close(selector->wake_fd);
	deadlines_release(&selector->deadlines);
	descriptors_release(selector);
	buffers_release(&selector->buffers);
	slots_release(&selector->slots);
	free(selector);
}

static const struct ul_statistics *selector_statistics(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);

	selector->statistics.in_flight = selector->slots.live;
	return &selector->statistics;
}

const struct ul_table selector_table = {
	.size = sizeof(struct ul_table),
	.abi = UL_ABI,
	.name = "selector",
	/*
	 * A queued send saves nothing here but joins the writes of a turn; the
	 * bytes of many connections kept until then cost more, in page faults.
	 */
	.eager_send_bytes = 8 * 1024,
	.begin = selector_begin,
	.end = selector_end,
	.turn = selector_turn,
	.immediate = selector_immediate,
	.harvest = selector_harvest,
	.wake = selector_wake,
	.recycle = selector_recycle,
	.recv = selector_recv,
	.take = selector_take,
	.hold = selector_hold,
	.recv_from = selector_recv_from,
	.send = selector_send,
	.accept = selector_accept,
	.connect = selector_connect,
	.poll = selector_poll,
	.timeout = selector_timeout,
	.splice = selector_splice,
	.submit = selector_submit,
	.cancel = selector_cancel,
	.outcome = selector_outcome,
	.released = selector_released,
	.close = selector_close,
	.watch = selector_watch,
	.shutdown = selector_shutdown,
	.destroy = selector_destroy,
	.statistics = selector_statistics,
};
