/* add_reader and add_writer. */
#ifndef UL_READERS_H
#define UL_READERS_H

#include "../base/py.h"
#include "../../driver/driver.h"

typedef struct Loop Loop;

extern PyMethodDef reader_methods[];
int readers_ready(Loop *loop, const struct ul_completion *completion);
int readers_traverse(Loop *loop, visitproc visit, void *arg);
void readers_clear(Loop *loop);

#endif
