/*
 * Registrations with epoll, and the tokens of watches: the same under both drivers,
 * each of which has a set of its own (ring/watches.c, selector/descriptors.c).
 *
 * epoll knows files, not descriptors: a registration lives until the last
 * duplicate of the file is closed, and keeps naming the descriptor it was made
 * with, whatever that stands for meanwhile (epoll(7), Questions 6 and 9).  So
 * each registration carries a generation in epoll_event.data, and events of
 * any but the latest one of a descriptor are dropped.
 */
#ifndef EPOLL_H
#define EPOLL_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Set in the token of a watch and never in that of an operation, so that
 * cancel() of a watch's token cannot find a stranger.
 */
#define WATCH_TOKEN (UINT64_C(1) << 63)

/* The bits that may be watched: readiness, none of the flags that alter epoll. */
#define WATCH_EVENTS UINT32_C(0x27ff)

/*
 * epoll_ctl(2) add or modify.  0 or -errno; -ENOENT: `registered` was another file than
 * the one for which the descriptor stands now.
 */
int epoll_register(int epoll_fd, int fd, bool registered, uint32_t events, uint64_t data);

#endif
