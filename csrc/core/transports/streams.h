/* The streams of a loop that have something to send, or were paused, in this turn. */
#ifndef UL_STREAMS_H
#define UL_STREAMS_H

#include "../base/py.h"

typedef struct Loop Loop;

/* Send what streams have queued in this turn; -1: an exception must end the loop. */
int streams_flush(Loop *loop);
/* As streams_flush(), with plain system calls: no turn follows that would send. */
int streams_flush_now(Loop *loop);
int streams_traverse(Loop *loop, visitproc visit, void *arg);
/* Streams that were paused in this turn, and are still, receive nothing in the next. */
void streams_hold(Loop *loop);
/* Drop the lists of streams that have something to send, or were paused. */
void streams_forget(Loop *loop);

#endif
