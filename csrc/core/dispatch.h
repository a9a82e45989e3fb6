/* From the driver to those who wait. */
#ifndef UL_DISPATCH_H
#define UL_DISPATCH_H

#include "base/py.h"

typedef struct Loop Loop;

/* Dispatch what the last turn found.  -1 leaves the rest for the next call. */
int loop_dispatch_all(Loop *loop);

#endif
