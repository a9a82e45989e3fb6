/*
 * The ring's state, and what its files share; each calls only those below it.
 *
 *     life.c      the table; open, begin, end, destroy
 *     trial.c     does it work, and words why not
 *     turn.c      turn and harvest: completion entries -> completions
 *     leave.c     rebuild in another thread or process; shutdown
 *     fork.c      what a forked child makes of it
 *     verbs.c     the one-shots: how each starts, and what its answer means
 *     streams.c   recv, recv_from, and their buffers
 *     accept.c    accept, of listeners that are shared or not
 *     ring.c      one ring: open, enable, enter, read, close
 *     queue.c     slots on their way there and back (queue.h)
 *
 * and, without a word of this header: setup.c, kernels.c and room.c (which ring this kernel
 * gives), restrictions.c (what it may be asked for), locked_memory.c (what it charges for one),
 * buffers.c, watches.c.
 */
#ifndef URING_H
#define URING_H

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>

#include "buffers.h"
#include "fork.h"
#include "monotonic.h"
#include "open.h"
#include "slot.h"
#include "statistics.h"
#include "watches.h"

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* A list through the slots, first in, first out. */
struct uring_list {
	uint32_t first;              /* index + 1, 0 for none */
	uint32_t last;
	uint32_t count;
};

/* The top byte of an entry's user_data: what the entry stands for. */
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

	struct uring_list lists[LISTS]; /* by enum uring_list_name */
	uint32_t done_ready;         /* of LIST_DONE: how many the last turn() has seen */
	uint32_t enter_flags;        /* IORING_ENTER_* of every call */
	int enter_fd;                /* the ring, or its registered number */
	uint32_t accepts;            /* accept streams that live and are not shared */
	bool has_ring;
	bool forked;                 /* what is here is the parent's */
	bool watches_fired;          /* the set is to be looked at in this harvest */
	bool watches_armed;
	bool closed;                 /* shut down */
	bool closing;                /* shutdown() has begun; written where forks are forbidden */
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
	struct io_uring_cqe *left_over; /* owned */
	uint32_t left_over_count;
	uint32_t left_over_next;
	/* Copies of those, and of the completion queue, when the process forked. */
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

static inline bool uring_has_entries(const struct uring *uring)
{
	return io_uring_smp_load_acquire(uring->cq_ktail) != uring->cq_head;
}

static inline uint32_t uring_sq_room(const struct uring *uring)
{
	/* A limit of 0 has the tail at the head as well. */
	return uring->sq_limit - (uring->sq_tail - uring->sq_head);
}

/* `slot`'s entry is in the submission queue, and the kernel has not seen it. */
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

/*
 * The events of `ready` that were asked for, or that nobody needs to ask for: 5.10 tells
 * whatever woke it.
 */
static inline int uring_polled_events(const struct io_uring_sqe *sqe, int ready)
{
	uint32_t events = sqe->poll32_events;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	events = events << 16 | events >> 16;
#endif
	return ready & (int)(events | POLLERR | POLLHUP | POLLNVAL);
}

/* The slot of that number; NULL while it is free. */
static inline struct uring_slot *uring_slot_number(const struct uring *uring, uint32_t number)
{
	struct uring_slot *slot = uring_slot_at(uring, number);

	return slot->base.state != STATE_FREE ? slot : NULL;
}

static inline uint32_t uring_slot_count(const struct uring *uring)
{
	return uring->slots.block_count * SLOTS_PER_BLOCK;
}

/* ring.c */
int uring_ring_open(struct uring *uring);
int uring_ring_enable(struct uring *uring);
void uring_ring_register(struct uring *uring);
void uring_ring_unregister(struct uring *uring);
void uring_ring_close(struct uring *uring);
void uring_forget_ring(struct uring *uring);
/* The calling thread enabled the ring. */
bool uring_is_here(const struct uring *uring);
bool uring_may_enter(const struct uring *uring);
/* io_uring_enter(2) of what is in the submission queue; its result. */
int uring_enter(struct uring *uring, unsigned to_submit, unsigned wait_for, unsigned flags,
                void *argument, size_t argument_size);
/*
 * Whether the ring may be entered again after that error of uring_enter()'s: a moment later,
 * which has passed, where memory is short.
 */
bool uring_wait_out(const struct uring *uring, int error);
/* Submit the queue without waiting; io_uring_enter's result. */
int uring_flush(struct uring *uring, unsigned flags);
typedef int (*uring_entry_handler)(struct uring *uring, const struct io_uring_cqe *cqe);
/* Give every entry of the completion queue to `handle`.  0, or what it answered. */
int uring_read_queue(struct uring *uring, uring_entry_handler handle);
int uring_pool_prepare(struct uring *uring, unsigned pool);
bool uring_pool_wants_ring(const struct uring *uring, unsigned pool);
int uring_wake_open(struct uring *uring);
void uring_wake_push(struct uring *uring);

/* streams.c */
int uring_recv(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
               ul_token *token);
int uring_recv_from(struct ul_driver *driver, void *owner, int fd, ul_token *token);
int uring_take(struct ul_driver *driver, ul_token token, const struct iovec *iov,
               uint32_t count);
void uring_hold(struct ul_driver *driver, ul_token token, bool for_good);
void uring_recycle(struct ul_driver *driver, unsigned char *data);
/* Start it (again) the way its descriptor and this kernel want it. */
void uring_receive_start(struct uring *uring, struct uring_slot *slot, bool poll_first);
/* Start those that wait for a free buffer, as far as there are any. */
void uring_feed_starved(struct uring *uring);
/* Make it a bulk stream, or one no more; nothing of it is in the kernel. */
void uring_move(struct uring_slot *slot);
/* Completions that went to `out`, 0 or 1 each. */
int uring_bulk_readable(struct uring_slot *slot, struct ul_completion *out);
int uring_recv_completed(struct uring *uring, struct uring_slot *slot,
                         const struct io_uring_cqe *cqe, struct ul_completion *out);
int uring_recv_from_completed(struct uring *uring, struct uring_slot *slot,
                              const struct io_uring_cqe *cqe, struct ul_completion *out);
/* Give back a buffer that came with an entry nobody wants. */
void uring_drop_buffer(struct uring *uring, struct uring_slot *slot,
                       const struct io_uring_cqe *cqe);

/* accept.c */
int uring_accept(struct ul_driver *driver, void *owner, int fd, bool shared, ul_token *token);
void uring_accept_start(struct uring *uring, struct uring_slot *slot, bool poll_first);
/* Completions that went to `out`, 0 or 1. */
int uring_accept_completed(struct uring *uring, struct uring_slot *slot,
                           const struct io_uring_cqe *cqe, struct ul_completion *out);
/* Others may accept from its socket too. */
void uring_share_listener(struct uring *uring, struct uring_slot *slot);
/* Accept from shared listeners: how many completions went to `out`. */
int uring_harvest_accepts(struct uring *uring, struct ul_completion *out, int capacity);

/* verbs.c */
int uring_send(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
               uint32_t count, ul_token *token);
int uring_connect(struct ul_driver *driver, void *owner, int fd,
                  const struct sockaddr *address, uint32_t address_size, ul_token *token);
int uring_poll(struct ul_driver *driver, void *owner, int fd, uint32_t events,
               ul_token *token);
int uring_timeout(struct ul_driver *driver, void *owner, uint64_t duration_ns,
                  ul_token *token);
int uring_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
                 int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
                 ul_token *token);
int uring_submit(struct ul_driver *driver, void *owner, const struct ul_request *request,
                 ul_token *token);
/* Start it (again), whichever stream it is. */
void uring_stream_start(struct uring *uring, struct uring_slot *slot, bool poll_first);
/* A timeout that starts again: for what is left of it. */
void uring_timeout_continue(struct uring_slot *slot);
/* Completions that went to `out`, 0 or 1 each. */
int uring_operation_completed(struct uring *uring, struct uring_slot *slot, int result,
                              struct ul_completion *out);
int uring_polling_completed(struct uring *uring, struct uring_slot *slot, int result,
                            struct ul_completion *out);

/* fork.c */
int uring_fork_add(struct uring *uring);
/* End, in the child, what had ended before the fork, and share every listener. */
void uring_leave_to_parent(struct uring *uring);

/* leave.c */
/* A new ring with every live operation: after a fork or in another thread. */
int uring_rebuild(struct uring *uring);
void uring_shutdown(struct ul_driver *driver);
/* Submit everything that waits for it, with patience where memory is short. */
void uring_hand_over_all(struct uring *uring);
void uring_park_accepts(struct uring *uring);
/* Remember an entry for the next harvest(), of whichever ring.  0 or -errno. */
int uring_put_aside(struct uring *uring, const struct io_uring_cqe *cqe);

/* turn.c */
int uring_turn(struct ul_driver *driver, int64_t timeout_ns);
bool uring_immediate(struct ul_driver *driver);
int uring_harvest(struct ul_driver *driver, struct ul_completion *out, int capacity);
void uring_wake(struct ul_driver *driver);

#endif
