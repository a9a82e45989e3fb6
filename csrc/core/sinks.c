/*
 * What completions find: sinks held while their operation is in flight, and
 * descriptors closed once no operation names them.
 */
#include "core.h"

#include <unistd.h>

void sink_hold(Loop *self, struct sink *sink)
{
	assert(sink->link == NULL);
	Py_INCREF(sink->holder);
	sink->weak = false;
	sink->next = self->held;
	if (sink->next != NULL)
		sink->next->link = &sink->next;
	sink->link = &self->held;
	self->held = sink;
}

void sink_drop(struct sink *sink)
{
	assert(sink->link != NULL);
	*sink->link = sink->next;
	if (sink->next != NULL)
		sink->next->link = sink->link;
	sink->link = NULL;
	sink->next = NULL;
	if (!sink->weak)
		Py_DECREF(sink->holder);
}

void sink_weaken(struct sink *sink)
{
	if (sink->link == NULL || sink->weak)
		return;
	sink->weak = true;
	Py_DECREF(sink->holder);
}

void sink_strengthen(struct sink *sink)
{
	if (sink->link == NULL || !sink->weak)
		return;
	sink->weak = false;
	Py_INCREF(sink->holder);
}

bool sink_end(Loop *self, struct sink *sink)
{
	int i;

	/* -EINPROGRESS: it follows.  -ENOENT: it was harvested, so it waits in our batch. */
	if (self->table->cancel(self->driver, sink->token) != 0)
		return false;
	for (i = self->batch_count; i-- > self->batch_next;) {
		struct ul_completion *completion = &self->batch[i];

		if (completion->token == sink->token && !(completion->flags & UL_WATCH)) {
			/* The last one that we have is now the terminal one. */
			completion->flags &= ~(uint32_t)UL_MORE;
			return false;
		}
	}
	return true;
}

bool sink_cancel(Loop *self, struct sink *sink)
{
	if (unlikely(loop_is_elsewhere(self))) {
		loop_leave_cancel(self, sink);
		return false;
	}
	if (!sink_end(self, sink))
		return false;
	sink_drop(sink);
	return true;
}

int sink_outcome(Loop *self, struct sink *sink, bool take)
{
	int result, i;

	if (self->table == NULL || loop_is_elsewhere(self))
		return -EINPROGRESS;
	result = self->table->outcome(self->driver, sink->token, take);
	for (i = self->batch_next; result < 0 && i < self->batch_count; i++) {
		struct ul_completion *completion = &self->batch[i];

		if (completion->token != sink->token || completion->flags != 0 ||
		    completion->result < 0)
			continue;
		result = completion->result;
		if (!take)
			break;
		self->batch_count--;
		memmove(completion, completion + 1,
		        (size_t)(self->batch_count - i) * sizeof(*completion));
	}
	if (result >= 0 && take)
		sink_drop(sink);
	return result;
}

void loop_close_fd(Loop *self, int fd)
{
	if (self->table == NULL)
		close(fd);
	else if (unlikely(loop_is_elsewhere(self)))
		loop_leave_fd(self, fd);
	else
		self->table->close(self->driver, fd);
}
