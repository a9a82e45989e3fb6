/* Memory of the loop's for what is received and passed on at once. */
#ifndef UL_SCRATCH_H
#define UL_SCRATCH_H

#include "py.h"

typedef struct Loop Loop;

#define SCRATCH_BYTES (256 * 1024)

/* SCRATCH_BYTES, borrowed; NULL with an exception. */
char *scratch_received(Loop *loop);
void scratch_release(Loop *loop);

#endif
