/* The completions that were harvested and are not dispatched yet. */
#ifndef UL_BATCH_H
#define UL_BATCH_H

#include "../base/py.h"
#include "../../driver/driver.h"

typedef struct Loop Loop;

/* Whether the operation's end is among them; of a stream, what has come is its last now. */
bool batch_ends(Loop *loop, ul_token token);
/*
 * The number of bytes that the send has sent, when its end is among them; < 0 otherwise.
 * With `take` it is among them no more.
 */
int batch_outcome(Loop *loop, ul_token token, bool take);
/*
 * The bytes of a UL_FOLLOWED completion and of those of its stream that follow, which
 * are then nobody's: a bytes object, or NULL with an exception and nothing changed.
 */
PyObject *batch_gather(Loop *loop, const struct ul_completion *first);

#endif
