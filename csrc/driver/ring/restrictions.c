/* What a ring of ours may be asked for.  See restrictions.h. */
#include "restrictions.h"

#include <stddef.h>

/* In the order of their numbers; restrictions_have() answers for what submit() is given. */
static const uint8_t opcodes[] = {
	IORING_OP_NOP,           /* in place of what was withdrawn */
	IORING_OP_FSYNC,
	IORING_OP_POLL_ADD,
	IORING_OP_SENDMSG,
	IORING_OP_RECVMSG,
	IORING_OP_TIMEOUT,
	IORING_OP_TIMEOUT_REMOVE,
	IORING_OP_ACCEPT,
	IORING_OP_ASYNC_CANCEL,
	IORING_OP_CONNECT,
	IORING_OP_FALLOCATE,
	IORING_OP_OPENAT,
	IORING_OP_CLOSE,
	IORING_OP_STATX,
	IORING_OP_READ,
	IORING_OP_WRITE,
	IORING_OP_SEND,
	IORING_OP_RECV,
	IORING_OP_SPLICE,
	IORING_OP_RENAMEAT,
	IORING_OP_UNLINKAT,
	IORING_OP_MKDIRAT,
	IORING_OP_SYMLINKAT,
	IORING_OP_LINKAT,
	OP_FTRUNCATE,
};
#define OPCODES (sizeof(opcodes) / sizeof(opcodes[0]))

/* None of fixed files, links or drains. */
#define SQE_FLAGS (IOSQE_BUFFER_SELECT | IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS)

/* The registrations that are made of an enabled ring, with the feature that each needs. */
static const struct {
	uint8_t operation;
	uint64_t feature;
} registrations[] = {
	{IORING_REGISTER_RING_FDS, UL_FEATURE_REGISTERED_FD},
	{IORING_UNREGISTER_RING_FDS, UL_FEATURE_REGISTERED_FD},
	{IORING_REGISTER_PBUF_RING, UL_FEATURE_BUFFER_RING},
	{IORING_REGISTER_SYNC_CANCEL, UL_FEATURE_SYNC_CANCEL},
};
#define REGISTRATIONS (sizeof(registrations) / sizeof(registrations[0]))

bool restrictions_have(uint8_t opcode)
{
	size_t index;

	for (index = 0; index < OPCODES; index++)
		if (opcodes[index] == opcode)
			return true;
	return false;
}

int restrictions_apply(struct io_uring *ring, const bool *has_opcode, uint64_t features,
                       bool has_workers)
{
	struct io_uring_restriction rules[OPCODES + REGISTRATIONS + 2] = {0};
	unsigned count = 0;
	size_t index;

	/* A number that the kernel does not know would make it refuse them all. */
	for (index = 0; index < OPCODES; index++) {
		if (!has_opcode[opcodes[index]])
			continue;
		rules[count].opcode = IORING_RESTRICTION_SQE_OP;
		rules[count++].sqe_op = opcodes[index];
	}
	rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rules[count++].sqe_flags = SQE_FLAGS;
	for (index = 0; index < REGISTRATIONS; index++) {
		if ((features & registrations[index].feature) == 0)
			continue;
		rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
		rules[count++].register_op = registrations[index].operation;
	}
	if (has_workers) {
		rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
		rules[count++].register_op = IORING_REGISTER_IOWQ_MAX_WORKERS;
	}
	/* Shared libraries of liburing up to 2.3 do not export the function of this name. */
	return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules,
	                         count);
}
