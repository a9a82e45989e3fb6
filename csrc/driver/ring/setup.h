/*
 * The ring that this kernel gives, and its features, found by trying; the errno of each
 * that is not there, EBADE where kernels.h says that it does not work.
 */
#ifndef SETUP_H
#define SETUP_H

#include <stdbool.h>
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

/* Why `feature` is not there: an errno.  Both: after setup_ring(). */
int32_t setup_feature_error(uint64_t feature, uint64_t disable);
uint32_t setup_last_opcode(void);

/* Whether the kernel knows IORING_OP_`opcode`; after setup_ring(). */
bool kernel_has_opcode(uint8_t opcode);

#endif
