/*
 * The life of the selector's operations: taken, queued at a descriptor until
 * it is ready, finished; and what becomes of those that wait when the descriptor does
 * not stand for their file any more.  The states are those of slots.h; IN_KERNEL means
 * that the operation waits for readiness or for the clock.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "selector.h"

static void operation_queue_append(struct operation_queue *queue, struct operation *operation)
{
	assert(operation->queue == NULL);
	operation->queue = queue;
	operation->next = NULL;
	operation->previous = queue->last;
	if (queue->last != NULL)
		queue->last->next = operation;
	else
		queue->first = operation;
	queue->last = operation;
}

void operation_queue_remove(struct operation *operation)
{
	struct operation_queue *queue = operation->queue;

	if (queue == NULL)
		return;
	if (operation->previous != NULL)
		operation->previous->next = operation->next;
	else
		queue->first = operation->next;
	if (operation->next != NULL)
		operation->next->previous = operation->previous;
	else
		queue->last = operation->previous;
	operation->queue = NULL;
}

static void operation_finish(struct selector *selector, struct operation *operation)
{
	assert(operation->slot.state == STATE_IN_KERNEL ||
	       operation->slot.state == STATE_CANCELLING);
	operation_queue_remove(operation);
	if (operation->heap_position != 0)
		deadlines_remove(&selector->deadlines, operation);
	free(operation->copy);
	operation->copy = NULL;
	operation->slot.state = STATE_DONE;
}

void operation_end(struct selector *selector, struct operation *operation)
{
	operation_finish(selector, operation);
	slot_free(&selector->slots, &operation->slot);
}

void operation_complete(struct selector *selector, struct operation *operation,
                        int32_t result)
{
	operation_finish(selector, operation);
	operation->result = result;
	operation_queue_append(&selector->done, operation);
}

/* A request says its own, and a send with several pieces. */
static const uint8_t opcodes[] = {
	[VERB_RECV] = IORING_OP_RECV,
	[VERB_RECV_FROM] = IORING_OP_RECVMSG,
	[VERB_SEND] = IORING_OP_SEND,
	[VERB_ACCEPT] = IORING_OP_ACCEPT,
	[VERB_CONNECT] = IORING_OP_CONNECT,
	[VERB_POLL] = IORING_OP_POLL_ADD,
	[VERB_TIMEOUT] = IORING_OP_TIMEOUT,
	[VERB_REQUEST] = IORING_OP_NOP,
};

struct operation *operation_take(struct selector *selector, enum verb verb, void *owner)
{
	struct operation *operation =
		(struct operation *)slot_take(&selector->slots, (uint8_t)verb, owner);

	if (operation != NULL) {
		operation->fd = -1;
		operation->opcode = opcodes[verb];
	}
	return operation;
}

void operation_drop(struct selector *selector, struct operation *operation)
{
	assert(operation->slot.state == STATE_QUEUED);
	assert(operation->heap_position == 0);
	free(operation->copy);
	operation->slot.state = STATE_DONE;
	slot_free(&selector->slots, &operation->slot);
}

int operation_started(struct selector *selector, struct operation *operation,
                      ul_token *token)
{
	assert(operation->slot.state == STATE_QUEUED);
	operation->slot.state = STATE_IN_KERNEL;
	*token = slot_token(&operation->slot);
	selector->statistics.submitted++;
	selector->statistics.submissions[operation->opcode]++;
	return -EINPROGRESS;
}

/* --- Waiting at a descriptor ---------------------------------------------- */

static void operations_end(struct selector *selector, struct operation_queue *queue, int result)
{
	while (queue->first != NULL)
		operation_complete(selector, queue->first, result);
}

void descriptor_end(struct selector *selector, struct descriptor *descriptor, int result)
{
	operations_end(selector, &descriptor->readers, result);
	operations_end(selector, &descriptor->writers, result);
	operations_end(selector, &descriptor->pollers, result);
	descriptor->watch_owner = NULL;
	descriptor->watch_events = 0;
}

void descriptor_abandon(struct selector *selector, struct descriptor *descriptor)
{
	descriptor_end(selector, descriptor, -EBADF);
	descriptor->registration = UNREGISTERED;
}

void descriptor_settle(struct selector *selector, struct descriptor *descriptor)
{
	if (descriptor->registration != LEVEL || !descriptor_mask_is_wrong(descriptor))
		return;
	if (!descriptor_is_waited_for(descriptor)) {
		descriptor_unregister(selector, descriptor);
		return;
	}
	/* Any other failure is want of memory: the old mask then reports too much. */
	if (descriptor_register(selector, descriptor) == -ENOENT)
		descriptor_abandon(selector, descriptor);
}

/* Queue it at `fd`, registered so that readiness from now on is reported.  0 or -errno. */
static int operation_wait(struct selector *selector, struct operation *operation, int fd,
                          enum side side)
{
	struct descriptor *descriptor;
	int result = descriptor_get(selector, fd, &descriptor);

	if (result != 0)
		return result;
	operation->fd = fd;
	operation_queue_append(queue_of(descriptor, side), operation);
	if (side == WRITERS && descriptor_is_streaming(descriptor))
		return 0;
	result = descriptor_register(selector, descriptor);
	if (result == -ENOENT) {
		operation_queue_remove(operation);
		descriptor_abandon(selector, descriptor);
		operation_queue_append(queue_of(descriptor, side), operation);
		result = descriptor_register(selector, descriptor);
	}
	if (result != 0)
		operation_queue_remove(operation);
	return result;
}

int operation_start(struct selector *selector, struct operation *operation, int fd,
                    enum side side, ul_token *token)
{
	int result = operation_wait(selector, operation, fd, side);

	if (result != 0) {
		operation_drop(selector, operation);
		return result;
	}
	return operation_started(selector, operation, token);
}
