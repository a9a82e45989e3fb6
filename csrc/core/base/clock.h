/*
 * The loop's clock: CLOCK_MONOTONIC, unless somebody has put another time() on the
 * loop.
 */
#ifndef UL_CLOCK_H
#define UL_CLOCK_H

#include "overrides.h"
#include "../loop.h"

#include <time.h>

extern PyMethodDef clock_methods[];

/* The time that somebody's own time() says; -1 with an exception. */
double clock_overridden(Loop *loop);

static inline double clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds; -1 with an exception when overridden. */
static inline double loop_time(Loop *loop)
{
	return unlikely(loop_overrides(loop) & OVERRIDES_TIME) ? clock_overridden(loop)
	                                                       : clock_now();
}

/*
 * `callback` has run since `start`, of clock_ns(): Python keeps its name, if it is among
 * the longest.  Calls out.  0, or -1 with an exception that must end the loop.
 */
int loop_note_long(Loop *loop, PyObject *callback, int64_t start);

/* Debug mode: log `what` if it has run since `start` for too long; 0 or -1. */
int loop_report_slow(Loop *loop, PyObject *what, double start);

#endif
