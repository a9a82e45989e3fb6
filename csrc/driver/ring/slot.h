/*
 * One operation of the ring: what was asked for, where it is, and what the kernel
 * borrows for it.
 *
 * Each slot keeps its submission entry as a template, so that to start, to
 * start again (after ENOBUFS, EAGAIN, the end of a multishot) and to move to
 * another ring are one thing: uring_push().
 */
#ifndef SLOT_H
#define SLOT_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "compat.h"
#include "slots.h"

enum uring_verb {
	URING_RECV,
	URING_RECV_FROM,
	URING_ACCEPT,
	/* One-shots: one completion each. */
	URING_SEND,
	URING_CONNECT,
	URING_POLL,
	URING_TIMEOUT,
	URING_SPLICE,
	URING_REQUEST,
	/* The driver's own: no completion of theirs is ever seen outside. */
	URING_WAKE,
	URING_WATCHES,
	URING_VERBS,
};

/* The traits of a verb; the rows are in verbs.c. */
struct uring_traits {
	bool stream;                 /* many completions: it starts itself again */
	bool receive;                /* such a stream that lends buffers */
	bool again;                  /* if it was done once, unknown to us, twice is as good */
	uint8_t borrows;             /* enum uring_borrows */
	uint16_t events;             /* POLL*: the readiness that it waits for */
};

/* The memory, of ours or of the owner, that the kernel may touch after the submission. */
enum uring_borrows {
	/* Addresses and durations are copied with that; a poll names none. */
	BORROWS_NOTHING,
	/*
	 * Sockets wait in a poll; what follows it would run in the thread that submitted it,
	 * inside io_uring_enter(), and nowhere once the ring is closed: as in leave_ring().
	 */
	BORROWS_IN_ENTER,
	BORROWS,
};

extern const struct uring_traits uring_traits[URING_VERBS];

/* The list that a slot is on: the index of uring.lists. */
enum uring_list_name {
	LIST_NONE,
	/* Asked for, or to be cancelled, but not in the submission queue. */
	LIST_BACKLOG,
	/* Receives that wait for a free buffer. */
	LIST_STARVED,
	/* Done without a completion entry. */
	LIST_DONE,
	/* Shared listeners from which harvest() accepts: nothing is in the kernel. */
	LIST_ACCEPTING,
	LISTS,
};

/* The phase of this start of an operation, beside the state of slots.h. */
enum uring_phase {
	/* The entry is the template. */
	PHASE_DIRECT,
	/* The entry in the kernel only polls, and is followed by the template. */
	PHASE_POLLING,
	/* A receive is being cancelled only to start again with other buffers. */
	PHASE_MOVING,
	/* The owner was told UL_READABLE: nothing is in the kernel before take(). */
	PHASE_READABLE,
};

/* Bits of slot.flags. */
enum {
	/* Modes. */
	SLOT_ONE_SHOT = 1 << 0, /* accept, recv: multishot is not for this descriptor */
	SLOT_BULK = 1 << 1,     /* recv: the kernel only polls, and take() receives */
	SLOT_FOR_GOOD = 1 << 2, /* recv: nothing that it take()s ends SLOT_BULK */
	SLOT_SHARED = 1 << 3,   /* accept: the kernel only polls, and harvest() accepts */
	SLOT_LEVEL = 1 << 4,    /* poll: it starts again when it was answered */
	/* History. */
	SLOT_BEGAN = 1 << 5,    /* the kernel answered once; completions may be on their way */
	SLOT_LEFT_OVER = 1 << 6, /* the old ring left us its terminal completion entry */
	SLOT_SENT = 1 << 7,     /* send: its completion entry has been seen in the queue */
	SLOT_RELEASED = 1 << 8, /* the same of one that was cancelled */
	/* Safety. */
	SLOT_UNSAFE = 1 << 9,   /* done, but the kernel may still use its memory */
};

/* The buffer groups, and the index of their pools. */
enum {
	POOL_SMALL,
	POOL_DATAGRAM,
	POOLS,
};

/* The part that few operations need; from a free list. */
struct uring_cold {
	struct uring_cold *next;
	struct iovec *many;          /* owned, when `vector` is too short */
	struct msghdr message;
	struct iovec vector[8];
	struct sockaddr_storage address;
	struct __kernel_timespec timespec;
	uint64_t deadline_ns;        /* timeout: on the monotonic clock */
	uint64_t cookie;             /* SLOT_SHARED: the listener's */
};

/* Two cache lines: the slot proper and its submission entry. */
struct uring_slot {
	struct slot base;
	uint32_t next;               /* index + 1, on its list */
	uint32_t previous;
	uint32_t sq_position;        /* where its latest entry went */
	uint8_t list;                /* enum uring_list_name */
	uint8_t phase;               /* enum uring_phase */
	uint8_t retries;             /* since the last progress */
	union {
		uint8_t streak;      /* recv: in a row, that speak for or against SLOT_BULK */
		uint8_t accepted;    /* SLOT_SHARED: in this turn */
	};
	int32_t buffer;              /* recv, recv_from: its own buffer, -1 for none */
	int32_t result;              /* LIST_DONE, SLOT_SENT; recv: where in `batch` its last was */
	int32_t poll_fd;             /* PHASE_POLLING */
	uint32_t poll_events;
	struct uring_cold *cold;     /* owned, or NULL */
	struct io_uring_sqe sqe;     /* the template */
};

_Static_assert(sizeof(struct uring_slot) == 128, "two cache lines");

static inline const struct uring_traits *uring_traits_of(const struct uring_slot *slot)
{
	return &uring_traits[slot->base.verb];
}

/* The index of a receive's pool of buffers. */
static inline unsigned uring_pool_of(const struct uring_slot *slot)
{
	return slot->base.verb == URING_RECV_FROM ? POOL_DATAGRAM : POOL_SMALL;
}

static inline bool uring_is_own(const struct uring_slot *slot)
{
	return slot->base.verb >= URING_WAKE;
}

#endif
