/*
 * What this kernel offers, found by trying, and the errno where it does not;
 * EBADE where kernels.h says that it does not work.
 */
#ifndef SETUP_H
#define SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat.h"
#include "open.h"
#include "room.h"

/*
 * Make a ring (disabled where the kernel can, for its thread to enable), by the
 * best of the setups that `disable` leaves.  The caller has forbidden forks.  The
 * features in use go to `features`; 0 or -errno, and -ENOMEM is for room_again().
 */
int setup_ring(struct io_uring *ring, const struct ring_size *size, uint64_t disable,
               struct io_uring_params *params, uint64_t *features);

/* Make a ring and use it: send, receive, cancel.  0 or -errno, told in `result`. */
int uring_try(struct ul_probe *result, uint64_t disable);

/* Why there is no ring, for people: `error` is -errno of setup_ring(). */
void uring_explain(int error, char *reason, size_t size);

/* Whether the kernel knows IORING_OP_`opcode`; after setup_ring(). */
bool kernel_has_opcode(uint8_t opcode);

#endif
