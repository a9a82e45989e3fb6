/*
 * Completions on their way from the driver to those who wait for them: one batch
 * after the other, until the last turn's are all told.
 */
#include "dispatch.h"
#include "base/clock.h"
#include "base/process.h"
#include "descriptors/readers.h"
#include "loop.h"
#include "operations/forks.h"
#include "operations/operation.h"

static int loop_dispatch(Loop *self, const struct ul_completion *completion)
{
	struct operation *operation = completion->owner;

	if (unlikely(completion->flags & UL_WATCH))
		return readers_ready(self, completion);
	return operation->completed(self, operation, completion);
}

/* The same, timed for whoever wants to know. */
__attribute__((noinline)) static int loop_dispatch_timed(Loop *self,
                                                         const struct ul_completion *completion)
{
	const struct operation *operation = completion->owner;
	/* What is watched is called by handles. */
	PyObject *holder =
		completion->flags & UL_WATCH ? NULL : Py_NewRef(operation->holder);
	int64_t start = clock_ns();
	int status = loop_dispatch(self, completion);

	if (status == 0 && holder != NULL)
		status = loop_note_long(self, holder, start);
	Py_XDECREF(holder);
	return status;
}

/* The next batch; whether there is one. */
static inline bool loop_harvest(Loop *self)
{
	self->batch.next = 0;
	self->batch.count = self->table->harvest(self->driver, self->batch.items, LOOP_BATCH);
	self->batch.forks = process.forks;
	self->batch.cut = self->batch.count == LOOP_BATCH;
	if (self->batch.count > 0)
		return true;
	self->batch.count = 0;
	self->batch.unharvested = false;
	return false;
}

/* Out of line: a turn that brings nothing is the cheaper for it. */
__attribute__((noinline)) static int loop_dispatch_batches(Loop *self)
{
	const struct ul_completion *completion;
	int status;

	do {
		while (self->batch.next < self->batch.count) {
			if (unlikely(self->batch.forks != process.forks)) {
				loop_leave_to_parent(self);
				continue;
			}
			completion = &self->batch.items[self->batch.next++];
			status = likely(!self->observed) ? loop_dispatch(self, completion)
			                                 : loop_dispatch_timed(self, completion);
			if (unlikely(status < 0))
				return -1;
		}
	} while (loop_harvest(self));
	return 0;
}

/* Dispatch what the last turn found.  -1 leaves the rest for the next call. */
int loop_dispatch_all(Loop *self)
{
	if (self->batch.next == self->batch.count && !loop_harvest(self))
		return 0;
	return loop_dispatch_batches(self);
}
