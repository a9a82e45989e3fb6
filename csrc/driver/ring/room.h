/*
 * Room for rings: kernels before 5.12, and some later ones (seen: 6.18), charge a ring
 * to the user's locked memory (RLIMIT_MEMLOCK), and give that back some time after the
 * ring was closed (seen: 8 to 25 ms; the kernel's grace period and a work queue).
 *
 * So a ring for which there is no room waits as long as one that was closed may give
 * its own back, and is halved only then.  Who does not fit all the same is made to
 * wait again for that size only when fewer rings are open.
 */
#ifndef ROOM_H
#define ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "compat.h"

struct ring_size {
	uint32_t entries;
	uint32_t cq_entries;
};

/* There was no room (-ENOMEM): whether to try again, perhaps smaller.  May sleep. */
bool room_again(struct ring_size *size);
/* There was. */
void room_found(void);
/* io_uring_queue_exit(), of a ring for which there was room. */
void room_close(struct io_uring *ring);

#endif
