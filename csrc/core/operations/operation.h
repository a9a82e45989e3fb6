/* Operations in flight: what completions find. */
#ifndef UL_OPERATION_H
#define UL_OPERATION_H

#include "../base/py.h"
#include "../../driver/driver.h"

typedef struct Loop Loop;

/*
 * An operation that was started and has not ended: what a verb's `owner` points to.
 * Until its end the loop holds one reference to `holder`, so that a completion always
 * finds it; the references are visible to the cycle collector through Loop's list.
 *
 * A weak one is held without a reference (a paused transport that nobody refers to is
 * garbage, as in asyncio): its holder's finalizer must strengthen it and end it.
 */
struct operation {
	/* -1 with an exception set: the exception must end the loop. */
	int (*completed)(Loop *loop, struct operation *operation,
	                 const struct ul_completion *completion);
	PyObject *holder;     /* the object that contains it; owned while held */
	struct operation *next;
	struct operation **link; /* NULL when not held */
	ul_token token;
	bool weak;
	bool brings_fd;       /* a result >= 0 is a descriptor that a fork leaves to the parent */
	bool asked;           /* another thread cancelled it: it is in the loop's `cancels` */
	ul_token unwanted;    /* the operation that it cancelled */
	struct operation *next_asked;
};

/*
 * Ask it to end.  True: it has, and is still held.  False: its terminal completion is
 * still to be dispatched.
 */
bool operation_end(Loop *loop, struct operation *operation);
/*
 * The number of bytes that the send has sent, if it has ended; with `take` it was then
 * dropped, and is told nothing.  Otherwise < 0.
 */
int operation_outcome(Loop *loop, struct operation *operation, bool take);
void operation_hold(Loop *loop, struct operation *operation);
void operation_drop(struct operation *operation);   /* may free the holder */
void operation_weaken(struct operation *operation); /* may free the holder */
void operation_strengthen(struct operation *operation);

#endif
