/*
 * The selector's requests: calls that have no readiness to wait for, made by
 * threads (threads.c).  An operation owns its job, as its `copy`.
 */
#include <errno.h>
#include <stdlib.h>

#include "selector.h"
#include "threads.h"

/* How long close() waits for a disk, or a server, that does not answer; as the ring's. */
#define CLOSE_NS UINT64_C(1000000000)

static void take_ended(struct selector *selector, struct ul_job *job)
{
	struct ul_job *next;

	for (; job != NULL; job = next) {
		next = job->next;
		ul_operation_complete(selector, job->owner, job->result);
	}
}

/* What no thread has or had ends. */
static void cancel_live(struct selector *selector)
{
	uint32_t index;

	for (index = 0; index < selector->slots.block_count * UL_SLOTS_PER_BLOCK; index++) {
		struct ul_slot *slot = ul_slot_at(&selector->slots, index);

		if (slot->verb == VERB_REQUEST &&
		    (slot->state == UL_IN_KERNEL || slot->state == UL_CANCELLING))
			ul_operation_complete(selector, (struct operation *)slot, -ECANCELED);
	}
}

/* The threads, unless a fork has lost them: what they had is cancelled then. */
static struct ul_workers *workers_of(struct selector *selector)
{
	struct ul_workers *workers = selector->workers;
	struct ul_job *ended;

	if (workers == NULL || !ul_workers_forked(workers))
		return workers;
	ul_workers_forget(workers, &ended);
	selector->workers = NULL;
	take_ended(selector, ended);
	cancel_live(selector);
	return NULL;
}

int ul_selector_submit(struct ul_driver *driver, void *owner, const struct ul_request *request,
                       ul_token *token)
{
	struct selector *selector = selector_of(driver);
	struct ul_workers *workers = workers_of(selector);
	struct operation *operation;
	struct ul_job *job;

	*token = 0;
	if (!ul_workers_have(request->opcode))
		return -EOPNOTSUPP;
	if (workers == NULL)
		workers = selector->workers = ul_workers_open(ul_selector_wake, driver);
	job = calloc(1, sizeof(*job));
	operation = workers == NULL || job == NULL ?
		NULL : ul_operation_take(selector, VERB_REQUEST, owner);
	if (operation == NULL) {
		free(job);
		return -ENOMEM;
	}
	job->owner = operation;
	job->request = *request;
	operation->copy = job;
	operation->opcode = request->opcode;
	ul_workers_add(workers, job);
	return ul_operation_started(selector, operation, token);
}

int ul_selector_request_cancel(struct selector *selector, struct operation *operation)
{
	struct ul_workers *workers = workers_of(selector);

	if (workers == NULL || operation->slot.state == UL_CANCELLING)
		return -EINPROGRESS;
	if (!ul_workers_remove(workers, operation->copy)) {
		operation->slot.state = UL_CANCELLING;
		return -EINPROGRESS;
	}
	ul_operation_finish(selector, operation);
	ul_slot_free(&selector->slots, &operation->slot);
	return 0;
}

void ul_selector_requests_flush(struct selector *selector)
{
	struct ul_workers *workers = workers_of(selector);

	if (workers != NULL)
		ul_workers_flush(workers);
}

void ul_selector_requests_take(struct selector *selector)
{
	struct ul_workers *workers = workers_of(selector);

	if (workers != NULL)
		take_ended(selector, ul_workers_take(workers));
}

void ul_selector_requests_end(struct selector *selector)
{
	struct ul_workers *workers = workers_of(selector);
	void *lost[UL_WORKERS_MAX];
	struct ul_job *ended;
	unsigned count;

	if (workers == NULL)
		return;
	count = ul_workers_close(workers, CLOSE_NS, &ended, lost);
	selector->workers = NULL;
	take_ended(selector, ended);
	/* The job is the thread's now, and the memory that it names is not free. */
	while (count-- > 0) {
		struct operation *operation = lost[count];

		operation->copy = NULL;
		operation->keep = true;
		ul_operation_complete(selector, operation, -ECANCELED);
	}
	cancel_live(selector);
}
