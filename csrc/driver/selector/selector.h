/*
 * The selector's own structures, shared by its files and by nobody else:
 *
 *     life.c           making, remaking, harvest, watch, ending; the table
 *     turn.c      turn and wake
 *     verbs.c     how operations start, and are tried again
 *     serve.c     what a ready descriptor does for those who wait
 *     doubts.c    streams that may hold more than a receive has found
 *     operations.c         the life of an operation
 *     descriptors.c        one entry per descriptor, and its registration
 *     deadlines.c          the heap of deadlines
 */
#ifndef SELECTOR_H
#define SELECTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "compat.h"
#include "driver.h"
#include "fork.h"
#include "buffers.h"
#include "open.h"
#include "slots.h"
#include "statistics.h"

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

/*
 * How a descriptor is registered with epoll.
 *
 *     UNREGISTERED <-> EDGE <-> LEVEL
 *
 * EDGE is for descriptors that only verbs use: everything is asked for once,
 * and whether somebody waits never changes the registration.  LEVEL is for
 * descriptors with a watch or a poll whose contract is level-triggered; the
 * mask is then exactly what is waited for.
 */
enum registration {
	UNREGISTERED,
	EDGE,
	LEVEL,
};

/*
 * epoll_event.data is generation << 32 | descriptor, and this bit for LEVEL.
 * No descriptor is that large.
 */
#define DATA_LEVEL (UINT64_C(1) << 31)

/* The eventfd's; no registration has every bit set. */
#define DATA_WAKE UINT64_MAX

#define EVENTS_ANNOUNCING (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

/* Whom a descriptor owes a look. */
enum due {
	DUE_READ = 1 << 0,
	DUE_WRITE = 1 << 1,
	DUE_POLL = 1 << 2,
	DUE_WATCH = 1 << 3,
};

struct descriptor_list {
	struct descriptor *first;
	struct descriptor *last;
};

struct descriptor {
	struct operation_queue readers; /* first come, first served */
	struct operation_queue writers;
	struct operation_queue pollers; /* one-shot polls: all see each event */
	struct descriptor *next;        /* in `list` */
	struct descriptor *previous;
	struct descriptor_list *list;   /* the selector's `work` or `later`, or NULL */
	int fd;
	uint32_t generation;            /* of its registration */
	uint32_t mask;                  /* of its registration */
	uint32_t ready;                 /* EPOLL* bits reported and not served yet */
	/*
	 * EPOLLRDHUP, EPOLLHUP, EPOLLERR or EPOLLPRI, since the last receive
	 * that found nothing: there is more to receive than a short receive says.
	 */
	uint32_t announced;
	uint8_t registration;           /* enum registration */
	uint8_t due;                    /* enum due: this turn */
	uint8_t again;                  /* enum due: next turn, without an event */
	/* A stream send was short: another is hopeless before EPOLLOUT. */
	bool full;
	bool doubtful;                  /* see doubts.c */
	uint16_t served;                /* completions given this turn */
	void *watch_owner;
	ul_token watch_token;
	uint32_t watch_events;          /* 0: not watched */
};

#define DESCRIPTORS_PER_BLOCK 256

struct deadlines {
	struct operation **heap;        /* owned array, nobody's operations */
	uint32_t count;
	uint32_t size;
	uint64_t sequence;
};

struct selector {
	struct ul_driver driver;
	struct slots slots;
	struct buffers buffers;
	struct deadlines deadlines;
	struct ul_statistics statistics;
	uint64_t batch_before;          /* statistics.completed when the turn began */
	struct descriptor **blocks;     /* owned; by descriptor, blocks never move */
	uint32_t block_count;
	uint32_t generation;            /* of the latest registration */
	struct descriptor_list work;    /* what the last turn found */
	struct descriptor_list later;   /* ready without an event, next turn */
	struct operation_queue done;    /* terminal, not harvested */
	struct threads *threads;        /* owned; NULL before the first request */
	int epoll_fd;                   /* owned */
	int wake_fd;                    /* owned eventfd, registered edge-triggered */
	unsigned epoch;                 /* fork_epoch when epoll_fd was made */
	bool stale;                     /* a dead file keeps the set ready: rebuild */
	bool skipped;                   /* the last turn made no system call */
	bool doubtful;                  /* so is a descriptor */
	uint32_t doubts_next;           /* the descriptor that was looked at last */
	bool has_pwait2;                /* epoll_pwait2(2), Linux 5.11 */
	atomic_bool sleeping;           /* a turn waits, or is about to */
	atomic_bool woken;              /* wake() was called since the last wait */
};

static inline struct selector *selector_of(struct ul_driver *driver)
{
	return (struct selector *)driver;
}

/* Are epoll_fd and wake_fd the parent's? */
static inline bool belongs_to_parent(const struct selector *selector)
{
	return made_before_fork(selector->epoch);
}

/* life.c */

/* A new epoll set with all that waits registered: after a fork, or when stale. */
int selector_rebuild(struct selector *selector);
/* What waits for the descriptor waits for a file that is gone: -EBADF, a watch without a word. */
void descriptor_abandon(struct selector *selector, struct descriptor *descriptor);

/* turn.c */

/* It is due a look: this turn. */
void descriptor_due(struct selector *selector, struct descriptor *descriptor, uint8_t due);
bool selector_immediate(struct ul_driver *driver);
int selector_turn(struct ul_driver *driver, int64_t timeout_ns);
void selector_wake(struct ul_driver *driver);

/* descriptors.c */

/* The entry of `fd`, or NULL when there was never a need for one. */
static inline struct descriptor *descriptor_find(const struct selector *selector, int fd)
{
	uint32_t block = (uint32_t)fd / DESCRIPTORS_PER_BLOCK;

	if (block >= selector->block_count || selector->blocks[block] == NULL)
		return NULL;
	return &selector->blocks[block][(uint32_t)fd % DESCRIPTORS_PER_BLOCK];
}

/* The entry of `fd`, made when there is none.  0, -EBADF or -ENOMEM. */
int descriptor_get(struct selector *selector, int fd, struct descriptor **descriptor);
void descriptors_release(struct selector *selector);
/*
 * Bring the registration in line with who waits; what is ready is reported anew.  -ENOENT:
 * the descriptor stands for another file than the one that was registered.
 */
int descriptor_register(struct selector *selector, struct descriptor *descriptor);
void descriptor_unregister(struct selector *selector, struct descriptor *descriptor);
/* After somebody stopped waiting: only a level-triggered mask must shrink. */
void descriptor_settle(struct selector *selector, struct descriptor *descriptor);
/* Have it served this turn (work) or the next one (later). */
void descriptor_list_append(struct descriptor_list *list, struct descriptor *descriptor);
void descriptor_list_remove(struct descriptor *descriptor);

/* operations.c */

void operation_queue_append(struct operation_queue *queue, struct operation *operation);
void operation_queue_remove(struct operation *operation);
/* The operation has its result: out of every queue and of the heap, state DONE. */
void operation_finish(struct selector *selector, struct operation *operation);
/* The same, with a completion for the next harvest. */
void operation_complete(struct selector *selector, struct operation *operation,
                        int32_t result);

enum side { READERS, WRITERS, POLLERS };

static inline struct operation_queue *queue_of(struct descriptor *descriptor, enum side side)
{
	return side == READERS ? &descriptor->readers :
	       side == WRITERS ? &descriptor->writers : &descriptor->pollers;
}

/* The first reader has said UL_READABLE; until take() nobody reads. */
static inline bool descriptor_is_readable(const struct descriptor *descriptor)
{
	const struct operation *reader = descriptor->readers.first;

	return reader != NULL && reader->slot.verb == VERB_RECV && reader->stream.readable;
}

/* A byte stream is received from it: see descriptors.c for what that spares. */
static inline bool descriptor_is_streaming(const struct descriptor *descriptor)
{
	const struct operation *reader = descriptor->readers.first;

	return descriptor->registration == EDGE && reader != NULL &&
	       reader->slot.verb == VERB_RECV && reader->stream.kind != UL_STREAM_OTHER;
}

/* The call was all it took: passes `result` on. */
static inline int operation_done_at_once(struct selector *selector, uint8_t opcode, int result)
{
	selector->statistics.submitted++;
	selector->statistics.submissions[opcode]++;
	return result;
}

/* In state QUEUED, or NULL when memory is out. */
struct operation *operation_take(struct selector *selector, enum verb verb, void *owner);
/* An operation that never started. */
void operation_drop(struct selector *selector, struct operation *operation);
/* Queue it at `fd`, registered so that readiness from now on is reported.  0 or -errno. */
int operation_wait(struct selector *selector, struct operation *operation, int fd,
                   enum side side);
/* Wait at `fd`, or drop it: -EINPROGRESS or another -errno, for the verb to return. */
int operation_start(struct selector *selector, struct operation *operation, int fd,
                    enum side side, ul_token *token);
/* From QUEUED to IN_KERNEL; -EINPROGRESS. */
int operation_started(struct selector *selector, struct operation *operation,
                      ul_token *token);

/* deadlines.c */

/* 0 or -ENOMEM. */
int deadlines_add(struct deadlines *deadlines, struct operation *operation,
                  uint64_t deadline_ns);
void deadlines_remove(struct deadlines *deadlines, struct operation *operation);
void deadlines_release(struct deadlines *deadlines);

/* serve.c */

/*
 * Serve those who wait for `descriptor`, as long as out[*count] is within
 * `capacity`.  What is left to do stays in `due`.  True when a buffer was lent.
 */
bool descriptor_serve(struct selector *selector, struct descriptor *descriptor,
                      struct ul_completion *out, int capacity, int *count);

void selector_hold(struct ul_driver *driver, ul_token token, bool for_good);
int selector_take(struct ul_driver *driver, ul_token token, const struct iovec *iov,
                  uint32_t count);

/* doubts.c */

/* Ask those of which it is doubtful whether they are drained; all of them, or a few. */
void doubts_settle(struct selector *selector, bool all);

/* verbs.c */

/* poll(2) without waiting: what is ready of `events`. */
uint32_t poll_now(int fd, uint32_t events);
/* The call of a one-shot operation, once more: its result, or -EAGAIN. */
int operation_attempt(struct selector *selector, struct operation *operation);

int selector_recv(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
                  ul_token *token);
int selector_recv_from(struct ul_driver *driver, void *owner, int fd, ul_token *token);
int selector_send(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
                  uint32_t count, ul_token *token);
int selector_accept(struct ul_driver *driver, void *owner, int fd, bool shared,
                    ul_token *token);
int selector_connect(struct ul_driver *driver, void *owner, int fd,
                     const struct sockaddr *address, uint32_t address_size,
                     ul_token *token);

int selector_poll(struct ul_driver *driver, void *owner, int fd, uint32_t events,
                  ul_token *token);
int selector_timeout(struct ul_driver *driver, void *owner, uint64_t duration_ns,
                     ul_token *token);
int selector_splice(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
                    int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
                    ul_token *token);

/* requests.c */

int selector_submit(struct ul_driver *driver, void *owner, const struct ul_request *request,
                    ul_token *token);
/* cancel() of one. */
int request_cancel(struct selector *selector, struct operation *operation);
/* Let the threads have what was submitted. */
void requests_flush(struct selector *selector);
/* Complete what they have done. */
void requests_take(struct selector *selector);
/* End all, and the threads: waits for calls that have begun, up to a limit. */
void requests_end(struct selector *selector);

#endif
