/*
 * The data plane: what runs per callback or per packet, as a CPython extension.
 *
 * Knows the driver only through struct ul_table (../driver/driver.h) and
 * borrows it; Python owns it.  Everything here runs with the GIL held, but for
 * the one wait in loop.c.
 */
#ifndef UL_CORE_H
#define UL_CORE_H

#include "base/py.h"
#include "../driver/driver.h"

typedef struct Loop Loop;
typedef struct Handle Handle;
typedef struct Timer Timer; /* a TimerHandle */

/* ---- context.c: the contexts of callbacks ------------------------------- */

int context_init(void);
/* What a copy of the current context can be made from, later; NULL with an exception. */
PyObject *context_freeze(void);
/* Makes *frozen a context, if it is none yet; -1 with an exception, and it stays. */
int context_thaw(PyObject **frozen);
/* As PyContext_Enter() and PyContext_Exit(), of this thread's state. */
int context_switch_to(PyThreadState *state, PyObject *context);
int context_switch_back(PyThreadState *state, PyObject *context);
/* Takes the reference of a callback that has run. */
void context_recycle(PyObject *context);
/*
 * The pair of whoever has no thread's state at hand: enter `context`, or do nothing for
 * NULL.  0, or -1 with an exception.
 */
int context_enter(PyObject *context);
/* Keeps the exception that may be set. */
void context_exit(PyObject *context);

/* ---- handle.c: Handle and TimerHandle --------------------------------- */

/* Most callbacks have at most this many arguments; more are packed into a tuple. */
#define HANDLE_ARGS 3
#define TIMER_NOT_SCHEDULED SIZE_MAX

/* A batch of them is what a busy turn has in the cache: every word counts. */
struct Handle {
	PyObject_HEAD
	PyObject *callback;   /* owned; NULL once cancelled and not running */
	PyObject *context;    /* owned; frozen until it runs or somebody asks: context.c */
	Loop *loop;           /* owned */
	PyObject *debug;      /* owned or NULL; debug mode: (where it was made, repr) */
	PyObject *weakrefs;
	uint8_t nargs;        /* in use of args */
	bool packed;          /* args[0] is the tuple of the arguments */
	uint8_t is_timer;     /* 0, or TIMER_* */
	bool cancelled;
	bool running;         /* its callback is on the C stack */
	bool in_repr;         /* cancel() asks for the repr it leaves behind */
	bool threadsafe;      /* other threads that cancel it wait while it runs */
	bool guarded;         /* such a one, and it runs */
	PyObject *args[HANDLE_ARGS]; /* owned */
};

/* An int that call_at() was given is given back as one. */
enum { TIMER_OF_FLOAT = 1, TIMER_OF_INT };

struct Timer {
	Handle handle;
	double when;          /* seconds, as loop.time() */
	uint64_t sequence;    /* orders equal deadlines */
	size_t heap_index;    /* place in the heap, or TIMER_NOT_SCHEDULED */
};

extern PyTypeObject *HandleType, *TimerHandleType;

/*
 * A handle for callback(*args) in `context` (NULL: a copy of the current one).
 * Borrows its arguments and keeps references of its own.
 */
Handle *handle_new(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *context);
/* For call_soon_threadsafe(): other threads that cancel it wait while it runs, from 3.14 on. */
Handle *threadsafe_handle_new(Loop *loop, PyObject *callback, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *context);
Timer *timer_handle_new(Loop *loop, double when, PyObject *callback, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *context);
/*
 * Call it in its context, unless cancelled.  Exceptions go to the loop's
 * exception handler; -1 only for those that must end the loop.
 */
int handle_run(Loop *loop, Handle *handle);
/* Takes the reference of the queue that a handle has left to run. */
void handle_retire(Handle *handle);
/* 0; -1 with what the repr that debug mode keeps raised: it is cancelled all the same. */
int handle_cancel(Handle *handle);

/* For the types. */

bool handle_is_scheduled(const Handle *handle);
/* As handle_run(), whoever calls it; `state` is that thread's. */
int handle_call(Loop *loop, Handle *handle, PyThreadState *state);
/*
 * Waits for the end of its callback, where another thread runs it and asyncio waits.  0,
 * or -1 with the exception of a signal's handler.  The caller holds a reference.
 */
int handle_wait(Handle *handle);
int handle_traverse(Handle *self, visitproc visit, void *arg);
int handle_clear(Handle *self);
void handle_dealloc(Handle *self);

/* ---- handle_type.c ---- */

int handle_init_types(PyObject *module);

/* ---- ready.c: the queue of handles to run ------------------------------ */

struct ready_queue {
	Handle **items;       /* owned array of owned references; a power of two */
	size_t mask;          /* capacity - 1, when items is not NULL */
	size_t head;
	size_t count;
};

int ready_grow(struct ready_queue *queue);

/* Takes the reference, even on failure. */
static inline int ready_push(struct ready_queue *queue, Handle *handle)
{
	if (unlikely(queue->items == NULL || queue->count > queue->mask)) {
		if (ready_grow(queue) < 0) {
			Py_DECREF(handle);
			return -1;
		}
	}
	queue->items[(queue->head + queue->count++) & queue->mask] = handle;
	return 0;
}

/* Gives the reference. */
static inline Handle *ready_pop(struct ready_queue *queue)
{
	Handle *handle;

	assert(queue->count > 0);
	handle = queue->items[queue->head];
	queue->head = (queue->head + 1) & queue->mask;
	queue->count--;
	return handle;
}

void ready_clear(struct ready_queue *queue);
void ready_release(struct ready_queue *queue);

/* ---- timers.c: the heap of TimerHandles -------------------------------- */

struct timer_heap {
	Timer **items;        /* owned array of owned references */
	size_t count;
	size_t capacity;
};

/* Takes the reference, even on failure. */
int timers_push(struct timer_heap *heap, Timer *timer);
void timers_remove(struct timer_heap *heap, Timer *timer); /* drops the reference */
Timer *timers_pop(struct timer_heap *heap); /* gives the reference */
void timers_clear(struct timer_heap *heap);
void timers_release(struct timer_heap *heap);

/* ---- operation.c: what completions find --------------------------------- */

/*
 * An operation that was started and has not ended: what a verb's `owner` points to.
 * Until its end the loop holds one reference to `holder`, so that a completion always
 * finds it; the references are visible to the cycle collector through Loop's list.
 *
 * A weak one is held without a reference (a paused transport that nobody refers to is
 * garbage, as in asyncio): its holder's finalizer must strengthen it and end it.
 */
struct operation {
	/* -1 with an exception set: the exception must end the loop. */
	int (*completed)(Loop *loop, struct operation *operation,
	                 const struct ul_completion *completion);
	PyObject *holder;     /* the object that contains it; owned while held */
	struct operation *next;
	struct operation **link; /* NULL when not held */
	ul_token token;
	bool weak;
	bool brings_fd;       /* a result >= 0 is a descriptor that nobody else has */
	bool asked;           /* another thread cancelled it: it is in the loop's `cancels` */
	ul_token unwanted;    /* the operation that it cancelled */
	struct operation *next_asked;
};

/*
 * Ask it to end.  True: it has, and is still held.  False: its terminal completion is
 * still to be dispatched.
 */
bool operation_end(Loop *loop, struct operation *operation);
/*
 * What the send has sent, if it has ended; with `take` it was then dropped, and is told
 * nothing.  Otherwise < 0.
 */
int operation_outcome(Loop *loop, struct operation *operation, bool take);
void operation_hold(Loop *loop, struct operation *operation);
void operation_drop(struct operation *operation);   /* may free the holder */
void operation_weaken(struct operation *operation); /* may free the holder */
void operation_strengthen(struct operation *operation);

/* ---- loop.c: Loop ------------------------------------------------------- */

typedef struct Stream Stream;
struct address_cache;

struct reader_pair {
	Handle *reader;       /* owned or NULL */
	Handle *writer;       /* owned or NULL */
	uint64_t reader_turn; /* the turn in which it was registered */
	uint64_t writer_turn;
	ul_token token;
	bool stale;           /* another thread changed it, and the driver has not been told */
};

/* Few enough that a batch stays in the first cache level. */
#define LOOP_BATCH 64

struct Loop {
	PyObject_HEAD
	const struct ul_table *table; /* borrowed from Python's driver; NULL when detached */
	struct ul_driver *driver;     /* borrowed likewise */
	PyObject *driver_owner;       /* owned until close(): whose close() frees the driver */
	struct ready_queue ready;
	struct timer_heap timers;
	struct operation *held;       /* the operations in flight */
	Stream *dirty;                /* streams with bytes to send this turn; owned references */
	Stream **dirty_tail;
	Stream *pausing;              /* streams paused in this turn; owned references */
	struct address_cache *addresses; /* owned or NULL; of datagrams */
	struct reader_pair *readers;  /* owned array, by descriptor */
	int reader_capacity;
	int watched;                  /* descriptors with a reader or a writer */
	struct socket_queues *queues; /* owned array, by descriptor: who waits for a socket */
	int queue_capacity;
	char *received;               /* owned: what sockets are received into */
	bool receiving;               /* without the GIL, into that */
	struct transport **owners;    /* owned array, by descriptor, of borrowed pointers */
	int owner_capacity;
	PyObject *requests;           /* owned dict: token -> (callback, keep) */
	PyObject *current_handle;     /* owned; debug mode: what runs now */
	struct handle_waiter *waiters; /* threads that wait for a callback; on their stacks */
	uint64_t turn;
	uint64_t timer_sequence;
	uint32_t sends;               /* started since the last wait */
	uint32_t eager_send_bytes;    /* the driver's; 0: every write is sent at once */
	double slow_callback_duration;
	double clock_resolution;      /* how much too early a timer may fire: asyncio's */
	uint64_t known_version;       /* of our type, when `overrides` was found out */
	unsigned long thread;         /* of the running loop, when `running` */
	unsigned long thread_shown;   /* _thread_id, which others may set */
	PyThreadState *state;         /* borrowed, of that thread; kept as asking costs */
	bool closed;
	bool forgotten;               /* garbage, unclosed: what it refers to may be cleared */
	bool running;
	bool stopping;
	uint8_t overrides;            /* methods of which somebody has another: overrides.c */
	bool debug;
	bool unharvested;             /* the last turn's completions are not all dispatched */
	bool asleep;                  /* in the driver, without the GIL: who runs is another */
	bool asked;                   /* other threads have left something to do: threads.c */
	struct operation *cancels; /* what they cancelled; owned references to the holders */
	struct ready_queue errands;   /* what they want to have called */
	int *orphans;                 /* owned; descriptors that they gave up */
	int orphan_count;
	unsigned forks;               /* core_forks when the batch was harvested */
	int batch_next;
	int batch_count;
	struct ul_completion batch[LOOP_BATCH];
	char *spill;                  /* owned; room for what a guess of a receive's size missed */
};

extern PyTypeObject *LoopType;
int loop_init_types(PyObject *module);

/* ---- dispatch.c: from the driver to those who wait ------------------------ */

/* Dispatch what the last turn found.  -1 leaves the rest for the next call. */
int loop_dispatch_all(Loop *loop);
/* ---- threads.c: what other threads ask of a loop that runs ----------------- */

extern PyMethodDef thread_methods[];
/* Close a descriptor that no operation names. */
void loop_close_fd(Loop *loop, int fd);
/*
 * Ask it to end.  True: it has, and was dropped.  False: its terminal completion is still
 * to be dispatched.
 */
bool operation_cancel(Loop *loop, struct operation *operation);
/* For the loop's thread: object.name(argument), or object.name() for NULL; 0 or -1. */
int loop_leave_call(Loop *loop, PyObject *object, PyObject *name, PyObject *argument);
/* Do what was left.  -1 with an exception that must end the loop; the rest stays. */
int loop_serve_threads(Loop *loop);
int threads_traverse(Loop *loop, visitproc visit, void *arg);
void threads_clear(Loop *loop);
void threads_release(Loop *loop);
/* ---- queues.c: asyncio's names for what is scheduled ---------------------- */

extern PyMethodDef queue_methods[];

/* ---- schedule.c: call_soon() and its family ------------------------------- */

extern PyMethodDef schedule_methods[];
/* Queue callback(*args) in the current context; 0 or -1. */
int loop_call_soon(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs);
/* The same, of which no call_soon() of somebody else's hears: asyncio does not call it. */
int loop_queue_soon(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs);
/* As loop_call_soon() in `context`, which is borrowed; NULL: a copy of the current one. */
int loop_call_soon_in(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context);

/* ---- operations.c: one-shot operations that Python started ---------------- */

extern PyMethodDef request_methods[];
int request_completed(Loop *loop, const struct ul_completion *completion);

/* ---- fd_arrays.c: arrays indexed by descriptor ----------------------------- */

/*
 * Room for `fd` in an array of `*capacity` items of `size` bytes, in which it has
 * none; what is new is zero.  Gives the array, which may have moved and stays the
 * caller's; NULL with an exception, and the array as it was.
 */
void *fd_array_grow(void *items, int *capacity, size_t size, int fd);

/* ---- readers.c: add_reader and add_writer ------------------------------ */

extern PyMethodDef reader_methods[];
int readers_ready(Loop *loop, const struct ul_completion *completion);
int readers_traverse(Loop *loop, visitproc visit, void *arg);
void readers_clear(Loop *loop);

/* ---- polls.c: polls of the loop's own descriptors ------------------------ */

int polls_init_types(PyObject *module);

/* ---- owners.c -------------------------------------------------------------- */

extern PyMethodDef owner_methods[];
/* The open transport that owns the descriptor (`fd` >= 0), borrowed, or NULL. */
PyObject *descriptor_owner(const Loop *loop, int fd);
/*
 * Somebody uses the descriptor itself: what a transport that owns it has queued is
 * offered to the kernel before.  0: there is none.  1: there was, and it may have run
 * anything.  -1: with an exception that must end the loop.
 */
int descriptor_catch_up(Loop *loop, int fd);

/* ---- sockets.c: waiting for plain sockets -------------------------------- */

/* What is read and passed on at once is read into this much memory of the loop's. */
#define LOOP_RECEIVED_BYTES (256 * 1024)
char *loop_received(Loop *loop);              /* borrowed; NULL with an exception */

extern PyMethodDef socket_methods[];
int sockets_init_types(PyObject *module);
void sockets_release(Loop *loop);

/* ---- files.c: what a file answers without waiting ------------------------- */

extern PyMethodDef file_functions[];  /* of the module */

/* ---- listener.c ---------------------------------------------------------- */

/* What the connections of a listening socket have in common. */
struct accepted {
	int family;            /* AF_UNSPEC: unknown */
	enum ul_stream stream_kind;
	bool no_delay;         /* they inherit TCP_NODELAY */
	PyObject *sockname;    /* owned; struct sockaddr as bytes, or NULL: each has its own */
	PyObject *context;     /* borrowed; that in which one is being opened, or NULL */
};

int listener_init_types(PyObject *module);

/* ---- forks.c -------------------------------------------------------------- */

extern unsigned core_forks;                   /* forks that this process is the child of */
int forks_init(void);
/* In the child: drop from the batch what its parent has got. */
void loop_leave_to_parent(Loop *loop);

/* ---- clients.c ------------------------------------------------------------ */

int clients_init_types(PyObject *module);

/* ---- transport_type.c ------------------------------------------------------- */

int transport_init_types(PyObject *module);  /* before those of the kinds */

/* ---- stream.c ------------------------------------------------------------ */

int stream_init_types(PyObject *module);
/*
 * A transport for an accepted descriptor, of the listener that knows `accepted`; it
 * is the caller's still when this fails.  `server`: a ClientList.
 */
PyObject *stream_accept(Loop *loop, int fd, PyObject *protocol, PyObject *server,
                        const struct accepted *accepted);
/* Send what streams have queued in this turn; -1: an exception must end the loop. */
int streams_flush(Loop *loop);
/* As streams_flush(), with plain system calls: no turn follows that would send. */
int streams_flush_now(Loop *loop);
int streams_traverse(Loop *loop, visitproc visit, void *arg);
/* Those that were paused in this turn, and are still, receive nothing in the next. */
void streams_hold(Loop *loop);
/* Drop the lists of streams that have something to send, or were paused. */
void streams_forget(Loop *loop);

/* ---- datagram*.c, addresses.c --------------------------------------------- */

int datagram_init_types(PyObject *module);
/* Free the loop's converted addresses. */
void addresses_release(Loop *loop);

#endif
