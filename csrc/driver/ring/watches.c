/* The level-triggered watches of the ring driver.  See watches.h. */
#include "watches.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "epoll.h"
#include "fork.h"

/* A watch, as registered: see epoll.h for why it has a generation. */
struct watch {
	void *owner;         /* the caller's */
	uint32_t events;     /* 0: not watched */
	uint32_t generation;
};

/* The generation shares the token with WATCH_TOKEN. */
#define GENERATION_MAX UINT32_C(0x7fffffff)
#define EVENTS_PER_HARVEST 64

static uint64_t registration_data(const struct watch *watch, int fd)
{
	return (uint64_t)watch->generation << 32 | (uint32_t)fd;
}

static ul_token watch_token(const struct watch *watch, int fd)
{
	return WATCH_TOKEN | (registration_data(watch, fd) + 1);
}

void watches_init(struct watches *watches)
{
	memset(watches, 0, sizeof(*watches));
	watches->epoch = fork_epoch_now();
	watches->epoll_fd = -1;
}

/* Most loops watch nothing: the set is made for the first watch. */
static int watches_open(struct watches *watches)
{
	if (watches->epoll_fd < 0)
		watches->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return watches->epoll_fd >= 0 ? 0 : -errno;
}

void watches_release(struct watches *watches)
{
	if (watches->epoll_fd >= 0)
		close(watches->epoll_fd);
	free(watches->table);
	memset(watches, 0, sizeof(*watches));
	watches->epoll_fd = -1;
}

static int table_grow(struct watches *watches, int fd)
{
	uint32_t size = watches->size != 0 ? watches->size : 64;
	struct watch *table;

	/* The table is as long as the highest descriptor: let it be a real one. */
	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	while (size <= (uint32_t)fd)
		size *= 2;
	table = realloc(watches->table, size * sizeof(*table));
	if (table == NULL)
		return -ENOMEM;
	memset(table + watches->size, 0, (size - watches->size) * sizeof(*table));
	watches->table = table;
	watches->size = size;
	return 0;
}

static void watch_end(struct watches *watches, struct watch *watch, int fd)
{
	/* Whatever it answers, the watch is over: EBADF and ENOENT were closed already. */
	if (!made_before_fork(watches->epoch))
		epoll_ctl(watches->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	watch->owner = NULL;
	watch->events = 0;
	watches->count--;
}

int watches_set(struct watches *watches, void *owner, int fd, uint32_t events,
                ul_token *token)
{
	struct watch *watch;
	struct watch wanted = { .owner = owner, .events = events & WATCH_EVENTS };
	int result = 0;

	*token = 0;
	if (wanted.events == 0) {
		watches_forget(watches, fd);
		return 0;
	}
	if (fd < 0 || (uint32_t)fd >= watches->size) {
		result = table_grow(watches, fd);
		if (result != 0)
			return result;
	}
	watch = &watches->table[fd];
	watches->generation = watches->generation % GENERATION_MAX + 1;
	wanted.generation = watches->generation;
	/* The rebuild registers it in a forked child. */
	if (!made_before_fork(watches->epoch)) {
		result = watches_open(watches);
		if (result == 0)
			result = epoll_register(watches->epoll_fd, fd, watch->events != 0,
			                        wanted.events, registration_data(&wanted, fd));
	}
	if (result == -ENOENT)
		watch_end(watches, watch, fd);
	if (result != 0)
		return result;
	if (watch->events == 0)
		watches->count++;
	*watch = wanted;
	*token = watch_token(watch, fd);
	return 0;
}

int watches_harvest(struct watches *watches, struct ul_completion *out, int capacity)
{
	struct epoll_event events[EVENTS_PER_HARVEST];
	int count;
	int index;
	int taken = 0;

	if (made_before_fork(watches->epoch) || watches->epoll_fd < 0)
		return 0;
	count = epoll_wait(watches->epoll_fd, events,
	                   capacity < EVENTS_PER_HARVEST ? capacity : EVENTS_PER_HARVEST, 0);
	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (index = 0; index < count; index++) {
		uint32_t fd = (uint32_t)events[index].data.u64;
		struct watch *watch;

		assert(fd < watches->size);
		watch = &watches->table[fd];
		if (watch->events == 0 ||
		    watch->generation != (uint32_t)(events[index].data.u64 >> 32)) {
			watches->stale = true;
			continue;
		}
		out[taken++] = (struct ul_completion){
			.owner = watch->owner,
			.token = watch_token(watch, (int)fd),
			.result = (int32_t)events[index].events,
			.flags = UL_WATCH | UL_MORE,
		};
	}
	return taken;
}

void watches_forget(struct watches *watches, int fd)
{
	if (fd < 0 || (uint32_t)fd >= watches->size || watches->table[fd].events == 0)
		return;
	watch_end(watches, &watches->table[fd], fd);
}

/*
 * In a set of our own the watch is asked for first: its descriptor may stand for another
 * file by now, which nobody has asked to watch.
 */
static bool is_gone(const struct watches *watches, const struct watch *watch, int fd)
{
	struct epoll_event event = { .events = watch->events,
	                             .data.u64 = registration_data(watch, fd) };

	return !made_before_fork(watches->epoch) &&
	       epoll_ctl(watches->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0;
}

int watches_rebuild(struct watches *watches)
{
	int epoll_fd = -1;
	uint32_t fd;

	if (watches->count != 0) {
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_fd < 0)
			return -errno;
	}
	for (fd = 0; fd < watches->size; fd++) {
		struct watch *watch = &watches->table[fd];
		int result;

		if (watch->events == 0)
			continue;
		result = is_gone(watches, watch, (int)fd) ? -ENOENT :
		         epoll_register(epoll_fd, (int)fd, false, watch->events,
		                        registration_data(watch, (int)fd));
		if (result == -ENOMEM || result == -ENOSPC) {
			/* The old set stays, for the next try. */
			close(epoll_fd);
			return result;
		}
		/*
		 * What cannot be watched any more was closed behind our back:
		 * epoll itself would have forgotten it without a word.
		 */
		if (result != 0)
			watch_end(watches, watch, (int)fd);
	}
	if (watches->epoll_fd >= 0)
		close(watches->epoll_fd);
	watches->epoll_fd = epoll_fd;
	watches->epoch = fork_epoch_now();
	watches->stale = false;
	return 0;
}
