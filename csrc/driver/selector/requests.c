/*
 * The selector's requests: calls that have no readiness to wait for, made by
 * threads (threads.c).  An operation owns its job, as its `copy`.
 */
#include <errno.h>
#include <stdlib.h>

#include "calls.h"
#include "selector.h"
#include "threads.h"

/* The time that close() waits for a disk, or a server, that does not answer; as the ring's. */
#define CLOSE_NS UINT64_C(1000000000)

static void take_ended(struct selector *selector, struct job *job)
{
	struct job *next;

	for (; job != NULL; job = next) {
		next = job->next;
		operation_complete(selector, job->owner, job->result);
	}
}

/* End the operations that no thread has or had. */
static void cancel_live(struct selector *selector)
{
	uint32_t index;

	for (index = 0; index < selector->slots.block_count * SLOTS_PER_BLOCK; index++) {
		struct slot *slot = slot_at(&selector->slots, index);

		if (slot->verb == VERB_REQUEST &&
		    (slot->state == STATE_IN_KERNEL || slot->state == STATE_CANCELLING))
			operation_complete(selector, (struct operation *)slot, -ECANCELED);
	}
}

/* The threads, unless a fork has lost them: what they had is cancelled then. */
static struct threads *threads_of(struct selector *selector)
{
	struct threads *threads = selector->threads;
	struct job *ended;

	if (threads == NULL || !threads_forked(threads))
		return threads;
	threads_forget(threads, &ended);
	selector->threads = NULL;
	take_ended(selector, ended);
	cancel_live(selector);
	return NULL;
}

int selector_submit(struct ul_driver *driver, void *owner, const struct ul_request *request,
                    ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct threads *threads = threads_of(selector);
	struct operation *operation;
	struct job *job;

	*token = 0;
	if (!calls_have(request->opcode))
		return -EOPNOTSUPP;
	if (threads == NULL)
		threads = selector->threads = threads_open(driver->table->wake, driver);
	job = calloc(1, sizeof(*job));
	operation = threads == NULL || job == NULL ?
		NULL : operation_take(selector, VERB_REQUEST, owner);
	if (operation == NULL) {
		free(job);
		return -ENOMEM;
	}
	job->owner = operation;
	job->request = *request;
	operation->copy = job;
	operation->opcode = request->opcode;
	threads_add(threads, job);
	return operation_started(selector, operation, token);
}

int request_cancel(struct selector *selector, struct operation *operation)
{
	struct threads *threads = threads_of(selector);

	if (threads == NULL || operation->slot.state == STATE_CANCELLING)
		return -EINPROGRESS;
	if (!threads_remove(threads, operation->copy)) {
		operation->slot.state = STATE_CANCELLING;
		return -EINPROGRESS;
	}
	operation_end(selector, operation);
	return 0;
}

void requests_flush(struct selector *selector)
{
	/* Most loops have none, and this is asked in each turn. */
	struct threads *threads = selector->threads == NULL ? NULL : threads_of(selector);

	if (threads != NULL)
		threads_flush(threads);
}

void requests_take(struct selector *selector)
{
	struct threads *threads = selector->threads == NULL ? NULL : threads_of(selector);

	if (threads != NULL)
		take_ended(selector, threads_take(threads));
}

void requests_end(struct selector *selector)
{
	struct threads *threads = threads_of(selector);
	void *lost[THREADS_MAX];
	struct job *ended;
	unsigned count;

	if (threads == NULL)
		return;
	count = threads_close(threads, CLOSE_NS, &ended, lost);
	selector->threads = NULL;
	take_ended(selector, ended);
	/* The job is the thread's now, and the memory that it names is not free. */
	while (count-- > 0) {
		struct operation *operation = lost[count];

		operation->copy = NULL;
		operation->keep = true;
		operation_complete(selector, operation, -ECANCELED);
	}
	cancel_live(selector);
}
