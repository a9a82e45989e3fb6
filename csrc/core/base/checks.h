/*
 * Checks before the loop is touched: is it closed, does another thread run it, does
 * it sleep.
 */
#ifndef UL_CHECKS_H
#define UL_CHECKS_H

#include "../loop.h"

extern PyMethodDef check_methods[];

/* Another thread runs the loop: only that one may call the driver, but for wake(). */
static inline bool loop_is_elsewhere(const Loop *loop)
{
	return loop->running && loop->thread != PyThread_get_thread_ident();
}

/* After whatever a loop has to look at: another thread may be doing this. */
static inline void loop_wake_if_asleep(Loop *loop)
{
	if (unlikely(loop->asleep))
		loop->table->wake(loop->driver);
}

/* Each is 0, or -1 and RuntimeError. */

int loop_check_closed(Loop *loop);
/* For what cannot be handed over to the thread that runs the loop. */
int loop_check_thread(const Loop *loop);
/* The same where asyncio refuses it: in debug mode only, with its words. */
int loop_check_debug_thread(const Loop *loop);

#endif
