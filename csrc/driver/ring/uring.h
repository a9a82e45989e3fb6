/*
 * The ring driver's own header: its state, its slots and what its files share.
 *
 *     life.c       open, begin, end, destroy
 *     leave.c       rebuild in another thread or process; shutdown
 *     fork.c        what a forked child makes of it
 *     verbs.c       verbs -> templates
 *     queue.c       templates -> submission queue; cancel
 *     turn.c             turn and harvest: completion entries -> completions
 *     streams.c     the streams: recv, recv_from, accept, and their buffers
 *     answers.c  the answers to one-shot operations
 *
 * Each slot keeps its submission entry as a template, so that to start, to
 * start again (after ENOBUFS, EAGAIN, the end of a multishot) and to move to
 * another ring are one thing: uring_push().
 */
#ifndef URING_H
#define URING_H

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>

#include "buffers.h"
#include "compat.h"
#include "driver.h"
#include "fork.h"
#include "monotonic.h"
#include "open.h"
#include "setup.h"
#include "slots.h"
#include "statistics.h"
#include "watches.h"

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum uring_verb {
	URING_RECV,
	URING_RECV_FROM,
	URING_ACCEPT,
	/* Not streams: one completion each. */
	URING_SEND,
	URING_CONNECT,
	URING_POLL,
	URING_TIMEOUT,
	URING_SPLICE,
	URING_REQUEST,
	/* The driver's own: no completion of theirs is ever seen outside. */
	URING_WAKE,
	URING_WATCHES,
};

/* In slot.flags. */
enum {
	/* The kernel has answered once; completions of it may be on their way. */
	SLOT_BEGAN = 1 << 0,
	/* The entry in the kernel only polls, and is followed by the template. */
	SLOT_POLLING = 1 << 1,
	/* A receive is being cancelled only to start again with other buffers. */
	SLOT_MOVING = 1 << 2,
	/* On the backlog (asked for, but not in the submission queue). */
	SLOT_BACKLOG = 1 << 3,
	/* On the list of receives that wait for a free buffer. */
	SLOT_STARVED = 1 << 4,
	/* On the list of what is done without a completion entry. */
	SLOT_DONE = 1 << 5,
	/* The old ring left us its terminal completion entry. */
	SLOT_KEPT = 1 << 6,
	/* accept, recv: multishot is not for this descriptor. */
	SLOT_ONE_SHOT = 1 << 7,
	/* Done, but the kernel may still use its memory. */
	SLOT_UNSAFE = 1 << 8,
	/* Cancelled, and its terminal completion entry has been seen in the queue. */
	SLOT_RELEASED = 1 << 9,
	/* recv: the kernel only polls, and take() receives. */
	SLOT_BULK = 1 << 10,
	/* It said UL_READABLE: nothing is in the kernel before take(). */
	SLOT_READABLE = 1 << 11,
	/* accept: the kernel only polls, and harvest() accepts. */
	SLOT_SHARED = 1 << 12,
	/* On the list of what harvest() accepts from: nothing is in the kernel. */
	SLOT_ACCEPTING = 1 << 13,
	/* send: its completion entry has been seen in the queue. */
	SLOT_SENT = 1 << 14,
	/* poll: it starts again when it was answered. */
	SLOT_LEVEL = 1 << 15,
};

#define SLOT_LISTED (SLOT_BACKLOG | SLOT_STARVED | SLOT_DONE | SLOT_ACCEPTING)

/* The buffer groups, and the index of their pools. */
enum {
	POOL_SMALL,
	POOL_DATAGRAM,
	POOLS,
};

/* What few operations need; from a free list. */
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
	uint32_t next;               /* index + 1, on the one list that it is on */
	uint32_t previous;
	uint32_t sq_position;        /* where its latest entry went */
	uint8_t retries;             /* since the last progress */
	uint8_t full;                /* recv: filled buffers in a row; SLOT_SHARED: this turn's */
	uint8_t slight;              /* SLOT_BULK: little receives in a row */
	uint8_t pool;                /* recv, recv_from: POOL_* */
	int32_t buffer;              /* recv, recv_from: its own buffer, -1 for none */
	int32_t result;              /* SLOT_DONE, SLOT_SENT; recv: where in `batch` its last was */
	int32_t poll_fd;             /* SLOT_POLLING */
	uint32_t poll_events;
	struct uring_cold *cold;     /* owned, or NULL */
	struct io_uring_sqe sqe;     /* the template */
};

_Static_assert(sizeof(struct uring_slot) == 128, "two cache lines");

/* A list through the slots, first in, first out. */
struct uring_list {
	uint32_t first;              /* index + 1, 0 for none */
	uint32_t last;
	uint32_t count;
};

/* What a submission entry stands for: the top byte of its user_data. */
enum {
	TAG_OPERATION,               /* the rest is its token */
	TAG_CANCEL,                  /* of the token in the rest */
	TAG_TURN_TIMEOUT,            /* the rest is a sequence number */
	TAG_IGNORED,
};

#define TAG_SHIFT 56
#define TAGGED(tag, rest) ((uint64_t)(tag) << TAG_SHIFT | (rest))
#define UNTAGGED(user_data) ((user_data) & ((UINT64_C(1) << TAG_SHIFT) - 1))

struct uring {
	struct ul_driver base;

	/* The submission queue.  Free-running positions; masked when used. */
	struct io_uring_sqe *sqes;
	uint32_t sq_tail;            /* ours; the kernel learns it when we enter */
	uint32_t sq_head;            /* the kernel has consumed everything before */
	uint32_t sq_mask;
	uint32_t sq_limit;           /* entries; 0 while there is no ring to fill */
	unsigned *sq_khead;
	unsigned *sq_ktail;
	unsigned *sq_kflags;

	/* The completion queue. */
	struct io_uring_cqe *cqes;
	uint32_t cq_head;            /* ours, always published */
	uint32_t cq_end;             /* the kernel's tail when the last turn ended */
	uint32_t cq_looked;          /* released() has looked at what is before */
	uint32_t cq_mask;
	unsigned *cq_khead;
	unsigned *cq_ktail;

	struct uring_list backlog;   /* what found no room in the submission queue */
	struct uring_list starved;   /* receives without a buffer */
	struct uring_list done;      /* completions without a completion entry */
	uint32_t done_ready;         /* how many of them the last turn() has seen */
	struct uring_list accepting; /* shared listeners with connections */
	uint32_t enter_flags;        /* IORING_ENTER_* of every call */
	int enter_fd;                /* the ring, or its registered number */
	uint32_t accepts;            /* accept streams that live and are not shared */
	bool has_ring;
	bool forked;                 /* what is here is the parent's */
	bool watches_fired;          /* the set is to be looked at in this harvest */
	bool watches_armed;
	bool closed;                 /* shut down */
	bool enabled;
	bool running;                /* between begin() and end() */
	uint32_t run_enters;         /* since begin() */

	struct pool pools[POOLS];
	struct slots slots;
	struct ul_statistics statistics;
	struct ul_completion *batch; /* borrowed, during harvest(): where it puts them */
	uint64_t batch_before;       /* statistics.completed when the turn began */
	uint64_t features;           /* UL_FEATURE_* */
	struct uring_cold *cold_free;

	/* wake() */
	_Atomic int sleeping;
	_Atomic int woken;
	int wake_fd;                 /* eventfd, owned */
	struct uring_slot *wake_slot;

	struct watches watches;
	struct uring_slot *watches_slot;

	/* The wait's end where the kernel does not take it with the call. */
	struct __kernel_timespec turn_timespec;
	int64_t turn_deadline_ns;
	uint64_t turn_sequence;
	bool turn_armed;

	/* Completion entries that a ring left behind. */
	struct io_uring_cqe *kept;   /* owned */
	uint32_t kept_count;
	uint32_t kept_next;
	/* Those, and what was in the completion queue, when the process forked. */
	struct io_uring_cqe *inherited; /* owned */
	uint32_t inherited_count;

	uint64_t thread;             /* number of the thread that enabled the ring */
	struct io_uring ring;
	struct io_uring_params params;
	struct ul_options options;   /* with every default filled in */
	struct fork_node fork_node;
};

static inline struct uring *uring_of(struct ul_driver *driver)
{
	return (struct uring *)driver;
}

static inline struct uring_slot *uring_slot_at(const struct uring *uring, uint32_t number)
{
	return (struct uring_slot *)slot_at(&uring->slots, number - 1);
}

static inline struct uring_slot *uring_slot_find(const struct uring *uring, ul_token token)
{
	return (struct uring_slot *)slot_find(&uring->slots, token);
}

static inline bool uring_has(const struct uring *uring, uint64_t feature)
{
	return (uring->features & feature) != 0;
}

static inline uint32_t uring_sq_room(const struct uring *uring)
{
	/* A limit of 0 has the tail at the head as well. */
	return uring->sq_limit - (uring->sq_tail - uring->sq_head);
}

/* Of what is in the submission queue, the kernel has not seen `slot`'s entry. */
static inline bool uring_unsubmitted(const struct uring *uring, const struct uring_slot *slot)
{
	return slot->sq_position - uring->sq_head < uring->sq_tail - uring->sq_head &&
	       uring->sqes[slot->sq_position & uring->sq_mask].user_data ==
	       slot_token(&slot->base);
}

static inline void uring_poll_events(struct io_uring_sqe *sqe, uint32_t events)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	events = events << 16 | events >> 16;
#endif
	sqe->poll32_events = events;
}

/* Of `ready`, what was asked for, or nobody needs to ask for; 5.10 tells whatever woke it. */
static inline int uring_polled_events(const struct io_uring_sqe *sqe, int ready)
{
	uint32_t events = sqe->poll32_events;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	events = events << 16 | events >> 16;
#endif
	return ready & (int)(events | POLLERR | POLLHUP | POLLNVAL);
}

/* queue.c */
void uring_list_add(struct uring *uring, struct uring_list *list, struct uring_slot *slot,
                    uint16_t flag);
void uring_list_drop(struct uring *uring, struct uring_slot *slot);
void uring_push_slow(struct uring *uring, struct uring_slot *slot);
void uring_push_cancel(struct uring *uring, struct uring_slot *slot);
/* An entry to fill in; there is room. */
struct io_uring_sqe *uring_next_sqe(struct uring *uring, uint8_t opcode);
/* Poll `fd` first, then start the template again. */
void uring_push_poll(struct uring *uring, struct uring_slot *slot, int fd, uint32_t events);
/* Move what waits in lists of ours to the submission queue, as far as it goes. */
void uring_settle(struct uring *uring);
struct uring_cold *uring_cold_take(struct uring *uring);
/* Give back what the slot holds; it is terminal. */
void uring_slot_end(struct uring *uring, struct uring_slot *slot);
/* Make the terminal completion of an operation of which the kernel knows nothing. */
void uring_done(struct uring *uring, struct uring_slot *slot, int result);
/* Take an operation back out of the submission queue or our lists. */
void uring_withdraw(struct uring *uring, struct uring_slot *slot);
struct uring_slot *uring_start(struct uring *uring, enum uring_verb verb, void *owner,
                               uint8_t opcode, int fd);
int uring_cancel(struct ul_driver *driver, ul_token token);
bool uring_released(struct ul_driver *driver, ul_token token);
int uring_outcome(struct ul_driver *driver, ul_token token, bool take);

/* Queue the slot's template. */
static inline void uring_push(struct uring *uring, struct uring_slot *slot)
{
	uint32_t tail = uring->sq_tail;

	assert((slot->base.flags & SLOT_LISTED) == 0);
	if (unlikely(tail - uring->sq_head >= uring->sq_limit)) {
		uring_push_slow(uring, slot);
		return;
	}
	slot->base.state = STATE_IN_KERNEL;
	slot->sq_position = tail;
	memcpy(&uring->sqes[tail & uring->sq_mask], &slot->sqe, sizeof(slot->sqe));
	uring->sq_tail = tail + 1;
	uring->statistics.submissions[slot->sqe.opcode]++;
}

/* The same, for an operation that the kernel has answered before. */
static inline void uring_push_again(struct uring *uring, struct uring_slot *slot)
{
	slot->base.flags |= SLOT_BEGAN;
	uring_push(uring, slot);
}

/* streams.c */
int uring_recv(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
               ul_token *token);
int uring_recv_from(struct ul_driver *driver, void *owner, int fd, ul_token *token);
int uring_accept(struct ul_driver *driver, void *owner, int fd, bool shared, ul_token *token);
void uring_recycle(struct ul_driver *driver, unsigned char *data);
/* Start a stream (again) the way its descriptor and this kernel want it. */
void uring_stream_start(struct uring *uring, struct uring_slot *slot, bool poll_first);
int uring_take(struct ul_driver *driver, ul_token token, const struct iovec *iov,
               uint32_t count);
/* Make it a bulk stream, or one no more; nothing of it is in the kernel. */
void uring_move(struct uring_slot *slot);
void uring_hold(struct ul_driver *driver, ul_token token, bool for_good);
/* Each: how many completions went to `out`, 0 or 1. */
int uring_bulk_readable(struct uring_slot *slot, struct ul_completion *out);
int uring_recv_completed(struct uring *uring, struct uring_slot *slot,
                         const struct io_uring_cqe *cqe, struct ul_completion *out);
int uring_recv_from_completed(struct uring *uring, struct uring_slot *slot,
                              const struct io_uring_cqe *cqe, struct ul_completion *out);
int uring_accept_completed(struct uring *uring, struct uring_slot *slot,
                           const struct io_uring_cqe *cqe, struct ul_completion *out);
/* Others may accept from its socket too. */
void uring_share_listener(struct uring *uring, struct uring_slot *slot);
/* Accept from shared listeners: how many completions went to `out`. */
int uring_harvest_accepts(struct uring *uring, struct ul_completion *out, int capacity);
/* Give back a buffer that came with an entry nobody wants. */
void uring_drop_buffer(struct uring *uring, struct uring_slot *slot,
                       const struct io_uring_cqe *cqe);

/* turn.c */
int uring_turn(struct ul_driver *driver, int64_t timeout_ns);
bool uring_immediate(struct ul_driver *driver);
int uring_harvest(struct ul_driver *driver, struct ul_completion *out, int capacity);
void uring_wake(struct ul_driver *driver);
/* An entry that is no operation's. */
void uring_tagged_completed(struct uring *uring, const struct io_uring_cqe *cqe);
/* Submit the queue without waiting; io_uring_enter's result. */
int uring_flush(struct uring *uring, unsigned flags);
/* uring_settle(), and what the queue has no room for goes to the kernel at once. */
void uring_hand_over(struct uring *uring);
/* The same until nothing is left, with patience where memory is short. */
void uring_hand_over_all(struct uring *uring);
/* The terminal completion of `slot`, which is free afterwards.  1. */
int uring_finish(struct uring *uring, struct uring_slot *slot, struct ul_completion *out,
                 int result, uint32_t flags);

/* answers.c */
/* A timeout that starts again: for what is left of it. */
void uring_timeout_continue(struct uring_slot *slot);
/* Each: how many completions went to `out`, 0 or 1. */
int uring_operation_completed(struct uring *uring, struct uring_slot *slot, int result,
                              struct ul_completion *out);
int uring_polling_completed(struct uring *uring, struct uring_slot *slot, int result,
                            struct ul_completion *out);

/* life.c */
int uring_begin(struct ul_driver *driver);
void uring_end(struct ul_driver *driver);
void uring_destroy(struct ul_driver *driver);
int uring_pool_prepare(struct uring *uring, unsigned pool);
bool uring_pool_wants_ring(const struct uring *uring, unsigned pool);
int uring_ring_open(struct uring *uring);
int uring_ring_enable(struct uring *uring);
void uring_ring_unregister(struct uring *uring);
void uring_ring_close(struct uring *uring);
void uring_forget_ring(struct uring *uring);
/* The calling thread enabled the ring. */
bool uring_is_here(const struct uring *uring);
bool uring_may_enter(const struct uring *uring);
int uring_wake_open(struct uring *uring);
void uring_wake_push(struct uring *uring);

/* fork.c */
int uring_fork_add(struct uring *uring);
/* In the child: end what had ended before the fork, and share every listener. */
void uring_leave_to_parent(struct uring *uring);

/* leave.c */
typedef int (*uring_entry_handler)(struct uring *uring, const struct io_uring_cqe *cqe);
/* A new ring with every live operation: after a fork or in another thread. */
int uring_rebuild(struct uring *uring);
void uring_shutdown(struct ul_driver *driver);
/* uring_flush(), with the completions put aside that are in its way. */
int uring_flush_keeping(struct uring *uring, unsigned flags);
void uring_park_accepts(struct uring *uring);
/* Give every entry of the completion queue to `handle`.  0, or what it answered. */
int uring_read_queue(struct uring *uring, uring_entry_handler handle);
/* Remember an entry for the next harvest(), of whichever ring.  0 or -errno. */
int uring_keep(struct uring *uring, const struct io_uring_cqe *cqe);
struct uring_slot *uring_slot_number(const struct uring *uring, uint32_t number);
uint32_t uring_slot_count(const struct uring *uring);

#endif
