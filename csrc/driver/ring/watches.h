/*
 * Level-triggered readiness over an epoll set of its own: what the ring driver
 * needs for watch().
 *
 * Knows descriptors and epoll; knows no operations, no rings.
 */
#ifndef WATCHES_H
#define WATCHES_H

#include <stdbool.h>
#include <stdint.h>

#include "driver.h"

struct watch;

struct watches {
	int epoll_fd;            /* owned; readable when a watch is ready; -1 before the first */
	uint32_t count;          /* descriptors watched now */
	/*
	 * A file that outlived its descriptor (a duplicate, a forked child)
	 * keeps the set readable, and only a new set gets rid of it.  Set by
	 * a harvest; answer with watches_rebuild().
	 */
	bool stale;
	unsigned epoch;          /* fork_epoch when the set was made */
	uint32_t generation;     /* of the latest registration */
	uint32_t size;           /* entries of `table` */
	struct watch *table;     /* owned; by descriptor */
};

void watches_init(struct watches *watches);
void watches_release(struct watches *watches);

/*
 * Watch `fd` for `events` instead of what was watched before; 0 ends the
 * watch.  0, or the -errno of epoll_ctl(2), with the old watch as it was; only
 * with -ENOENT it has ended: `fd` stands for another file by now.
 */
int watches_set(struct watches *watches, void *owner, int fd, uint32_t events,
                ul_token *token);

/*
 * The watches that are ready now, up to `capacity` of them: one epoll_wait(2)
 * that does not sleep.  How many, or -errno.
 */
int watches_harvest(struct watches *watches, struct ul_completion *out, int capacity);

/* End the watch of a descriptor that is about to be closed, if there is one. */
void watches_forget(struct watches *watches, int fd);

/* Make the set anew, after a fork or when stale; `epoll_fd` changes.  0 or -errno. */
int watches_rebuild(struct watches *watches);

#endif
