/* A trial of the ring, and words for why there is none. */
#ifndef TRIAL_H
#define TRIAL_H

#include <stddef.h>

#include "open.h"

/* Make a ring and use it: send, receive, cancel.  0 or -errno, told in `result`. */
int uring_try(struct ul_probe *result, uint64_t disable);

/* Why there is no ring, for people: `error` is -errno of setup_ring(). */
void uring_explain(int error, char *reason, size_t size);

#endif
