/*
 * Completions that were harvested and are not dispatched yet.
 *
 * The callbacks of a turn run before its completions are told, and may ask for what
 * these say: how much a send has sent, what else came for a stream, whether an
 * operation that they cancel has ended.
 */
#include "batch.h"
#include "operation.h"
#include "../loop.h"

#include <errno.h>
#include <string.h>

bool batch_ends(Loop *self, ul_token token)
{
	int i;

	for (i = self->batch.count; i-- > self->batch.next;) {
		struct ul_completion *completion = &self->batch.items[i];

		if (completion->token == token && !(completion->flags & UL_WATCH)) {
			/* The last one that we have is now the terminal one. */
			completion->flags &= ~(uint32_t)UL_MORE;
			return true;
		}
	}
	return false;
}

int batch_outcome(Loop *self, ul_token token, bool take)
{
	int i;

	for (i = self->batch.next; i < self->batch.count; i++) {
		struct ul_completion *completion = &self->batch.items[i];
		int result = completion->result;

		if (completion->token != token || completion->flags != 0 || result < 0)
			continue;
		if (take) {
			self->batch.count--;
			memmove(completion, completion + 1,
			        (size_t)(self->batch.count - i) * sizeof(*completion));
		}
		return result;
	}
	return -EINPROGRESS;
}

static int nobody_completed(Loop *Py_UNUSED(loop), struct operation *Py_UNUSED(operation),
                            const struct ul_completion *Py_UNUSED(completion))
{
	return 0;
}

/* The last of a stream is dispatched by itself, for it ends an operation. */
static bool is_followed_by(const struct ul_completion *first, const struct ul_completion *other)
{
	return other->token == first->token && other->flags & UL_LENT && other->flags & UL_MORE;
}

PyObject *batch_gather(Loop *self, const struct ul_completion *first)
{
	/* Finds what was gathered already, until the batch has been gone through. */
	static struct operation nobody = {.completed = nobody_completed};
	size_t size = (size_t)first->result;
	PyObject *bytes;
	char *end;
	int i;

	for (i = self->batch.next; i < self->batch.count; i++) {
		if (is_followed_by(first, &self->batch.items[i]))
			size += (size_t)self->batch.items[i].result;
	}
	bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (unlikely(bytes == NULL))
		return NULL;
	end = mempcpy(PyBytes_AS_STRING(bytes), first->data, (size_t)first->result);
	for (i = self->batch.next; i < self->batch.count; i++) {
		struct ul_completion *completion = &self->batch.items[i];

		if (!is_followed_by(first, completion))
			continue;
		end = mempcpy(end, completion->data, (size_t)completion->result);
		self->table->recycle(self->driver, completion->data);
		*completion = (struct ul_completion){.owner = &nobody};
	}
	return bytes;
}
