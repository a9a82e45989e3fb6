/* Sinks: what completions find, held while their operation is in flight. */
#include "batch.h"
#include "../base/checks.h"
#include "../core.h"

#include <errno.h>

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
	/* -EINPROGRESS: it follows.  -ENOENT: it was harvested, so it waits in our batch. */
	if (self->table->cancel(self->driver, sink->token) != 0)
		return false;
	return !batch_ends(self, sink->token);
}

int sink_outcome(Loop *self, struct sink *sink, bool take)
{
	int result;

	if (self->table == NULL || loop_is_elsewhere(self))
		return -EINPROGRESS;
	result = self->table->outcome(self->driver, sink->token, take);
	if (result < 0)
		result = batch_outcome(self, sink->token, take);
	if (result >= 0 && take)
		sink_drop(sink);
	return result;
}
