/* Handle and TimerHandle: a callback with its arguments and its context. */
#ifndef UL_HANDLE_H
#define UL_HANDLE_H

#include "../base/py.h"

typedef struct Loop Loop;
typedef struct Handle Handle;
typedef struct Timer Timer; /* a TimerHandle */

/* Most callbacks have at most this many arguments; more are packed into a tuple. */
#define HANDLE_ARGS 3
#define TIMER_NOT_SCHEDULED SIZE_MAX

/* A batch of them is what a busy turn has in the cache: every word counts. */
struct Handle {
	PyObject_HEAD PyObject *callback;   /* owned; NULL once cancelled and not running */
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
enum { TIMER_OF_FLOAT = 1,
       TIMER_OF_INT };

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
int handle_wait_guarded(Handle *handle);

static inline int handle_wait(Handle *handle)
{
	return likely(!handle->guarded) ? 0 : handle_wait_guarded(handle);
}

int handle_traverse(Handle *self, visitproc visit, void *arg);
int handle_clear(Handle *self);
void handle_dealloc(Handle *self);

/* ---- handle_type.c ---- */

int handle_init_types(PyObject *module);

#endif
