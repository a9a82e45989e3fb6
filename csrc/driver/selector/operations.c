/*
 * The life of the selector's operations: taken, queued at a descriptor until
 * it is ready, finished.  The states are those of slots.h; IN_KERNEL means
 * that the operation waits for readiness or for the clock.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "selector.h"

/*
 * The pauses of calls whose EAGAIN no readiness ends: an AF_UNIX connect to a
 * peer with a full queue is always `writable`.
 */
#define RETRY_NS_MIN 1000000
#define RETRY_NS_MAX 32000000

void ul_operation_queue_append(struct operation_queue *queue, struct operation *operation)
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

void ul_operation_queue_remove(struct operation *operation)
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

void ul_operation_finish(struct selector *selector, struct operation *operation)
{
	assert(operation->slot.state == UL_IN_KERNEL ||
	       operation->slot.state == UL_CANCELLING);
	ul_operation_queue_remove(operation);
	if (operation->heap_position != 0)
		ul_deadlines_remove(&selector->deadlines, operation);
	free(operation->copy);
	operation->copy = NULL;
	operation->slot.state = UL_DONE;
}

void ul_operation_complete(struct selector *selector, struct operation *operation,
                           int32_t result)
{
	ul_operation_finish(selector, operation);
	operation->result = result;
	ul_operation_queue_append(&selector->done, operation);
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
	[VERB_READ] = IORING_OP_READ,
	[VERB_WRITE] = IORING_OP_WRITE,
	[VERB_SPLICE] = IORING_OP_SPLICE,
	[VERB_REQUEST] = IORING_OP_NOP,
};

struct operation *ul_operation_take(struct selector *selector, enum verb verb, void *owner)
{
	struct operation *operation =
		(struct operation *)ul_slot_take(&selector->slots, (uint8_t)verb, owner);

	if (operation != NULL) {
		operation->fd = -1;
		operation->opcode = opcodes[verb];
	}
	return operation;
}

void ul_operation_drop(struct selector *selector, struct operation *operation)
{
	assert(operation->slot.state == UL_QUEUED);
	if (operation->heap_position != 0)
		ul_deadlines_remove(&selector->deadlines, operation);
	free(operation->copy);
	operation->slot.state = UL_DONE;
	ul_slot_free(&selector->slots, &operation->slot);
}

int ul_operation_started(struct selector *selector, struct operation *operation,
                         ul_token *token)
{
	assert(operation->slot.state == UL_QUEUED);
	operation->slot.state = UL_IN_KERNEL;
	*token = ul_slot_token(&operation->slot);
	selector->statistics.submitted++;
	selector->statistics.submissions[operation->opcode]++;
	return -EINPROGRESS;
}

int ul_operation_wait(struct selector *selector, struct operation *operation, int fd,
                      enum side side)
{
	struct descriptor *descriptor;
	int result = ul_descriptor_get(selector, fd, &descriptor);

	if (result != 0)
		return result;
	operation->fd = fd;
	ul_operation_queue_append(queue_of(descriptor, side), operation);
	if (side == WRITERS && descriptor_is_streaming(descriptor))
		return 0;
	result = ul_descriptor_register(selector, descriptor);
	if (result == -ENOENT) {
		ul_operation_queue_remove(operation);
		ul_descriptor_abandon(selector, descriptor);
		ul_operation_queue_append(queue_of(descriptor, side), operation);
		result = ul_descriptor_register(selector, descriptor);
	}
	if (result != 0)
		ul_operation_queue_remove(operation);
	return result;
}

int ul_operation_start(struct selector *selector, struct operation *operation, int fd,
                       enum side side, ul_token *token)
{
	int result = ul_operation_wait(selector, operation, fd, side);

	if (result != 0) {
		ul_operation_drop(selector, operation);
		return result;
	}
	return ul_operation_started(selector, operation, token);
}

int ul_operation_retry_later(struct selector *selector, struct operation *operation)
{
	if (operation->heap_position != 0)
		return 0;
	operation->retry_ns = operation->retry_ns == 0 ? RETRY_NS_MIN : operation->retry_ns * 2;
	if (operation->retry_ns > RETRY_NS_MAX)
		operation->retry_ns = RETRY_NS_MAX;
	return ul_deadlines_add(&selector->deadlines, operation,
	                        ul_deadlines_now() + operation->retry_ns);
}
