/*
 * A request (struct ul_request) as the system call that does the same.  Whoever makes it
 * waits for a disk, but for nobody else: -ENOTBLK where it might.
 */
#ifndef CALLS_H
#define CALLS_H

#include "driver.h"

/* Is there a call for this IORING_OP_*? */
bool calls_have(uint8_t opcode);
/* Its result, or -errno. */
int64_t calls_make(const struct ul_request *request);

#endif
