/*
 * Completions that the child of a fork must not take for its own: those that were
 * harvested before it, and wait in the batch behind the callback that forked.
 *
 * Received bytes and accepted connections were given away once, and to the parent; in
 * the ring's lent buffers the child would even find zeros.  Everything else says what
 * holds for both: that a send or a file's call has ended, that a descriptor is ready.
 */
#include "forks.h"
#include "operation.h"
#include "../base/process.h"
#include "../loop.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

/* In the child, in which only the thread that forked goes on. */
static void count_fork(void)
{
	unsigned long thread = PyThread_get_thread_ident();
	Loop **link = &process.running;

	process.forks++;
	while (*link != NULL) {
		Loop *loop = *link;

		if (loop->thread == thread)
			link = &loop->next_running;
		else
			*link = loop->next_running;
	}
}

int forks_init(void)
{
	int error = pthread_atfork(NULL, NULL, count_fork);

	if (error == 0)
		return 0;
	exception_set_errno(error);
	return -1;
}

static bool has_brought_fd(const struct ul_completion *completion)
{
	const struct operation *operation = completion->owner;

	return !(completion->flags & UL_WATCH) && operation->brings_fd && completion->result >= 0;
}

/*
 * Whether `completion` stays.  The last of an operation stays as an end, for whoever has
 * cancelled it waits for that; who has not begins again.
 */
static bool leave_to_parent(struct ul_completion *completion)
{
	bool brought = has_brought_fd(completion);

	if (!brought && !(completion->flags & UL_LENT))
		return true;
	if (brought)
		close(completion->result);
	if (completion->flags & UL_MORE)
		return false;
	completion->result = -ECANCELED;
	completion->flags = 0;
	completion->data = NULL;
	return true;
}

void loop_leave_to_parent(Loop *self)
{
	int from, to = self->batch.next;

	for (from = self->batch.next; from < self->batch.count; from++) {
		if (leave_to_parent(&self->batch.items[from]))
			self->batch.items[to++] = self->batch.items[from];
	}
	self->batch.count = to;
	self->batch.forks = process.forks;
}
