/*
 * The selector's state, and what its files share; each calls only those below it.
 *
 *     life.c         the table; open, begin, end, cancel, close, watch, destroy
 *     turn.c         turn and harvest
 *     rebuild.c      a new epoll set: after a fork, or when a dead file is in the old one
 *     doubts.c       streams that may hold more than a receive has found
 *     serve.c        what a ready descriptor does for those who wait
 *     verbs.c        how operations start, and are tried again
 *     requests.c     calls that may wait for a disk, by threads
 *     operations.c   the life of an operation
 *     descriptors.c  one entry per descriptor, and its registration
 *     deadlines.c    the heap of timeouts
 *
 * and, without a word of this header: buffers.c, threads.c, calls.c.
 */
#ifndef SELECTOR_H
#define SELECTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffers.h"
#include "compat.h"
#include "descriptor.h"
#include "driver.h"
#include "fork.h"
#include "open.h"
#include "statistics.h"

struct deadlines {
	struct operation **heap;        /* owned array, nobody's operations */
	uint32_t count;
	uint32_t size;
	uint64_t sequence;
};

#define DESCRIPTORS_PER_BLOCK 256

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

/* epoll_fd and wake_fd are the parent's. */
static inline bool belongs_to_parent(const struct selector *selector)
{
	return made_before_fork(selector->epoch);
}

/* The entry of `fd`, or NULL when there was never a need for one. */
static inline struct descriptor *descriptor_find(const struct selector *selector, int fd)
{
	uint32_t block = (uint32_t)fd / DESCRIPTORS_PER_BLOCK;

	if (block >= selector->block_count || selector->blocks[block] == NULL)
		return NULL;
	return &selector->blocks[block][(uint32_t)fd % DESCRIPTORS_PER_BLOCK];
}

/* The call was all it took: passes `result` on. */
static inline int operation_done_at_once(struct selector *selector, uint8_t opcode, int result)
{
	selector->statistics.submitted++;
	selector->statistics.submissions[opcode]++;
	return result;
}

/* deadlines.c */

/* 0 or -ENOMEM. */
int deadlines_add(struct deadlines *deadlines, struct operation *operation,
                  uint64_t deadline_ns);
void deadlines_remove(struct deadlines *deadlines, struct operation *operation);
void deadlines_release(struct deadlines *deadlines);

/* descriptors.c */

/* The entry of `fd`, made when there is none.  0, -EBADF or -ENOMEM. */
int descriptor_get(struct selector *selector, int fd, struct descriptor **descriptor);
void descriptors_release(struct selector *selector);
/*
 * Bring the registration in line with who waits; what is ready is reported anew.  -ENOENT:
 * the descriptor stands for another file than the one that was registered.
 */
int descriptor_register(struct selector *selector, struct descriptor *descriptor);
void descriptor_unregister(struct selector *selector, struct descriptor *descriptor);
/* The mask of one that is registered LEVEL is not what is waited for. */
bool descriptor_mask_is_wrong(const struct descriptor *descriptor);
/* Have it served this turn (work) or the next one (later). */
void descriptor_list_append(struct descriptor_list *list, struct descriptor *descriptor);
void descriptor_list_remove(struct descriptor *descriptor);
/* Have it looked at in this turn, for `due`. */
void descriptor_due(struct selector *selector, struct descriptor *descriptor, uint8_t due);

/* operations.c */

void operation_queue_remove(struct operation *operation);
/* The operation has its result: out of every queue and of the heap, and free. */
void operation_end(struct selector *selector, struct operation *operation);
/* The operation has its result, which the next harvest tells; then it is free. */
void operation_complete(struct selector *selector, struct operation *operation,
                        int32_t result);
/* A new one in state QUEUED, or NULL when memory is out. */
struct operation *operation_take(struct selector *selector, enum verb verb, void *owner);
/* An operation that never started. */
void operation_drop(struct selector *selector, struct operation *operation);
/* Wait at `fd`, or drop it: -EINPROGRESS or another -errno, for the verb to return. */
int operation_start(struct selector *selector, struct operation *operation, int fd,
                    enum side side, ul_token *token);
/* Step from QUEUED to IN_KERNEL; -EINPROGRESS. */
int operation_started(struct selector *selector, struct operation *operation,
                      ul_token *token);
/* After somebody stopped waiting: only a level-triggered mask must shrink. */
void descriptor_settle(struct selector *selector, struct descriptor *descriptor);
/* End all that waits for `descriptor` with `result`; the watch without a word. */
void descriptor_end(struct selector *selector, struct descriptor *descriptor, int result);
/* End it with -EBADF: the file that was waited for is gone. */
void descriptor_abandon(struct selector *selector, struct descriptor *descriptor);

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

/* rebuild.c */

/* A new epoll set with all that waits registered: after a fork, or when stale. */
int selector_rebuild(struct selector *selector);
int selector_wake_register(struct selector *selector);

/* turn.c */

int selector_turn(struct ul_driver *driver, int64_t timeout_ns);
bool selector_immediate(struct ul_driver *driver);
int selector_harvest(struct ul_driver *driver, struct ul_completion *out, int capacity);
void selector_recycle(struct ul_driver *driver, unsigned char *data);
void selector_wake(struct ul_driver *driver);

#endif
