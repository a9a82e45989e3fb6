/* One operation of the selector: what was asked for, and where it waits. */
#ifndef OPERATION_H
#define OPERATION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "slots.h"

enum verb {
	VERB_RECV = 1,
	VERB_RECV_FROM,
	VERB_SEND,
	VERB_ACCEPT,
	VERB_CONNECT,
	VERB_POLL,
	VERB_TIMEOUT,
	VERB_REQUEST,
};

struct operation_queue {
	struct operation *first;
	struct operation *last;
};

#define IOVECS_INLINE 4

struct operation {
	struct slot slot;
	struct operation *next;         /* in `queue` */
	struct operation *previous;
	struct operation_queue *queue;  /* a descriptor's, or the selector's `done` */
	uint64_t deadline_ns;           /* in the heap: CLOCK_MONOTONIC */
	uint64_t sequence;              /* in the heap: first come, first served */
	uint32_t heap_position;         /* index + 1, 0 when not in the heap */
	int fd;                         /* whose readiness it waits for, -1 for none */
	int32_t result;                 /* when DONE */
	uint8_t opcode;                 /* IORING_OP_* of the same call, to be counted */
	bool keep;                      /* when DONE: a thread may still use its memory */
	void *copy;                     /* owned: iovecs or a job */
	union {
		struct {                /* recv */
			enum ul_stream kind; /* known */
			bool bulk;      /* received by take() */
			bool for_good;  /* and never again otherwise */
			bool readable;  /* it said UL_READABLE: take() is next */
			uint8_t streak; /* receives in a row that speak for a change */
		} stream;
		struct {
			const struct iovec *iov;
			uint32_t count;
			struct iovec inline_iov[IOVECS_INLINE];
		} send;
		struct {
			uint32_t poll_events;
			bool poll_level; /* UL_POLL_LEVEL */
		};
	};
};

#endif
