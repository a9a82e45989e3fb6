/*
 * The selector remade: a new epoll set, in which everything that waits is registered,
 * and so all that is ready is reported again.  After a fork the old set is the parent's
 * as well and only closed here; so is the eventfd.  What fails half-way, for want of
 * memory, is made anew by the next turn.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "epoll.h"
#include "selector.h"

int selector_wake_register(struct selector *selector)
{
	/*
	 * Edge-triggered, an eventfd need never be read: every write is an
	 * edge, and its counter lasts for 2^64 of them.
	 */
	return epoll_register(selector->epoll_fd, selector->wake_fd, false,
	                      EPOLLIN | EPOLLET, DATA_WAKE);
}

/*
 * In a set of our own the descriptor is asked for under its old registration first, so
 * that one which stands for another file by now is not taken for what was waited for.
 */
static int descriptor_verify(struct selector *selector, struct descriptor *descriptor)
{
	if (descriptor->registration != UNREGISTERED && descriptor_is_waited_for(descriptor) &&
	    descriptor_register(selector, descriptor) == -ENOENT)
		descriptor_abandon(selector, descriptor);
	return 0;
}

static int descriptor_forget(struct selector *selector, struct descriptor *descriptor)
{
	(void)selector;
	descriptor->list = NULL;
	descriptor->registration = UNREGISTERED;
	descriptor->ready = 0;
	descriptor->due = 0;
	descriptor->again = 0;
	return 0;
}

/* 0, or -errno when there is no memory for it. */
static int descriptor_restore(struct selector *selector, struct descriptor *descriptor)
{
	int result;

	if (!descriptor_is_waited_for(descriptor))
		return 0;
	result = descriptor_register(selector, descriptor);
	if (result == -ENOMEM || result == -ENOSPC)
		return result;
	if (result != 0)
		descriptor_end(selector, descriptor, result);
	return 0;
}

typedef int (*descriptor_handler)(struct selector *selector, struct descriptor *descriptor);

static int each_descriptor(struct selector *selector, descriptor_handler handle)
{
	uint32_t block;
	uint32_t index;
	int result = 0;

	for (block = 0; block < selector->block_count; block++) {
		if (selector->blocks[block] == NULL)
			continue;
		for (index = 0; index < DESCRIPTORS_PER_BLOCK && result == 0; index++)
			result = handle(selector, &selector->blocks[block][index]);
	}
	return result;
}

int selector_rebuild(struct selector *selector)
{
	bool forked = belongs_to_parent(selector);
	int wake_fd = selector->wake_fd;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int result;

	if (epoll_fd < 0)
		return -errno;
	if (forked) {
		wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (wake_fd < 0) {
			result = -errno;
			close(epoll_fd);
			return result;
		}
		close(selector->wake_fd);
		/* The thread that slept is the parent's. */
		atomic_store(&selector->sleeping, false);
	} else {
		each_descriptor(selector, descriptor_verify);
	}
	close(selector->epoll_fd);
	selector->epoll_fd = epoll_fd;
	selector->wake_fd = wake_fd;
	selector->epoch = fork_epoch_now();
	selector->stale = true;
	selector->work = (struct descriptor_list){0};
	selector->later = (struct descriptor_list){0};
	selector->statistics.rebuilt++;
	each_descriptor(selector, descriptor_forget);
	result = selector_wake_register(selector);
	if (result == 0)
		result = each_descriptor(selector, descriptor_restore);
	selector->stale = result != 0;
	return result;
}
