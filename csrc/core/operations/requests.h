/* One-shot operations that Python started. */
#ifndef UL_REQUESTS_H
#define UL_REQUESTS_H

#include "../base/py.h"
#include "../../driver/driver.h"

typedef struct Loop Loop;

extern PyMethodDef request_methods[];
int request_completed(Loop *loop, const struct ul_completion *completion);

#endif
