/* Completions that the child of a fork must not take for its own. */
#ifndef UL_FORKS_H
#define UL_FORKS_H

#include "../base/py.h"

typedef struct Loop Loop;

int forks_init(void);
/* In the child: drop from the batch what its parent has got. */
void loop_leave_to_parent(Loop *loop);

#endif
