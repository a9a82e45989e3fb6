/*
 * Handle and TimerHandle: a callback with its arguments and its context.
 *
 * One struct serves both types.  They are not subclasses of asyncio's, which
 * would nearly double their size; __class__ answers with asyncio's class, so
 * that isinstance() holds.
 */
#include "../base/clock.h"
#include "../core.h"

#include <math.h>
#include <structmember.h>

/*
 * The largest batch that costs no allocation, which would also set off the cycle
 * collector; 2 MiB at most, of a program that had so many scheduled at once.
 */
#define FREE_LIST_MAX 16384

PyTypeObject *HandleType, *TimerHandleType;

/* Memory of one type's objects, waiting for its next use; linked by `callback`. */
struct free_list {
	PyObject *first;
	int count;
};

static struct free_list free_handles, free_timers;

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
	return handle_make(HandleType, &free_handles, loop, callback, args, nargs, context);
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
	Timer *timer = (Timer *)handle_make(TimerHandleType, &free_timers, loop, callback, args,
	                                    nargs, context);

	if (likely(timer != NULL)) {
		timer->handle.is_timer = TIMER_OF_FLOAT;
		/* A NaN has no place in any order: it is due at once, as in asyncio before 3.13. */
		timer->when = unlikely(isnan(when)) ? -INFINITY : when;
		timer->sequence = loop->timer_sequence++;
		timer->heap_index = TIMER_NOT_SCHEDULED;
	}
	return timer;
}

static bool handle_is_scheduled(const Handle *handle)
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
	/* Whom we call may use args[-1] meanwhile. */
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

/* `state` is the calling thread's. */
static int handle_call(Loop *loop, Handle *handle, PyThreadState *state)
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

static void handle_wake_waiters(Loop *loop, const Handle *handle)
{
	struct handle_waiter **link = &loop->waiters;

	while (*link != NULL) {
		struct handle_waiter *waiter = *link;

		if (waiter->handle != handle) {
			link = &waiter->next;
			continue;
		}
		*link = waiter->next;
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

/* 0, or -1 with the exception of a signal's handler. The caller holds a reference. */
static int handle_wait(Handle *handle)
{
	struct handle_waiter waiter = {NULL, handle, NULL};
	Loop *loop = handle->loop;
	int status = 0;

	if (likely(!handle->guarded || loop->thread == PyThread_get_thread_ident()))
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
		Py_BEGIN_ALLOW_THREADS
		(void)PyThread_acquire_lock_timed(waiter.lock, -1, 1);
		Py_END_ALLOW_THREADS
		if (waiter.handle != NULL)
			status = PyErr_CheckSignals();
	}
	if (waiter.handle != NULL)
		handle_leave_waiters(loop, &waiter);
	/* It is taken, unless a signal came at the very end. */
	(void)PyThread_acquire_lock(waiter.lock, NOWAIT_LOCK);
	PyThread_release_lock(waiter.lock);
	PyThread_free_lock(waiter.lock);
	Py_DECREF(loop);
	return status;
}

void handle_retire(Handle *handle)
{
	PyObject *context = NULL;

	/* Who still has the handle can ask for the context in which it ran. */
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

static int handle_run_in_turn(Loop *loop, Handle *handle)
{
	if (unlikely(loop->debug))
		return handle_call_timed(loop, handle);
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

/* ---- the Python objects -------------------------------------------------- */

static int handle_traverse(Handle *self, visitproc visit, void *arg)
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

static int handle_clear(Handle *self)
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
	struct free_list *list = type == HandleType ? &free_handles : &free_timers;
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
static Handle *unfreed;
static int freeing_depth;

static void handle_dealloc(Handle *self)
{
	PyObject_GC_UnTrack(self);
	if (unlikely(freeing_depth >= FREEING_DEPTH_MAX)) {
		if (self->weakrefs != NULL)
			PyObject_ClearWeakRefs((PyObject *)self);
		self->weakrefs = (PyObject *)unfreed;
		unfreed = self;
		return;
	}
	freeing_depth++;
	handle_free(self);
	while (unlikely(unfreed != NULL)) {
		self = unfreed;
		unfreed = (Handle *)self->weakrefs;
		self->weakrefs = NULL;
		handle_free(self);
	}
	freeing_depth--;
}

static PyObject *handle_repr(Handle *self)
{
	PyObject *repr = self->debug == NULL ? Py_None : PyTuple_GET_ITEM(self->debug, 1);

	if (repr != Py_None)
		return Py_NewRef(repr);
	return PyObject_CallOneArg(helpers.handle_repr, (PyObject *)self);
}

PyDoc_STRVAR(handle_cancel_doc,
"cancel()\n--\n\n"
"Cancel the callback; nothing happens if it was called or cancelled already.\n\n"
"Source: asyncio.Handle.cancel.");

static PyObject *handle_cancel_method(Handle *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	Py_INCREF(self);
	status = handle_wait(self);
	if (likely(status == 0))
		status = handle_cancel(self);
	Py_DECREF(self);
	if (unlikely(status < 0))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *handle_cancelled(Handle *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *result;

	Py_INCREF(self);
	result = handle_wait(self) < 0 ? NULL : PyBool_FromLong(self->cancelled);
	Py_DECREF(self);
	return result;
}

static PyObject *handle_get_context(Handle *self, PyObject *Py_UNUSED(ignored))
{
	if (unlikely(self->context == NULL))
		Py_RETURN_NONE;
	return context_thaw(&self->context) < 0 ? NULL : Py_NewRef(self->context);
}

static PyObject *handle_get_context_attribute(Handle *self, void *Py_UNUSED(closure))
{
	return handle_get_context(self, NULL);
}

static PyObject *handle_run_method(Handle *self, PyObject *Py_UNUSED(ignored))
{
	int status = 0;

	/* Whoever has a handle may call this, in any thread, whether or not the loop runs. */
	Py_INCREF(self);
	/* Without a callback the cycle collector has emptied it, and a __del__ has found it. */
	if (!self->cancelled && self->callback != NULL && self->context != NULL)
		status = handle_call(self->loop, self, PyThreadState_Get());
	Py_DECREF(self);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *timer_handle_get_when(Timer *self, void *Py_UNUSED(closure))
{
	return self->handle.is_timer == TIMER_OF_INT ? PyLong_FromDouble(self->when)
	                                             : PyFloat_FromDouble(self->when);
}

static PyObject *timer_handle_when(Timer *self, PyObject *Py_UNUSED(ignored))
{
	return timer_handle_get_when(self, NULL);
}

static PyObject *handle_get_class(Handle *self, void *Py_UNUSED(closure))
{
	if (self->threadsafe)
		return Py_NewRef(helpers.threadsafe_handle_class);
	return Py_NewRef(self->is_timer ? helpers.timer_handle_class : helpers.handle_class);
}

static bool handle_has_call(const Handle *self)
{
	return self->callback != NULL && (!self->cancelled || self->in_repr);
}

static PyObject *handle_get_callback(Handle *self, void *Py_UNUSED(closure))
{
	return Py_NewRef(handle_has_call(self) ? self->callback : Py_None);
}

static PyObject *handle_get_args(Handle *self, void *Py_UNUSED(closure))
{
	PyObject *args;
	uint8_t i;

	if (!handle_has_call(self))
		Py_RETURN_NONE;
	if (self->packed)
		return Py_NewRef(self->args[0]);
	args = PyTuple_New(self->nargs);
	if (args == NULL)
		return NULL;
	/* The cycle collector may have run, and with it what cancels the handle. */
	if (unlikely(!handle_has_call(self))) {
		Py_DECREF(args);
		Py_RETURN_NONE;
	}
	for (i = 0; i < self->nargs; i++)
		PyTuple_SET_ITEM(args, i, Py_NewRef(self->args[i]));
	return args;
}

static PyObject *handle_get_traceback(Handle *self, void *Py_UNUSED(closure))
{
	return Py_NewRef(self->debug == NULL ? Py_None : PyTuple_GET_ITEM(self->debug, 0));
}

static PyObject *handle_get_scheduled(Handle *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(handle_is_scheduled(self));
}

/* (callback, args), for comparisons. */
static PyObject *handle_get_call(Handle *self)
{
	PyObject *callback = handle_get_callback(self, NULL);
	PyObject *args = handle_get_args(self, NULL);

	if (args == NULL) {
		Py_DECREF(callback);
		return NULL;
	}
	return Py_BuildValue("(NN)", callback, args);
}

static bool is_timer_handle(PyObject *object)
{
	return Py_TYPE(object) == TimerHandleType;
}

static int timer_handles_equal(Timer *left, Timer *right)
{
	PyObject *ours, *theirs;
	int equal;

	if (left == right)
		return 1;
	if (left->when != right->when || left->handle.cancelled != right->handle.cancelled)
		return 0;
	/* Objects of our own: a comparison may cancel either handle. */
	ours = handle_get_call(&left->handle);
	theirs = handle_get_call(&right->handle);
	equal = ours == NULL || theirs == NULL ? -1 : PyObject_RichCompareBool(ours, theirs, Py_EQ);
	Py_XDECREF(ours);
	Py_XDECREF(theirs);
	return equal;
}

static PyObject *timer_handle_compare(PyObject *left, PyObject *right, int operation)
{
	double a, b;
	int equal;

	if (!is_timer_handle(left) || !is_timer_handle(right))
		Py_RETURN_NOTIMPLEMENTED;
	a = ((Timer *)left)->when;
	b = ((Timer *)right)->when;
	if (a < b && (operation == Py_LT || operation == Py_LE))
		Py_RETURN_TRUE;
	if (a > b && (operation == Py_GT || operation == Py_GE))
		Py_RETURN_TRUE;
	if (operation == Py_LT || operation == Py_GT)
		Py_RETURN_FALSE;
	equal = timer_handles_equal((Timer *)left, (Timer *)right);
	if (equal < 0)
		return NULL;
	return PyBool_FromLong(operation == Py_NE ? !equal : equal);
}

static Py_hash_t timer_handle_hash(Timer *self)
{
	PyObject *when = PyFloat_FromDouble(self->when);
	Py_hash_t hash = when == NULL ? -1 : PyObject_Hash(when);

	Py_XDECREF(when);
	return hash;
}

static PyMethodDef handle_methods[] = {
	{"cancel", (PyCFunction)handle_cancel_method, METH_NOARGS, handle_cancel_doc},
	{"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS,
	 "cancelled()\n--\n\nWhether cancel() was called."},
	{"get_context", (PyCFunction)handle_get_context, METH_NOARGS,
	 "get_context()\n--\n\nThe contextvars.Context in which the callback runs."},
	{"_run", (PyCFunction)handle_run_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
	{"cancel", (PyCFunction)handle_cancel_method, METH_NOARGS, handle_cancel_doc},
	{"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS,
	 "cancelled()\n--\n\nWhether cancel() was called."},
	{"get_context", (PyCFunction)handle_get_context, METH_NOARGS,
	 "get_context()\n--\n\nThe contextvars.Context in which the callback runs."},
	{"when", (PyCFunction)timer_handle_when, METH_NOARGS,
	 "when()\n--\n\nThe deadline in seconds, in the time of loop.time()."},
	{"_run", (PyCFunction)handle_run_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

#define HANDLE_GETTERS \
	{"__class__", (getter)handle_get_class, NULL, NULL, NULL}, \
	{"_callback", (getter)handle_get_callback, NULL, NULL, NULL}, \
	{"_args", (getter)handle_get_args, NULL, NULL, NULL}, \
	{"_context", (getter)handle_get_context_attribute, NULL, NULL, NULL}, \
	{"_source_traceback", (getter)handle_get_traceback, NULL, NULL, NULL}

static PyGetSetDef handle_getters[] = {
	HANDLE_GETTERS,
	{NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef timer_handle_getters[] = {
	HANDLE_GETTERS,
	{"_scheduled", (getter)handle_get_scheduled, NULL, NULL, NULL},
	{"_when", (getter)timer_handle_get_when, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(Handle, weakrefs), READONLY, NULL},
	{"_cancelled", T_BOOL, offsetof(Handle, cancelled), READONLY, NULL},
	{"_loop", T_OBJECT, offsetof(Handle, loop), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyMemberDef timer_handle_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(Handle, weakrefs), READONLY, NULL},
	{"_cancelled", T_BOOL, offsetof(Handle, cancelled), READONLY, NULL},
	{"_loop", T_OBJECT, offsetof(Handle, loop), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

#define HANDLE_FLAGS \
	(Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Slot handle_slots[] = {
	{Py_tp_doc, "A scheduled callback.\n\nSource: asyncio.Handle."},
	{Py_tp_dealloc, handle_dealloc},
	{Py_tp_traverse, handle_traverse},
	{Py_tp_clear, handle_clear},
	{Py_tp_repr, handle_repr},
	{Py_tp_methods, handle_methods},
	{Py_tp_getset, handle_getters},
	{Py_tp_members, handle_members},
	{0, NULL},
};

static PyType_Spec handle_spec = {
	.name = "uring_loop._core.Handle",
	.basicsize = sizeof(Handle),
	.flags = HANDLE_FLAGS,
	.slots = handle_slots,
};

static PyType_Slot timer_handle_slots[] = {
	{Py_tp_doc, "A callback scheduled for a time.\n\nSource: asyncio.TimerHandle."},
	{Py_tp_dealloc, handle_dealloc},
	{Py_tp_traverse, handle_traverse},
	{Py_tp_clear, handle_clear},
	{Py_tp_repr, handle_repr},
	{Py_tp_richcompare, timer_handle_compare},
	{Py_tp_hash, timer_handle_hash},
	{Py_tp_methods, timer_handle_methods},
	{Py_tp_getset, timer_handle_getters},
	{Py_tp_members, timer_handle_members},
	{0, NULL},
};

static PyType_Spec timer_handle_spec = {
	.name = "uring_loop._core.TimerHandle",
	.basicsize = sizeof(Timer),
	.flags = HANDLE_FLAGS,
	.slots = timer_handle_slots,
};

int handle_init_types(PyObject *module)
{
	HandleType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec, NULL);
	if (HandleType == NULL)
		return -1;
	TimerHandleType =
		(PyTypeObject *)PyType_FromModuleAndSpec(module, &timer_handle_spec, NULL);
	if (TimerHandleType == NULL)
		return -1;
	if (PyModule_AddType(module, HandleType) < 0)
		return -1;
	return PyModule_AddType(module, TimerHandleType);
}
