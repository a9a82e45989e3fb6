/*
 * The driver: everything the loop waits for, as operations.
 *
 * An operation is started by a verb, runs in the kernel, and ends with exactly
 * one terminal completion (one without UL_MORE).  Two drivers speak the same
 * verbs: ring/ (io_uring) and selector/ (epoll).  Nothing above this header
 * knows which of them runs.
 *
 * This header is the seam.  It knows neither Python nor liburing.  csrc/core
 * sees the driver only through struct ul_table; Python sees it only through
 * the functions that binding.h declares for cffi.
 *
 * Threads: one thread at a time drives a driver (begin ... turn/harvest ...
 * end) and only it may call verbs meanwhile.  Only wake() may be called from
 * any thread at any time.
 */
#ifndef UL_DRIVER_H
#define UL_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Changes whenever struct ul_table, ul_completion or a meaning changes. */
#define UL_ABI 14

/* Never waits (0) and waits without an end (UL_FOREVER), in turn(). */
#define UL_FOREVER INT64_C(-1)

/*
 * Names one operation: generation << 32 | slot + 1.  Never 0, and never used
 * again for another operation, so that a late completion or a late cancel
 * finds a dead generation and not a stranger.
 */
typedef uint64_t ul_token;

enum ul_completion_flag {
	/* The operation goes on; more completions follow. */
	UL_MORE = 1 << 0,
	/* `data` is a lent buffer: give it back with recycle(). */
	UL_LENT = 1 << 1,
	/* A watch reports readiness: `result` holds EPOLL* bits. */
	UL_WATCH = 1 << 2,
	/*
	 * The ring was lost (thread gone, forced close), or a thread was given
	 * up that hangs in a call, before the operation's memory was let go of:
	 * its owner must never free it.
	 */
	UL_KEEP = 1 << 3,
	/*
	 * A recv stream of bulk has something for take(), and waits for it: no
	 * byte is received, and nothing more is said, before that.  `result`
	 * is 0.  Comes with UL_MORE, unless a cancel of the owner's cleared it.
	 */
	UL_READABLE = 1 << 4,
	/*
	 * More bytes of the same recv stream follow in the same harvest, not
	 * necessarily next: they were received by the same turn.
	 */
	UL_FOLLOWED = 1 << 5,
};

struct ul_completion {
	void *owner;                    /* what was given to the verb */
	ul_token token;
	int32_t result;                 /* >= 0, or -errno */
	uint32_t flags;                 /* enum ul_completion_flag */
	unsigned char *data;            /* UL_LENT: `result` bytes */
	const struct sockaddr *address; /* recv_from: the sender, inside the lent buffer */
	uint32_t address_size;
};

/*
 * In poll()'s `events`: a stream, with one completion in each turn in which one
 * of them holds, until it is cancelled.
 */
#define UL_POLL_LEVEL (UINT32_C(1) << 31)

/* Turns by how many completions they brought: 0, 1, 2-3, 4-7, ..., 4096 and more. */
#define UL_BATCHES 14
/* IORING_OP_* that may be submitted: up to PIPE (Linux 6.16). */
#define UL_OPCODES 63

/*
 * Counters since the driver was made, nothing but uint64_t; their names for
 * people are in binding.c, what they mean is told by EventLoop.statistics().
 */
struct ul_statistics {
	uint64_t turns;          /* turn() calls */
	uint64_t waits;          /* turns that asked the kernel to sleep */
	uint64_t enters;         /* system calls that submitted, waited or polled */
	uint64_t submitted;      /* operations handed to the kernel */
	uint64_t completed;      /* completions harvested */
	uint64_t wakes;          /* wake() calls that had to make a system call */
	uint64_t rearmed;        /* multishot operations armed again */
	uint64_t buffers_exhausted; /* receives that found no free buffer (ENOBUFS) */
	uint64_t cq_overflows;   /* turns that found the completion queue overflowed */
	uint64_t rebuilt;        /* rings made anew after a fork or a change of thread */
	uint64_t in_flight;      /* operations not terminal yet (a gauge) */
	uint64_t batches[UL_BATCHES];
	/*
	 * Entries of the submission queue, by opcode.  On the selector, which
	 * makes the calls itself: operations, by the opcode of the same call.
	 */
	uint64_t submissions[UL_OPCODES];
};

/*
 * A one-shot operation without a verb of its own (openat, statx, fsync, ...),
 * in the terms of io_uring_enter(2).  What may wait for a disk does so in the
 * kernel's workers (the ring) or in threads (the selector).
 *
 * -EOPNOTSUPP at once: this driver or this kernel has no such operation.
 * -ENOTBLK as the result: nothing was done, for this one might wait for others
 * (a pipe, a terminal) as long as they like, and could not be cancelled.
 */
struct ul_request {
	uint8_t opcode;          /* IORING_OP_* */
	int32_t fd;
	uint64_t address;        /* addr */
	uint64_t address2;       /* off, addr2 */
	uint32_t length;         /* len */
	uint32_t op_flags;       /* open_flags, statx_flags, ... */
};

/* The kind of socket that a recv stream has, as far as its owner knows. */
enum ul_stream {
	UL_STREAM_UNKNOWN,  /* nothing: the driver asks the kernel, as far as it matters */
	UL_STREAM_TCP,
	UL_STREAM_UNIX,     /* AF_UNIX, SOCK_STREAM */
	UL_STREAM_OTHER,
};

struct ul_driver;

/*
 * The verbs.  Each that starts an operation returns
 *
 *   >= 0           done at once; no completion follows, *token is 0;
 *   -EINPROGRESS   started; *token names it and completions follow;
 *   other -errno   failed at once; no completion follows, *token is 0.
 *
 * `owner` comes back in every completion; the driver never looks at it.
 * Descriptors are non-blocking and stay the caller's.  Memory named by
 * pointers is borrowed until the terminal completion, except addresses
 * (struct sockaddr) and iovec arrays, which are copied.
 */
struct ul_table {
	uint32_t size;           /* sizeof(struct ul_table) */
	uint32_t abi;            /* UL_ABI */
	const char *name;        /* "uring" or "selector" */
	/*
	 * From so many bytes on a send is better made at once, with a plain
	 * sendmsg(2), than queued for the next turn.
	 */
	uint32_t eager_send_bytes;
	/*
	 * recv streams receive inside turn() only, so that a hold() before it is
	 * early enough.  Otherwise harvest() receives, and it takes effect at once.
	 */
	bool receives_in_turn;

	/*
	 * The calling thread drives from here until end().  Makes or remakes
	 * what belongs to a thread or a process (a ring after a fork or in
	 * another thread), with every live operation carried over.
	 */
	int (*begin)(struct ul_driver *driver);
	void (*end)(struct ul_driver *driver);
	/*
	 * Submit what is queued and wait until something completes, a watch is
	 * ready, wake() was called or `timeout_ns` have passed.  At most one
	 * system call; none when there is nothing to submit and the kernel has
	 * nothing for us.  0 (a signal too), or -errno when the driver itself
	 * is broken.
	 */
	int (*turn)(struct ul_driver *driver, int64_t timeout_ns);
	/*
	 * Whether turn() with a timeout would return without sleeping, and
	 * cheaply enough to keep the GIL for it.
	 */
	bool (*immediate)(struct ul_driver *driver);
	/*
	 * Take up to `capacity` completions of the last turn; 0 when all are
	 * taken.  Completions that appear later wait for the next turn.
	 */
	int (*harvest)(struct ul_driver *driver, struct ul_completion *out, int capacity);
	/* End a sleeping turn(); any thread, async-signal-safe, coalesced. */
	void (*wake)(struct ul_driver *driver);
	/* Give a lent buffer back (`data` of the completion). */
	void (*recycle)(struct ul_driver *driver, unsigned char *data);

	/*
	 * A stream of received bytes in lent buffers; 0 is the end of file.
	 * While they come in bulk it says UL_READABLE instead.
	 */
	int (*recv)(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
	            ul_token *token);
	/*
	 * Receive from the recv stream `token`, which said UL_READABLE, into
	 * the owner's memory.  > 0: so many bytes.  -EAGAIN: there are none
	 * after all.  After both the stream goes on by itself.  0 is the end
	 * of file; that and any other -errno ended the stream, and nothing
	 * more of it comes.  -ENOENT: no stream that waits for a take().
	 */
	int (*take)(struct ul_driver *driver, ul_token token, const struct iovec *iov,
	            uint32_t count);
	/*
	 * From now on the recv stream `token` receives nothing by itself: it says
	 * UL_READABLE and waits for a take(), as one of bulk.  What the last turn
	 * had received before is still harvested.  With `for_good` it stays so also
	 * when what it take()s is little.
	 */
	void (*hold)(struct ul_driver *driver, ul_token token, bool for_good);
	/* A stream of datagrams in lent buffers, with their senders. */
	int (*recv_from)(struct ul_driver *driver, void *owner, int fd, ul_token *token);
	/* One vectored send; the result may be short. */
	int (*send)(struct ul_driver *driver, void *owner, int fd, const struct iovec *iov,
	            uint32_t count, ul_token *token);
	/*
	 * A stream of accepted descriptors (non-blocking, close-on-exec).
	 * `shared`: others, of this process or another, may accept from the
	 * socket too, and none of them has to wait while we do not run.
	 */
	int (*accept)(struct ul_driver *driver, void *owner, int fd, bool shared,
	              ul_token *token);
	/* -EAGAIN: a full backlog (AF_UNIX), of which no readiness tells when there is room. */
	int (*connect)(struct ul_driver *driver, void *owner, int fd,
	               const struct sockaddr *address, uint32_t address_size,
	               ul_token *token);
	/*
	 * Readiness: `events` and the result are POLL* bits.  Once, or with
	 * UL_POLL_LEVEL in each turn; such a stream is never done at once.
	 */
	int (*poll)(struct ul_driver *driver, void *owner, int fd, uint32_t events,
	            ul_token *token);
	/* Ends with -ETIME after `duration_ns`. */
	int (*timeout)(struct ul_driver *driver, void *owner, uint64_t duration_ns,
	               ul_token *token);
	/*
	 * splice(2); an offset of -1 is the descriptor's own position.  -EOPNOTSUPP
	 * from the selector: what may wait for a disk would do so in the loop.
	 */
	int (*splice)(struct ul_driver *driver, void *owner, int fd_in, int64_t offset_in,
	              int fd_out, int64_t offset_out, uint32_t size, uint32_t flags,
	              ul_token *token);
	int (*submit)(struct ul_driver *driver, void *owner, const struct ul_request *request,
	              ul_token *token);
	/*
	 * Ask an operation to end.  0: it has ended, nothing more of it comes.
	 * -EINPROGRESS: its terminal completion follows, with -ECANCELED or
	 * with the result that won the race.  -ENOENT: no such operation.
	 */
	int (*cancel)(struct ul_driver *driver, ul_token token);
	/*
	 * The bytes that a send in flight has sent, if it has ended already; with
	 * `take` no completion of it follows.  -EINPROGRESS: it has not, or has
	 * failed, or its completion was harvested.
	 */
	int (*outcome)(struct ul_driver *driver, ul_token token, bool take);
	/*
	 * Whether a cancelled operation names its descriptor no more, although
	 * its terminal completion may still wait for harvest().
	 */
	bool (*released)(struct ul_driver *driver, ul_token token);
	/*
	 * close(2) and forget the descriptor.  The caller has seen the terminal
	 * completion of every operation on it, or was told that it is released.
	 */
	int (*close)(struct ul_driver *driver, int fd);

	/*
	 * Level-triggered readiness of `fd`, exactly epoll's: `events` (EPOLLIN,
	 * EPOLLOUT) replace what was watched before; 0 ends the watch.  Each
	 * completion has UL_WATCH, `owner`, and `token` as set here.  Refuses
	 * what epoll_ctl(2) refuses, with its errno.  -ENOENT: `fd` was watched,
	 * and stands for another file by now; that watch has ended.
	 */
	int (*watch)(struct ul_driver *driver, void *owner, int fd, uint32_t events,
	             ul_token *token);

	/*
	 * End every operation and watch and wait until the kernel holds none
	 * of our memory.  What is left to harvest() afterwards is the terminal
	 * completion of each operation.  Lent buffers stay valid.
	 */
	void (*shutdown)(struct ul_driver *driver);
	/* Free the driver.  Nothing that it lent may be used any more. */
	void (*destroy)(struct ul_driver *driver);
	const struct ul_statistics *(*statistics)(struct ul_driver *driver);
};

/* The head of every driver; the rest is its own. */
struct ul_driver {
	const struct ul_table *table;
};

#endif
