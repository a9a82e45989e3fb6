/*
 * One entry per descriptor: who waits for it, and how epoll knows it.
 *
 * epoll knows files, not descriptors (see epoll.h).  We rely on this:
 *
 *   - close(2) of the last duplicate removes the registration by itself, so a
 *     descriptor that verbs alone used is closed without epoll_ctl(2);
 *   - adding or modifying a registration polls the file at once, and what is
 *     ready then is reported by the next epoll_wait(2) even edge-triggered.
 *     So nothing need be remembered from times when nobody waited: to start
 *     to wait is to register again, one system call that also finds out that
 *     the descriptor stands for another file by now (ENOENT): then whoever
 *     waited before waited for what is gone (EBADF), not for that.  Only the send
 *     of a stream that is being received is spared that call: the transport
 *     that receives owns the descriptor, so it cannot have changed hands;
 *   - a registration that outlived its descriptor is told by its generation.
 *
 * Edge- and level-triggered cost the same while a stream is only received (5.3
 * and 5.4 us a message of 1 KiB); edge-triggered, pausing and full sockets cost
 * no epoll_ctl(2), and what nobody reads does not keep the loop awake.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "epoll.h"
#include "selector.h"

/* EPOLLPRI: urgent data ends a receive early, see `announced`. */
#define EDGE_MASK (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

int descriptor_get(struct selector *selector, int fd, struct descriptor **descriptor)
{
	uint32_t block = (uint32_t)fd / DESCRIPTORS_PER_BLOCK;
	struct descriptor *made;
	uint32_t index;

	*descriptor = descriptor_find(selector, fd);
	if (*descriptor != NULL)
		return 0;
	/* The table is as long as the highest descriptor: let it be a real one. */
	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	if (block >= selector->block_count) {
		struct descriptor **blocks =
			realloc(selector->blocks, (block + 1) * sizeof(*blocks));

		if (blocks == NULL)
			return -ENOMEM;
		memset(blocks + selector->block_count, 0,
		       (block + 1 - selector->block_count) * sizeof(*blocks));
		selector->blocks = blocks;
		selector->block_count = block + 1;
	}
	made = calloc(DESCRIPTORS_PER_BLOCK, sizeof(*made));
	if (made == NULL)
		return -ENOMEM;
	for (index = 0; index < DESCRIPTORS_PER_BLOCK; index++)
		made[index].fd = (int)(block * DESCRIPTORS_PER_BLOCK + index);
	selector->blocks[block] = made;
	*descriptor = descriptor_find(selector, fd);
	return 0;
}

void descriptors_release(struct selector *selector)
{
	uint32_t block;

	for (block = 0; block < selector->block_count; block++)
		free(selector->blocks[block]);
	free(selector->blocks);
	selector->blocks = NULL;
	selector->block_count = 0;
}

static uint32_t polled_events(const struct descriptor *descriptor)
{
	const struct operation *operation;
	uint32_t events = 0;

	for (operation = descriptor->pollers.first; operation != NULL;
	     operation = operation->next)
		events |= operation->poll_events;
	return events;
}

static uint32_t level_mask(const struct descriptor *descriptor)
{
	uint32_t mask = descriptor->watch_events | polled_events(descriptor);

	if (descriptor->readers.first != NULL && !descriptor_is_readable(descriptor))
		mask |= EPOLLIN | EPOLLRDHUP | EPOLLPRI;
	if (descriptor->writers.first != NULL)
		mask |= EPOLLOUT;
	return mask;
}

static bool wants_level(const struct descriptor *descriptor)
{
	const struct operation *operation;

	for (operation = descriptor->pollers.first; operation != NULL;
	     operation = operation->next)
		if (operation->poll_level)
			return true;
	return descriptor->watch_events != 0;
}

int descriptor_register(struct selector *selector, struct descriptor *descriptor)
{
	bool level = wants_level(descriptor);
	uint32_t mask = level ? level_mask(descriptor) : EDGE_MASK | polled_events(descriptor);
	uint32_t generation = ++selector->generation;
	uint64_t data = (uint64_t)generation << 32 | (uint32_t)descriptor->fd;
	int result;

	if (belongs_to_parent(selector)) {
		descriptor->registration = UNREGISTERED;
		return 0;
	}
	result = epoll_register(selector->epoll_fd, descriptor->fd,
	                        descriptor->registration != UNREGISTERED, mask,
	                        level ? data | DATA_LEVEL : data);
	if (result == -ENOENT)
		descriptor->registration = UNREGISTERED;
	if (result != 0)
		return result;
	descriptor->registration = level ? LEVEL : EDGE;
	descriptor->generation = generation;
	descriptor->mask = mask;
	descriptor->ready = 0;
	descriptor->due = 0;
	descriptor->again = 0;
	descriptor->announced = 0;
	descriptor->full = false;
	return 0;
}

bool descriptor_mask_is_wrong(const struct descriptor *descriptor)
{
	return !wants_level(descriptor) || level_mask(descriptor) != descriptor->mask;
}

void descriptor_unregister(struct selector *selector, struct descriptor *descriptor)
{
	struct epoll_event ignored = {0};

	/* ENOENT and EBADF: it was closed behind our back, which is as good. */
	if (!belongs_to_parent(selector) && descriptor->registration != UNREGISTERED)
		epoll_ctl(selector->epoll_fd, EPOLL_CTL_DEL, descriptor->fd, &ignored);
	descriptor->registration = UNREGISTERED;
	descriptor->ready = 0;
	descriptor->due = 0;
	descriptor->again = 0;
}

void descriptor_list_append(struct descriptor_list *list, struct descriptor *descriptor)
{
	assert(descriptor->list == NULL);
	descriptor->list = list;
	descriptor->next = NULL;
	descriptor->previous = list->last;
	if (list->last != NULL)
		list->last->next = descriptor;
	else
		list->first = descriptor;
	list->last = descriptor;
}

void descriptor_list_remove(struct descriptor *descriptor)
{
	struct descriptor_list *list = descriptor->list;

	if (list == NULL)
		return;
	if (descriptor->previous != NULL)
		descriptor->previous->next = descriptor->next;
	else
		list->first = descriptor->next;
	if (descriptor->next != NULL)
		descriptor->next->previous = descriptor->previous;
	else
		list->last = descriptor->previous;
	descriptor->list = NULL;
}

void descriptor_due(struct selector *selector, struct descriptor *descriptor, uint8_t due)
{
	descriptor->due |= due;
	if (descriptor->list != NULL)
		return;
	descriptor->served = 0;
	descriptor_list_append(&selector->work, descriptor);
}
