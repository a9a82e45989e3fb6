/*
 * Level-triggered readiness over an epoll set of its own: what the ring driver
 * needs for watch().  The selector has its own set (see selector.h) and shares
 * only ul_epoll_register().
 *
 * Knows descriptors and epoll; knows no operations, no rings.
 */
#ifndef UL_WATCHES_H
#define UL_WATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "driver.h"

/*
 * Set in the token of a watch and never in that of an operation, so that
 * cancel() of a watch's token cannot find a stranger.
 */
#define UL_WATCH_TOKEN (UINT64_C(1) << 63)

/* What may be watched: readiness bits, none of the flags that alter epoll. */
#define UL_WATCH_EVENTS UINT32_C(0x27ff)

struct ul_watch;

struct ul_watches {
	int epoll_fd;            /* owned; readable when a watch is ready; -1 before the first */
	uint32_t count;          /* descriptors watched now */
	/*
	 * A file that outlived its descriptor (a duplicate, a forked child)
	 * keeps the set readable, and only a new set gets rid of it.  Set by
	 * a harvest; answer with ul_watches_rebuild().
	 */
	bool stale;
	unsigned epoch;          /* ul_fork_epoch when the set was made */
	uint32_t generation;     /* of the latest registration */
	uint32_t size;           /* entries of `table` */
	struct ul_watch *table;  /* owned; by descriptor */
};

void ul_watches_init(struct ul_watches *watches);
void ul_watches_release(struct ul_watches *watches);

/*
 * Watch `fd` for `events` instead of what was watched before; 0 ends the
 * watch.  0, or the -errno of epoll_ctl(2), with the old watch as it was; only
 * with -ENOENT it has ended: `fd` stands for another file by now.
 */
int ul_watches_set(struct ul_watches *watches, void *owner, int fd, uint32_t events,
                   ul_token *token);

/*
 * The watches that are ready now, up to `capacity` of them: one epoll_wait(2)
 * that does not sleep.  How many, or -errno.
 */
int ul_watches_harvest(struct ul_watches *watches, struct ul_completion *out, int capacity);

/* End the watch of a descriptor that is about to be closed, if there is one. */
void ul_watches_forget(struct ul_watches *watches, int fd);

/* Make the set anew, after a fork or when stale; `epoll_fd` changes.  0 or -errno. */
int ul_watches_rebuild(struct ul_watches *watches);

/*
 * epoll_ctl(2) add or modify.  0 or -errno; -ENOENT: `registered` was another file than
 * the one for which the descriptor stands now.
 */
int ul_epoll_register(int epoll_fd, int fd, bool registered, uint32_t events, uint64_t data);

#endif
