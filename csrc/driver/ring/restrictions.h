/*
 * What a ring of ours may be asked for: the opcodes, flags and registrations that this driver
 * uses, and nothing else.  The kernel refuses the rest (EACCES) from the moment in which the
 * ring is enabled, for as long as it lives: whoever gets at the descriptor, or at the mapped
 * queue, can make it do no more than the driver does.  5.10, io_uring_register(2).
 */
#ifndef RESTRICTIONS_H
#define RESTRICTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "compat.h"
#include "open.h"

/* Whether IORING_OP_`opcode` is one of the driver's, on any kernel. */
bool restrictions_have(uint8_t opcode);

/*
 * Restrict a ring that is still disabled, whose kernel has these opcodes (by number) and
 * `features`.  `has_workers`: it knows IORING_REGISTER_IOWQ_MAX_WORKERS.  0 or -errno, and
 * then nothing is restricted.
 */
int restrictions_apply(struct io_uring *ring, const bool *has_opcode, uint64_t features,
                       bool has_workers);

#endif
