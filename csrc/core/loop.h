/*
 * The loop: what the data plane has of its own, and what it borrows.
 *
 * Knows the driver only through struct ul_table (../driver/driver.h); Python owns it.
 * Everything here runs with the GIL held, but for the one wait in loop.c.  What is of
 * one part alone is a member of that part's name.
 */
#ifndef UL_LOOP_H
#define UL_LOOP_H

#include "base/fd_array.h"
#include "base/turn_times.h"
#include "callbacks/ready.h"
#include "callbacks/timers.h"
#include "../driver/driver.h"

struct operation;
struct Request;

/* Why each callback is timed: there is a branch for all of them together. */
enum loop_observed {
	OBSERVED_DEBUG = 1 << 0,  /* debug mode logs what is slow */
	OBSERVED_ASKED = 1 << 1,  /* somebody wants to know the longest */
	OBSERVED_LONG = 1 << 2,   /* a turn was long: whose fault was it, if it happens again? */
};

/* What transports have done since the loop was made, nothing but uint64_t. */
struct transport_counts {
	uint64_t bytes_in, bytes_out;
	uint64_t connections_in, connections_out;
	uint64_t transports;      /* open now */
	uint64_t reading_pauses;  /* pause_reading() */
	uint64_t writing_pauses;  /* of protocols: pause_writing() */
};

/* Few enough that a batch stays in the first cache level. */
#define LOOP_BATCH 64

struct Loop {
	PyObject_HEAD
	const struct ul_table *table; /* borrowed from Python's driver; NULL when detached */
	struct ul_driver *driver;     /* borrowed likewise */

	/* Every turn. */
	struct ready_queue ready;
	struct timer_heap timers;
	struct operation *held;       /* the operations in flight */
	struct {
		struct Stream *dirty;   /* with bytes to send this turn; owned references */
		struct Stream **dirty_tail;
		struct Stream *pausing; /* paused in this turn; owned references */
	} streams;
	uint64_t turn;
	uint64_t clock_due;           /* the turn after which `times` reads the clock next */
	uint32_t sends;               /* started since the last wait */
	uint32_t eager_send_bytes;    /* the driver's; 0: every write is sent at once */
	struct {
		uint64_t version;     /* of our type, when they were found out */
		uint8_t found;        /* enum in overrides.h */
	} overrides;
	unsigned long thread;         /* of the running loop, when `running` */
	PyThreadState *state;         /* borrowed, of that thread; kept as asking costs */
	bool closed;
	bool forgotten;               /* garbage, unclosed: what it refers to may be cleared */
	bool running;
	bool stopping;
	bool debug;
	bool asleep;                  /* in the driver, without the GIL: who runs is another */
	uint8_t observed;             /* enum loop_observed: each callback is timed, and why */

	/* Requests of other threads. */
	struct {
		bool asked;                /* there is something below */
		struct operation *cancels; /* what they cancelled; owned references to holders */
		struct ready_queue errands; /* what they want to have called */
		struct Request *untold;    /* not of threads: ended, no memory to tell; owned */
		struct fd_array orphans;   /* of int: descriptors that they gave up, linked */
		int orphan;                /* the first of them, + 1, or 0 */
	} threads;
	struct transport_counts counts;
	unsigned long long long_callback_ns; /* what takes less is not among the longest */
	struct Loop *next_running;    /* borrowed; in the process's list of those that run */
	struct handle_waiter *waiters; /* threads that wait for a callback; on their stacks */

	/* By descriptor. */
	struct {
		struct fd_array pairs; /* of struct reader_pair */
		int count;             /* descriptors with a reader or a writer */
	} readers;
	struct fd_array socket_waits; /* of struct socket_queues */
	struct fd_array owners;       /* of struct transport *, borrowed */

	/* Now and then. */
	struct {
		char *received;       /* owned, or NULL: what plain sockets and polls read into */
		char *spill;          /* owned, or NULL: what a guess of a receive's size missed */
		char *layered;        /* owned, or NULL: what a stream's layer is given of bulk */
		bool receiving;       /* without the GIL, into `received` */
	} scratch;
	struct address_cache *addresses; /* owned or NULL; of datagrams */
	PyObject *driver_owner;       /* owned until close(): whose close() frees the driver */
	PyObject *current_handle;     /* owned; debug mode: what runs now */
	double slow_callback_duration;
	double clock_resolution;      /* how much too early a timer may fire: asyncio's */
	unsigned long thread_shown;   /* _thread_id, which others may set */

	struct turn_times times;
	struct {
		bool unharvested;     /* the last turn's completions are not all dispatched */
		bool cut;             /* it was full: the turn may have brought more */
		unsigned forks;       /* process.forks when they were harvested */
		int next, count;
		struct ul_completion items[LOOP_BATCH];
	} batch;
};

extern PyMethodDef loop_methods[];
/*
 * Nobody has closed it, and nobody can any more: __del__ of a subclass has taken
 * the place of ours, say.  The kernel must let go of what is in flight all the same.
 */
void loop_end_forgotten(Loop *loop);

/* ---- loop_type.c ---- */

extern PyTypeObject *LoopType;
int loop_init_types(PyObject *module);

#endif
