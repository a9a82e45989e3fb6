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

/* The last of a stream is dispatched by itself, for it ends an operation. */
static bool is_followed_by(ul_token token, const struct ul_completion *other)
{
	return other->token == token && other->flags & UL_LENT && other->flags & UL_MORE;
}

/* Append the bytes of a lent completion; false with an exception, and *bytes is gone. */
static bool gather_one(PyObject **bytes, size_t *size, const struct ul_completion *completion)
{
	size_t needed = *size + (size_t)completion->result;

	/* Mostly two or three follow; many do in a flood. */
	if (needed > (size_t)PyBytes_GET_SIZE(*bytes) &&
	    _PyBytes_Resize(bytes, (Py_ssize_t)(needed * 2)) < 0)
		return false;
	memcpy(PyBytes_AS_STRING(*bytes) + *size, completion->data, (size_t)completion->result);
	*size = needed;
	return true;
}

/* Of what the batch has from `from` on, append the stream's, and close the gaps; or false. */
static bool gather_from(Loop *self, int from, ul_token token, PyObject **bytes, size_t *size)
{
	struct ul_completion *items = self->batch.items;
	int kept = from, i;

	for (i = from; i < self->batch.count; i++) {
		/* Without memory the rest stays: the connection's end lets go of its buffers. */
		if (is_followed_by(token, &items[i]) && *bytes != NULL &&
		    gather_one(bytes, size, &items[i]))
			self->table->recycle(self->driver, items[i].data);
		else
			items[kept++] = items[i];
	}
	self->batch.count = kept;
	return *bytes != NULL;
}

PyObject *batch_gather(Loop *self, const struct ul_completion *first)
{
	ul_token token = first->token;
	size_t size = 0;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)first->result * 4);
	int from = self->batch.next, end = LOOP_BATCH;

	if (unlikely(bytes == NULL) || !gather_one(&bytes, &size, first))
		return NULL;
	if (from == self->batch.count) {
		/* The whole batch is dispatched, but for `first`, its last. */
		end = from - 1;
		from = self->batch.next = self->batch.count = 0;
	}
	/*
	 * A batch that was full says nothing of what else the turn has received: the room
	 * that the stream's completions have left is filled with those that come next.
	 */
	while (gather_from(self, from, token, &bytes, &size) && self->batch.cut) {
		int room = end - self->batch.count, count;

		from = self->batch.count;
		if (room == 0)
			break;
		count = self->table->harvest(self->driver, self->batch.items + from, room);
		if (count <= 0)
			break;
		self->batch.count = from + count;
		self->batch.cut = count == room;
	}
	if (likely(bytes != NULL))
		_PyBytes_Resize(&bytes, (Py_ssize_t)size);
	return bytes;
}
