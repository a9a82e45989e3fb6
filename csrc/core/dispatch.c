/*
 * Completions on their way from the driver to those who wait for them: one batch
 * after the other, until the last turn's are all told.
 */
#include "core.h"

#include <string.h>

static int loop_dispatch(Loop *self, const struct ul_completion *completion)
{
	if (likely(completion->owner != NULL && !(completion->flags & UL_WATCH))) {
		struct sink *sink = completion->owner;

		return sink->completed(self, sink, completion);
	}
	if (completion->flags & UL_WATCH)
		return watcher_ready(self, completion);
	return operation_completed(self, completion);
}

/* The next batch; whether there is one. */
static inline bool loop_harvest(Loop *self)
{
	self->batch_next = 0;
	self->batch_count = self->table->harvest(self->driver, self->batch, LOOP_BATCH);
	self->forks = core_forks;
	if (self->batch_count > 0)
		return true;
	self->batch_count = 0;
	self->unharvested = false;
	return false;
}

/* Out of line: a turn that brings nothing is the cheaper for it. */
__attribute__((noinline))
static int loop_dispatch_batches(Loop *self)
{
	do {
		while (self->batch_next < self->batch_count) {
			if (unlikely(self->forks != core_forks)) {
				loop_leave_to_parent(self);
				continue;
			}
			if (unlikely(loop_dispatch(self, &self->batch[self->batch_next++]) < 0))
				return -1;
		}
	} while (loop_harvest(self));
	return 0;
}

int loop_dispatch_all(Loop *self)
{
	if (self->batch_next == self->batch_count && !loop_harvest(self))
		return 0;
	return loop_dispatch_batches(self);
}

static int nobody_completed(Loop *Py_UNUSED(loop), struct sink *Py_UNUSED(sink),
                            const struct ul_completion *Py_UNUSED(completion))
{
	return 0;
}

/* The last of a stream is dispatched by itself, for it ends an operation. */
static bool is_followed_by(const struct ul_completion *first, const struct ul_completion *other)
{
	return other->token == first->token && other->flags & UL_LENT && other->flags & UL_MORE;
}

PyObject *loop_gather(Loop *self, const struct ul_completion *first)
{
	/* Finds what was gathered already, until the batch has been gone through. */
	static struct sink nobody = {.completed = nobody_completed};
	size_t size = (size_t)first->result;
	PyObject *bytes;
	char *end;
	int i;

	for (i = self->batch_next; i < self->batch_count; i++) {
		if (is_followed_by(first, &self->batch[i]))
			size += (size_t)self->batch[i].result;
	}
	bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (unlikely(bytes == NULL))
		return NULL;
	end = mempcpy(PyBytes_AS_STRING(bytes), first->data, (size_t)first->result);
	for (i = self->batch_next; i < self->batch_count; i++) {
		struct ul_completion *completion = &self->batch[i];

		if (!is_followed_by(first, completion))
			continue;
		end = mempcpy(end, completion->data, (size_t)completion->result);
		self->table->recycle(self->driver, completion->data);
		*completion = (struct ul_completion){.owner = &nobody};
	}
	return bytes;
}
