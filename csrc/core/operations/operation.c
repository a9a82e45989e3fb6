/* Operations in flight: held until they have ended. */
#include "operation.h"
#include "batch.h"
#include "../base/checks.h"
#include "../loop.h"

#include <errno.h>

void operation_hold(Loop *self, struct operation *operation)
{
	assert(operation->link == NULL);
	Py_INCREF(operation->holder);
	operation->weak = false;
	operation->next = self->held;
	if (operation->next != NULL)
		operation->next->link = &operation->next;
	operation->link = &self->held;
	self->held = operation;
}

void operation_drop(struct operation *operation)
{
	assert(operation->link != NULL);
	*operation->link = operation->next;
	if (operation->next != NULL)
		operation->next->link = operation->link;
	operation->link = NULL;
	operation->next = NULL;
	if (!operation->weak)
		Py_DECREF(operation->holder);
}

void operation_weaken(struct operation *operation)
{
	if (operation->link == NULL || operation->weak)
		return;
	operation->weak = true;
	Py_DECREF(operation->holder);
}

void operation_strengthen(struct operation *operation)
{
	if (operation->link == NULL || !operation->weak)
		return;
	operation->weak = false;
	Py_INCREF(operation->holder);
}

bool operation_end(Loop *self, struct operation *operation)
{
	/* -EINPROGRESS: it follows.  -ENOENT: it was harvested, so it waits in our batch. */
	if (self->table->cancel(self->driver, operation->token) != 0)
		return false;
	return !batch_ends(self, operation->token);
}

int operation_outcome(Loop *self, struct operation *operation, bool take)
{
	int result;

	if (self->table == NULL || loop_is_elsewhere(self))
		return -EINPROGRESS;
	result = self->table->outcome(self->driver, operation->token, take);
	if (result < 0)
		result = batch_outcome(self, operation->token, take);
	if (result >= 0 && take)
		operation_drop(operation);
	return result;
}
