/*
 * Handle and TimerHandle: a callback with its arguments and its context, from the
 * scheduled to the freed one.
 *
 * One struct serves both types, which are in handle_type.c.
 */
#include "handle.h"
#include "context.h"
#include "timers.h"
#include "../base/clock.h"
#include "../base/process.h"
#include "../loop.h"

#include <math.h>
#include <string.h>

/*
 * The largest batch that costs no allocation, which would also set off the cycle
 * collector; 2 MiB at most, of a program that had so many scheduled at once.
 */
#define FREE_LIST_MAX 16384

PyTypeObject *HandleType, *TimerHandleType;

static Handle *handle_allocate(PyTypeObject *type, struct free_list *list)
{
	Handle *handle = (Handle *)list->first;

	if (unlikely(handle == NULL))
		return PyObject_GC_New(Handle, type);
	list->first = handle->callback;
	list->count--;
	return (Handle *)PyObject_Init((PyObject *)handle, type);
}

/* Debug mode: where the handle was made, and once it is cancelled what it was. */
static PyObject *handle_debug_new(PyObject *traceback, PyObject *repr)
{
	return PyTuple_Pack(2, traceback, repr == NULL ? Py_None : repr);
}

static int handle_trace(Handle *handle)
{
	PyObject *traceback = PyObject_CallNoArgs(helpers.extract_stack);

	if (traceback == NULL)
		return -1;
	handle->debug = handle_debug_new(traceback, NULL);
	Py_DECREF(traceback);
	return handle->debug == NULL ? -1 : 0;
}

static int handle_pack_args(Handle *handle, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *tuple = PyTuple_New(nargs);
	Py_ssize_t i;

	if (tuple == NULL)
		return -1;
	for (i = 0; i < nargs; i++)
		PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
	handle->args[0] = tuple;
	handle->nargs = 1;
	handle->packed = true;
	return 0;
}

static Handle *handle_make(PyTypeObject *type, struct free_list *list, Loop *loop,
                           PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *context)
{
	Handle *handle;
	Py_ssize_t i;

	context = context == NULL ? context_freeze() : Py_NewRef(context);
	if (unlikely(context == NULL))
		return NULL;
	handle = handle_allocate(type, list);
	if (unlikely(handle == NULL)) {
		Py_DECREF(context);
		return NULL;
	}
	handle->callback = Py_NewRef(callback);
	handle->context = context;
	handle->loop = (Loop *)Py_NewRef((PyObject *)loop);
	handle->debug = NULL;
	handle->weakrefs = NULL;
	handle->nargs = 0;
	handle->packed = false;
	handle->is_timer = false;
	handle->cancelled = false;
	handle->running = false;
	handle->in_repr = false;
	handle->threadsafe = false;
	handle->guarded = false;
	if (likely(nargs <= HANDLE_ARGS)) {
		for (i = 0; i < nargs; i++)
			handle->args[i] = Py_NewRef(args[i]);
		handle->nargs = (uint8_t)nargs;
	} else if (handle_pack_args(handle, args, nargs) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	if (unlikely(loop->debug) && handle_trace(handle) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	PyObject_GC_Track(handle);
	return handle;
}

Handle *handle_new(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *context)
{
	return handle_make(HandleType, &process.handles, loop, callback, args, nargs, context);
}

Handle *threadsafe_handle_new(Loop *loop, PyObject *callback, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *context)
{
	Handle *handle = handle_new(loop, callback, args, nargs, context);

	if (likely(handle != NULL))
		handle->threadsafe = helpers.threadsafe_handle_class != helpers.handle_class;
	return handle;
}

Timer *timer_handle_new(Loop *loop, double when, PyObject *callback, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *context)
{
	Timer *timer = (Timer *)handle_make(TimerHandleType, &process.timers, loop, callback, args,
	                                    nargs, context);

	if (likely(timer != NULL)) {
		timer->handle.is_timer = TIMER_OF_FLOAT;
		/* A NaN has no place in any order: it is due at once, as in asyncio before 3.13. */
		timer->when = unlikely(isnan(when)) ? -INFINITY : when;
		timer->sequence = loop->timers.sequence++;
		timer->heap_index = TIMER_NOT_SCHEDULED;
	}
	return timer;
}

bool handle_is_scheduled(const Handle *handle)
{
	return handle->is_timer && ((const Timer *)handle)->heap_index != TIMER_NOT_SCHEDULED;
}

/* Drop what a cancelled handle no longer needs. */
static void handle_drop_call(Handle *handle)
{
	uint8_t nargs = handle->nargs;

	handle->nargs = 0;
	Py_CLEAR(handle->callback);
	while (nargs-- > 0)
		Py_CLEAR(handle->args[nargs]);
}

/* For the log line about a slow callback that cancelled itself. */
static int handle_keep_repr(Handle *handle)
{
	PyObject *traceback = handle->debug == NULL ? Py_None : PyTuple_GET_ITEM(handle->debug, 0);
	PyObject *debug = NULL, *repr;

	handle->in_repr = true;
	repr = PyObject_Repr((PyObject *)handle);
	handle->in_repr = false;
	if (repr != NULL) {
		debug = handle_debug_new(traceback, repr);
		Py_DECREF(repr);
	}
	if (debug == NULL)
		return -1;
	Py_XSETREF(handle->debug, debug);
	return 0;
}

int handle_cancel(Handle *handle)
{
	PyObject *exception = NULL;

	if (handle->cancelled)
		return 0;
	handle->cancelled = true;
	if (unlikely(handle->loop != NULL && handle->loop->debug)) {
		if (handle_keep_repr(handle) < 0)
			exception = PyErr_GetRaisedException();
	}
	if (!handle->running)
		handle_drop_call(handle);
	if (handle_is_scheduled(handle))
		timers_remove(&handle->loop->timers, (Timer *)handle);
	if (likely(exception == NULL))
		return 0;
	PyErr_SetRaisedException(exception);
	return -1;
}

/* The exception that is set came from the handle's callback. */
static int handle_failed(Loop *loop, Handle *handle)
{
	PyObject *args[3];
	int result;

	if (exception_ends_loop())
		return -1;
	args[0] = (PyObject *)loop;
	args[1] = (PyObject *)handle;
	args[2] = PyErr_GetRaisedException();
	result = call_and_drop(helpers.callback_failed, args, 3);
	Py_DECREF(args[2]);
	return result;
}

static PyObject *handle_call_callback(Handle *handle)
{
	PyObject *room[1 + HANDLE_ARGS];

	if (unlikely(handle->packed))
		return PyObject_Call(handle->callback, handle->args[0], NULL);
	/* The callee may use args[-1] meanwhile. */
	memcpy(&room[1], handle->args, sizeof(handle->args));
	return PyObject_Vectorcall(handle->callback, &room[1],
	                           handle->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static int handle_call_in_context(Loop *loop, Handle *handle, PyThreadState *state)
{
	PyObject *result;

	if (unlikely(context_switch_to(state, handle->context) < 0))
		return handle_failed(loop, handle);
	result = handle_call_callback(handle);
	if (likely(result != NULL)) {
		Py_DECREF(result);
		if (likely(context_switch_back(state, handle->context) == 0))
			return 0;
	} else {
		PyObject *exception = PyErr_GetRaisedException();

		if (context_switch_back(state, handle->context) < 0)
			PyErr_WriteUnraisable((PyObject *)handle);
		PyErr_SetRaisedException(exception);
	}
	return handle_failed(loop, handle);
}

int handle_call(Loop *loop, Handle *handle, PyThreadState *state)
{
	bool within = handle->running; /* Handle._run() by its own callback */
	int status = 0;

	assert(state == PyThreadState_Get());
	/* Before anything else can run: from here on cancel() leaves us what to call. */
	handle->running = true;
	if (unlikely(context_thaw(&handle->context) < 0))
		status = handle_failed(loop, handle);
	/* Asking for the time and making a context may have run what cancels it. */
	else if (likely(!handle->cancelled))
		status = handle_call_in_context(loop, handle, state);
	handle->running = within;
	if (unlikely(handle->cancelled && !within))
		handle_drop_call(handle);
	return status;
}

/* As handle_call(), timed, for loops in debug mode. */
static int handle_call_timed(Loop *loop, Handle *handle)
{
	double start = loop_time(loop);
	int status;

	if (unlikely(start == -1.0 && PyErr_Occurred()))
		return -1;
	Py_XSETREF(loop->current_handle, Py_NewRef((PyObject *)handle));
	status = handle_call(loop, handle, loop->state);
	if (status == 0)
		status = loop_report_slow(loop, (PyObject *)handle, start);
	Py_CLEAR(loop->current_handle);
	return status;
}

/* ---- threads that wait for the end of a callback --------------------------------- */

/*
 * Since 3.14 cancel() and cancelled() of what call_soon_threadsafe() returned
 * wait, in another thread, for the callback that runs: afterwards it runs no
 * more.  A lock in each handle would make all of them larger and the calls
 * dearer; so who waits brings one, on its own stack, in the loop's list.
 */
struct handle_waiter {
	struct handle_waiter *next;
	const Handle *handle;        /* borrowed: the waiting thread holds it */
	PyThread_type_lock lock;     /* owned; taken until the callback has returned */
};

/* A loop runs one callback at a time: all wait for this one. */
static void handle_wake_waiters(Loop *loop, const Handle *handle)
{
	while (loop->waiters != NULL) {
		struct handle_waiter *waiter = loop->waiters;

		assert(waiter->handle == handle);
		loop->waiters = waiter->next;
		waiter->handle = NULL;
		PyThread_release_lock(waiter->lock);
	}
}

static void handle_leave_waiters(Loop *loop, const struct handle_waiter *waiter)
{
	struct handle_waiter **link = &loop->waiters;

	while (*link != waiter)
		link = &(*link)->next;
	*link = waiter->next;
}

int handle_wait_guarded(Handle *handle)
{
	struct handle_waiter waiter = {NULL, handle, NULL};
	Loop *loop = handle->loop;
	int status = 0;

	if (loop->thread == PyThread_get_thread_ident())
		return 0;
	waiter.lock = PyThread_allocate_lock();
	if (waiter.lock == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	PyThread_acquire_lock(waiter.lock, WAIT_LOCK);
	waiter.next = loop->waiters;
	loop->waiters = &waiter;
	Py_INCREF(loop);
	/* The GIL orders this: the loop's thread takes the waiter off the list and lets it go. */
	while (status == 0 && waiter.handle != NULL) {
		Py_BEGIN_ALLOW_THREADS(void) PyThread_acquire_lock_timed(waiter.lock, -1, 1);
		Py_END_ALLOW_THREADS if (waiter.handle != NULL)
			status = PyErr_CheckSignals();
	}
	if (waiter.handle != NULL)
		handle_leave_waiters(loop, &waiter);
	/* The lock is taken, unless a signal came at the very end. */
	(void)PyThread_acquire_lock(waiter.lock, NOWAIT_LOCK);
	PyThread_release_lock(waiter.lock);
	PyThread_free_lock(waiter.lock);
	Py_DECREF(loop);
	return status;
}

void handle_retire(Handle *handle)
{
	PyObject *context = NULL;

	/* Another holder of the handle can ask for the context in which it ran. */
	if (Py_REFCNT(handle) == 1 && handle->context != NULL &&
	    Py_REFCNT(handle->context) == 1) {
		context = handle->context;
		handle->context = NULL;
	}
	/* First: what dies with the context's values may look for the handle. */
	Py_DECREF(handle);
	if (context != NULL)
		context_recycle(context);
}

/* As handle_call(), timed for whoever wants to know. */
__attribute__((noinline)) static int handle_call_observed(Loop *loop, Handle *handle)
{
	int64_t start = clock_ns();
	PyObject *callback = Py_NewRef(handle->callback); /* it may cancel itself */
	int status = loop->debug ? handle_call_timed(loop, handle)
	                         : handle_call(loop, handle, loop->state);

	if (status == 0)
		status = loop_note_long(loop, callback, start);
	Py_DECREF(callback);
	return status;
}

static int handle_run_in_turn(Loop *loop, Handle *handle)
{
	if (unlikely(loop->observed))
		return handle_call_observed(loop, handle);
	return handle_call(loop, handle, loop->state);
}

int handle_run(Loop *loop, Handle *handle)
{
	int status;

	if (unlikely(handle->cancelled))
		return 0;
	if (likely(!handle->threadsafe))
		return handle_run_in_turn(loop, handle);
	handle->guarded = true;
	status = handle_run_in_turn(loop, handle);
	handle->guarded = false;
	if (unlikely(loop->waiters != NULL))
		handle_wake_waiters(loop, handle);
	return status;
}

/* ---- memory ------------------------------------------------------------------------ */

int handle_traverse(Handle *self, visitproc visit, void *arg)
{
	uint8_t i;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->callback);
	Py_VISIT(self->context);
	Py_VISIT(self->loop);
	Py_VISIT(self->debug);
	for (i = 0; i < self->nargs; i++)
		Py_VISIT(self->args[i]);
	return 0;
}

int handle_clear(Handle *self)
{
	handle_drop_call(self);
	Py_CLEAR(self->context);
	Py_CLEAR(self->debug);
	if (!handle_is_scheduled(self))
		Py_CLEAR(self->loop);
	return 0;
}

/* Takes an untracked handle that nobody refers to. */
static void handle_free(Handle *self)
{
	PyTypeObject *type = Py_TYPE(self);
	struct free_list *list = type == HandleType ? &process.handles : &process.timers;
	uint8_t nargs = self->nargs;

	assert(!handle_is_scheduled(self));
	if (unlikely(self->weakrefs != NULL))
		PyObject_ClearWeakRefs((PyObject *)self);
	Py_XDECREF(self->callback);
	while (nargs-- > 0)
		Py_DECREF(self->args[nargs]);
	Py_XDECREF(self->context);
	Py_XDECREF(self->loop);
	Py_XDECREF(self->debug);
	if (likely(list->count < FREE_LIST_MAX)) {
		self->callback = list->first;
		list->first = (PyObject *)self;
		list->count++;
	} else {
		PyObject_GC_Del(self);
	}
	Py_DECREF(type);
}

/*
 * A chain of handles, through whatever else (methods, partials), may be longer than
 * the C stack is deep: from a depth on they wait here, linked by `weakrefs`.  The
 * trashcan of CPython would do the same, with two calls for each handle.
 */
#define FREEING_DEPTH_MAX 50

void handle_dealloc(Handle *self)
{
	PyObject_GC_UnTrack(self);
	if (unlikely(process.freeing_depth >= FREEING_DEPTH_MAX)) {
		if (self->weakrefs != NULL)
			PyObject_ClearWeakRefs((PyObject *)self);
		self->weakrefs = (PyObject *)process.unfreed;
		process.unfreed = self;
		return;
	}
	process.freeing_depth++;
	handle_free(self);
	while (unlikely(process.unfreed != NULL)) {
		self = process.unfreed;
		process.unfreed = (Handle *)self->weakrefs;
		self->weakrefs = NULL;
		handle_free(self);
	}
	process.freeing_depth--;
}
