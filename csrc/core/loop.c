/*
 * Loop: scheduling, the turn, and the dispatch of completions.
 *
 * The base type of uring_loop.loop.EventLoop.  One turn of the loop runs, in
 * asyncio's order: what was ready before the wait, then the completions, then
 * the timers that are due.  What these schedule runs in the next turn.
 */
#include "loop.h"
#include "base/checks.h"
#include "base/clock.h"
#include "base/overrides.h"
#include "base/scratch.h"
#include "callbacks/queues.h"
#include "callbacks/schedule.h"
#include "descriptors/readers.h"
#include "descriptors/sockets.h"
#include "dispatch.h"
#include "operations/operation.h"
#include "operations/requests.h"
#include "operations/threads.h"
#include "transports/addresses.h"
#include "transports/owners.h"
#include "transports/streams.h"

#include <structmember.h>

PyTypeObject *LoopType;
/* ("loop",), since import. */
static PyObject *future_kwnames;

/* The longest wait, as asyncio's: a day.  Larger values overflow in kernels. */
#define WAIT_MAX_SECONDS 86400.0
/* Turns in a row that may keep the GIL before another thread must get it. */
#define TURNS_WITH_GIL 128
/* Sends in one call from which on it is worth to let other threads run meanwhile. */
#define SENDS_WITH_GIL 8

/* ---- one turn ------------------------------------------------------------------ */

/* How long the loop may sleep: nanoseconds, UL_FOREVER, or -2 with an exception. */
static int64_t loop_timeout(Loop *self)
{
	double now, wait;

	if (self->ready.count > 0 || self->stopping || self->threads.asked)
		return 0;
	if (self->timers.count == 0)
		return UL_FOREVER;
	now = loop_time(self);
	if (unlikely(now == -1.0 && PyErr_Occurred()))
		return -2;
	/* A time() in Python may have run a signal handler or another thread, which did more. */
	if (unlikely(self->overrides.found & OVERRIDES_TIME) &&
	    (self->ready.count > 0 || self->timers.count == 0 || self->stopping ||
	     self->threads.asked || self->streams.dirty != NULL))
		return 0;
	wait = self->timers.items[0]->when - now;
	if (wait <= 0)
		return 0;
	if (!(wait < WAIT_MAX_SECONDS))
		wait = WAIT_MAX_SECONDS;
	/* Rounded up: to wake early would only mean another turn. */
	return (int64_t)(wait * 1e9) + 1;
}

/* What begin() or turn() answered, as an exception. */
static void driver_failed(int status)
{
	PyObject *exception;

	if (status != -EPERM && status != -EACCES && status != -ENOSYS) {
		exception_set_errno(-status);
		return;
	}
	/* They worked when the loop was made, and nothing else forbids them afterwards. */
	exception = PyObject_CallFunction(
		PyExc_OSError, "is", -status,
		"the kernel refuses the event loop's system calls (io_uring_enter,"
		" io_uring_register or epoll_pwait): a seccomp filter was put on after the loop"
		" was made; make the loop after the filter, to get the driver that this allows,"
		" or allow these calls");
	if (exception != NULL)
		PyErr_SetRaisedException(exception);
}

static int loop_wait(Loop *self, int64_t timeout_ns)
{
	bool keep = timeout_ns != 0 ? self->table->immediate(self->driver)
	                            : self->turn % TURNS_WITH_GIL != 0;
	int status;

	/* Each send that leaves with the call is some microseconds of the kernel's. */
	if (keep && self->sends < SENDS_WITH_GIL) {
		status = self->table->turn(self->driver, timeout_ns);
	} else {
		self->asleep = true;
		Py_BEGIN_ALLOW_THREADS
		status = self->table->turn(self->driver, timeout_ns);
		Py_END_ALLOW_THREADS
		self->asleep = false;
	}
	self->sends = 0;
	self->turn++;
	self->batch.unharvested = true;
	if (unlikely(status < 0)) {
		driver_failed(status);
		return -1;
	}
	return unlikely(self->threads.asked) ? loop_serve_threads(self) : 0;
}

/* Move the timers that are due to the ready queue; their number, or -1. */
static Py_ssize_t loop_expire(Loop *self)
{
	Py_ssize_t expired = 0;
	double now;

	if (self->timers.count == 0)
		return 0;
	now = loop_time(self);
	if (unlikely(now == -1.0 && PyErr_Occurred()))
		return -1;
	now += self->clock_resolution;
	while (self->timers.count > 0 && self->timers.items[0]->when < now) {
		if (ready_push(&self->ready, &timers_pop(&self->timers)->handle) < 0)
			return -1;
		expired++;
	}
	return expired;
}

static int loop_run_ready(Loop *self, Py_ssize_t count)
{
	/* A nested run (a callback that drives the loop itself) may take some of ours. */
	while (count-- > 0 && self->ready.count > 0) {
		Handle *handle = ready_pop(&self->ready);
		int status = handle_run(self, handle);

		handle_retire(handle);
		if (unlikely(status < 0))
			return -1;
	}
	return 0;
}

static int loop_run_once(Loop *self)
{
	Py_ssize_t ready, expired;
	int64_t timeout_ns;

	/* A KeyboardInterrupt may have left completions of the last turn. */
	if (unlikely(self->batch.unharvested) && loop_dispatch_all(self) < 0)
		return -1;
	if (self->streams.dirty != NULL && unlikely(streams_flush(self) < 0))
		return -1;
	if (unlikely(self->streams.pausing != NULL))
		streams_hold(self);
	timeout_ns = loop_timeout(self);
	if (unlikely(timeout_ns < UL_FOREVER))
		return -1;
	if (unlikely(loop_wait(self, timeout_ns) < 0))
		return -1;
	if (unlikely(PyErr_CheckSignals() < 0))
		return -1;
	ready = (Py_ssize_t)self->ready.count;
	expired = loop_expire(self);
	if (unlikely(expired < 0))
		return -1;
	if (loop_run_ready(self, ready) < 0 || loop_dispatch_all(self) < 0)
		return -1;
	return loop_run_ready(self, expired);
}

/*
 * A run ends: what is written is sent, as no turn follows that would, and what
 * other threads have asked for is done.  Keeps a failing status, and its exception.
 */
static int loop_wind_up(Loop *self, int status)
{
	PyObject *exception = PyErr_GetRaisedException();
	int wound;

	do {
		wound = self->threads.asked ? loop_serve_threads(self) : 0;
		if (wound == 0 && self->streams.dirty != NULL)
			wound = streams_flush_now(self);
	} while (wound == 0 && self->threads.asked);
	if (exception == NULL)
		return wound < 0 ? -1 : status;
	if (wound < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
	return status;
}

PyDoc_STRVAR(loop_run_doc,
"_run()\n--\n\n"
"Turn until stop().  Whatever must end the loop (KeyboardInterrupt, SystemExit,\n"
"a broken driver) is raised; the loop can run again afterwards.");

/* What asyncio.get_running_loop() says in this thread: the loop, or None; 0 or -1. */
static int loop_set_running(PyObject *loop)
{
	return call_method_and_drop(helpers.running_loop_module, names._set_running_loop, loop);
}

/* It must succeed, or no loop runs in this thread again.  Keeps the exception that is set. */
static void loop_unset_running(Loop *self)
{
	PyObject *exception = PyErr_GetRaisedException();
	int tries = 8;

	/* Before 3.14 asyncio allocates for that, too. */
	while (loop_set_running(Py_None) < 0 && --tries > 0)
		PyErr_Clear();
	if (tries == 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

static PyObject *loop_run(Loop *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (loop_check_closed(self) < 0 || helpers_check() < 0)
		return NULL;
	if (self->running) {
		PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
		return NULL;
	}
	if (loop_set_running((PyObject *)self) < 0)
		return NULL;
	status = self->table->begin(self->driver);
	if (status < 0) {
		driver_failed(status);
		loop_unset_running(self);
		return NULL;
	}
	self->running = true;
	self->thread = self->thread_shown = PyThread_get_thread_ident();
	self->state = PyThreadState_Get();
	do {
		status = loop_run_once(self);
	} while (likely(status == 0 && !self->stopping));
	if (unlikely(self->streams.dirty != NULL || self->threads.asked))
		status = loop_wind_up(self, status);
	streams_hold(self);
	self->stopping = false;
	self->running = false;
	self->thread = self->thread_shown = 0;
	self->state = NULL;
	self->table->end(self->driver);
	loop_unset_running(self);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- life ------------------------------------------------------------------------ */

PyDoc_STRVAR(loop_attach_doc,
"_attach($self, owner, driver, table, send_at_once=False, /)\n--\n\n"
"Borrow the driver at address `driver` with the verbs at address `table`.\n"
"`send_at_once`: no write waits for the end of its turn.\n\n"
"owner: what frees the driver by its close(), after _close().  A loop that nobody\n"
"closes calls it, when it is freed.\n\n"
"RuntimeError when there is a driver already, or the two modules were not built\n"
"together.");

static PyObject *loop_attach(Loop *self, PyObject *args)
{
	unsigned long long driver, table;
	PyObject *owner;
	int send_at_once = 0;

	if (!PyArg_ParseTuple(args, "OKK|p:_attach", &owner, &driver, &table, &send_at_once))
		return NULL;
	/* Operations may be in flight in that one. */
	if (!self->closed || self->table != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "an open event loop is not made again");
		return NULL;
	}
	self->driver = (struct ul_driver *)(uintptr_t)driver;
	self->table = (const struct ul_table *)(uintptr_t)table;
	if (self->table->size != sizeof(struct ul_table) || self->table->abi != UL_ABI) {
		self->table = NULL;
		self->driver = NULL;
		PyErr_SetString(PyExc_RuntimeError,
		                "uring_loop._core and uring_loop._driver were built from different "
		                "sources; install uring_loop again");
		return NULL;
	}
	self->eager_send_bytes = send_at_once ? 0 : self->table->eager_send_bytes;
	Py_XSETREF(self->driver_owner, Py_NewRef(owner));
	self->closed = false;
	Py_RETURN_NONE;
}

/* End everything; the driver is let go. */
static void loop_end(Loop *self)
{
	PyObject *owner = self->driver_owner;

	self->closed = true;
	ready_clear(&self->ready);
	timers_clear(&self->timers);
	readers_clear(self);
	streams_forget(self);
	self->table->shutdown(self->driver);
	/* With `closed` set no operation calls a protocol: it only lets go of memory. */
	while (loop_dispatch_all(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	assert(self->held == NULL);
	threads_clear(self);
	PyDict_Clear(self->requests);
	ready_clear(&self->ready);
	self->table = NULL;
	self->driver = NULL;
	self->driver_owner = NULL;
	Py_XDECREF(owner);
}

/*
 * Nobody has closed it, and nobody can any more: __del__ of a subclass has taken
 * the place of ours, say.  The kernel must let go of what is in flight all the same.
 */
static void loop_end_forgotten(Loop *self)
{
	PyObject *exception = PyErr_GetRaisedException();
	PyObject *owner = Py_NewRef(self->driver_owner);

	self->forgotten = true;
	loop_end(self);
	if (call_method_and_drop(owner, names.close, NULL) < 0)
		PyErr_WriteUnraisable(owner);
	Py_DECREF(owner);
	PyErr_SetRaisedException(exception);
}

PyDoc_STRVAR(loop_close_doc,
"_close()\n--\n\n"
"Close the core: drop what is scheduled, end every operation, let the driver go.\n\n"
"RuntimeError while running.  A second call does nothing.");

static PyObject *loop_close(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (self->running) {
		PyErr_SetString(PyExc_RuntimeError, "Cannot close a running event loop");
		return NULL;
	}
	if (self->closed)
		Py_RETURN_NONE;
	/* Left behind by a run that an exception ended. */
	self->state = PyThreadState_Get();
	while (unlikely(self->threads.asked) && !self->closed && loop_serve_threads(self) < 0) {
		PyErr_WriteUnraisable((PyObject *)self);
		self->state = PyThreadState_Get();
	}
	self->state = NULL;
	if (self->closed)
		Py_RETURN_NONE;
	/* asyncio has sent this already, inside write(). */
	if (streams_flush_now(self) < 0 && !self->closed)
		PyErr_WriteUnraisable((PyObject *)self);
	/* A failed send is told to whoever listens, who may have closed the loop meanwhile. */
	if (self->closed) {
		PyErr_Clear();
		Py_RETURN_NONE;
	}
	loop_end(self);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_submit_doc,
"_submit()\n--\n\n"
"Hand to the kernel what is queued, without waiting.\n\n"
"For the moment before a descriptor is closed that a cancelled operation names.");

static PyObject *loop_submit(Loop *self, PyObject *Py_UNUSED(ignored))
{
	int status = 0;

	if (self->table == NULL)
		Py_RETURN_NONE;
	if (unlikely(loop_is_elsewhere(self))) {
		/* Its turns do that. */
		loop_wake_if_asleep(self);
		Py_RETURN_NONE;
	}
	if (!self->running)
		status = self->table->begin(self->driver);
	if (status == 0) {
		status = self->table->turn(self->driver, 0);
		self->batch.unharvested = true;
		if (!self->running)
			self->table->end(self->driver);
	}
	if (status < 0) {
		driver_failed(status);
		return NULL;
	}
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_send_queued_doc,
"_send_queued()\n--\n\n"
"Offer to the kernel, at once, what was written in this turn.\n\n"
"For the moment before a fork: asyncio has sent it, so no child may send it again.");

static PyObject *loop_send_queued(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (self->table != NULL && streams_flush_now(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_stop_doc,
"stop()\n--\n\n"
"End run_forever() after the current turn; before a run, after its first turn.\n\n"
"Source: asyncio, Running and stopping the loop.");

static PyObject *loop_stop(Loop *self, PyObject *Py_UNUSED(ignored))
{
	self->stopping = true;
	loop_wake_if_asleep(self);
	Py_RETURN_NONE;
}

static PyObject *loop_is_running(Loop *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->thread_shown != 0);
}

static PyObject *loop_is_closed(Loop *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->closed);
}

static PyObject *loop_get_debug(Loop *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->debug);
}

static PyObject *loop_set_core_debug(Loop *self, PyObject *enabled)
{
	int truth = PyObject_IsTrue(enabled);

	if (truth < 0)
		return NULL;
	self->debug = truth;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_create_future_doc,
"create_future()\n--\n\n"
"A new asyncio.Future of this loop.\n\n"
"Source: asyncio, Creating futures and tasks.");

static PyObject *loop_create_future(Loop *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *args[2] = {NULL, (PyObject *)self};

	if (helpers_check() < 0)
		return NULL;
	return PyObject_Vectorcall(helpers.future_class, args + 1,
	                           0 | PY_VECTORCALL_ARGUMENTS_OFFSET, future_kwnames);
}

static PyObject *loop_get_ready_count(Loop *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(self->ready.count);
}

static PyObject *loop_get_timer_count(Loop *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(self->timers.count);
}

/*
 * Frameworks that fake time assign to loop.time or override it; the timers
 * follow, at the price of a Python call, only on such loops.
 */
static int loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
	((Loop *)self)->overrides.version = VERSION_UNKNOWN;
	return PyObject_GenericSetAttr(self, name, value);
}

static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
	Loop *self = (Loop *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->closed = true; /* until _attach() */
	self->slow_callback_duration = 0.1;
	/* Far below the wait's own precision. */
	self->clock_resolution = 1e-9;
	self->overrides.version = VERSION_UNKNOWN;
	self->streams.dirty_tail = &self->streams.dirty;
	self->requests = PyDict_New();
	if (self->requests == NULL) {
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static int loop_traverse(Loop *self, visitproc visit, void *arg)
{
	struct operation *operation;
	size_t i;

	Py_VISIT(Py_TYPE(self));
	for (i = 0; i < self->ready.count; i++)
		Py_VISIT(self->ready.items[(self->ready.head + i) & self->ready.mask]);
	for (i = 0; i < self->timers.count; i++)
		Py_VISIT(self->timers.items[i]);
	for (operation = self->held; operation != NULL; operation = operation->next) {
		if (!operation->weak)
			Py_VISIT(operation->holder);
	}
	Py_VISIT(self->requests);
	Py_VISIT(self->current_handle);
	if (streams_traverse(self, visit, arg) != 0 || threads_traverse(self, visit, arg) != 0)
		return -1;
	return readers_traverse(self, visit, arg);
}

static int loop_clear(Loop *self)
{
	if (unlikely(self->table != NULL))
		loop_end_forgotten(self);
	ready_clear(&self->ready);
	timers_clear(&self->timers);
	readers_clear(self);
	streams_forget(self);
	threads_clear(self);
	Py_CLEAR(self->current_handle);
	if (self->requests != NULL)
		PyDict_Clear(self->requests);
	return 0;
}

static void loop_dealloc(Loop *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	loop_clear(self);
	ready_release(&self->ready);
	timers_release(&self->timers);
	addresses_release(self);
	PyMem_Free(self->readers.pairs.items);
	PyMem_Free(self->socket_waits.items);
	PyMem_Free(self->owners.items);
	threads_release(self);
	scratch_release(self);
	Py_CLEAR(self->requests);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef loop_methods[] = {
	{"create_future", (PyCFunction)loop_create_future, METH_NOARGS, loop_create_future_doc},
	{"stop", (PyCFunction)loop_stop, METH_NOARGS, loop_stop_doc},
	{"is_running", (PyCFunction)loop_is_running, METH_NOARGS,
	 "is_running()\n--\n\nWhether the loop runs now."},
	{"is_closed", (PyCFunction)loop_is_closed, METH_NOARGS,
	 "is_closed()\n--\n\nWhether close() was called."},
	{"get_debug", (PyCFunction)loop_get_debug, METH_NOARGS,
	 "get_debug()\n--\n\nWhether debug mode is on."},
	{"_set_core_debug", (PyCFunction)loop_set_core_debug, METH_O, NULL},
	{"_attach", (PyCFunction)loop_attach, METH_VARARGS, loop_attach_doc},
	{"_run", (PyCFunction)loop_run, METH_NOARGS, loop_run_doc},
	{"_close", (PyCFunction)loop_close, METH_NOARGS, loop_close_doc},
	{"_submit", (PyCFunction)loop_submit, METH_NOARGS, loop_submit_doc},
	{"_send_queued", (PyCFunction)loop_send_queued, METH_NOARGS, loop_send_queued_doc},
	{NULL, NULL, 0, NULL},
};

/* ---- what asyncio's loops have in attributes, which others read and set ------------- */

static PyObject *loop_get_stopping(Loop *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->stopping);
}

/* The truth of what an attribute is set to, or -1 with an exception. */
static int attribute_truth(PyObject *value, const char *name)
{
	if (value == NULL) {
		PyErr_Format(PyExc_AttributeError, "%s cannot be deleted; set it", name);
		return -1;
	}
	return PyObject_IsTrue(value);
}

static int loop_set_stopping(Loop *self, PyObject *value, void *Py_UNUSED(closure))
{
	int truth = attribute_truth(value, "_stopping");

	if (truth < 0)
		return -1;
	self->stopping = truth;
	return 0;
}

static PyObject *loop_get_debug_attribute(Loop *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->debug);
}

static int loop_set_debug_attribute(Loop *self, PyObject *value, void *Py_UNUSED(closure))
{
	int truth = attribute_truth(value, "_debug");

	if (truth < 0)
		return -1;
	self->debug = truth;
	return 0;
}

static PyObject *loop_get_closed(Loop *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->closed);
}

/* Closed is what has been closed: a flag alone would keep a driver that nobody frees. */
static int loop_set_closed(Loop *self, PyObject *value, void *Py_UNUSED(closure))
{
	int truth = attribute_truth(value, "_closed");

	if (truth < 0)
		return -1;
	if (truth == self->closed)
		return 0;
	if (truth)
		return call_method_and_drop((PyObject *)self, names.close, NULL);
	PyErr_SetString(PyExc_RuntimeError,
	                "a closed event loop cannot be opened again; make another");
	return -1;
}

static PyObject *loop_get_thread_id(Loop *self, void *Py_UNUSED(closure))
{
	if (self->thread_shown == 0)
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLong(self->thread_shown);
}

/* It is what is_running() says; what must not happen while the loop runs is refused still. */
static int loop_set_thread_id(Loop *self, PyObject *value, void *Py_UNUSED(closure))
{
	unsigned long ident = 0;

	if (attribute_truth(value, "_thread_id") < 0)
		return -1;
	if (value != Py_None) {
		ident = PyLong_AsUnsignedLong(value);
		if (ident == (unsigned long)-1 && PyErr_Occurred())
			return -1;
	}
	self->thread_shown = ident;
	return 0;
}

static PyGetSetDef loop_getters[] = {
	{"_stopping", (getter)loop_get_stopping, (setter)loop_set_stopping, NULL, NULL},
	{"_debug", (getter)loop_get_debug_attribute, (setter)loop_set_debug_attribute, NULL, NULL},
	{"_closed", (getter)loop_get_closed, (setter)loop_set_closed, NULL, NULL},
	{"_thread_id", (getter)loop_get_thread_id, (setter)loop_set_thread_id, NULL, NULL},
	{"_ready_count", (getter)loop_get_ready_count, NULL, NULL, NULL},
	{"_timer_count", (getter)loop_get_timer_count, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
	{"slow_callback_duration", T_DOUBLE, offsetof(Loop, slow_callback_duration), 0,
	 "Seconds after which debug mode reports a callback as slow."},
	{"_current_handle", T_OBJECT, offsetof(Loop, current_handle), READONLY, NULL},
	{"_clock_resolution", T_DOUBLE, offsetof(Loop, clock_resolution), 0, NULL},
	{"_thread_ident", T_ULONG, offsetof(Loop, thread), READONLY, NULL},
	{"_turn", T_ULONGLONG, offsetof(Loop, turn), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot loop_slots[] = {
	{Py_tp_doc, "The core of uring_loop.EventLoop: scheduling and dispatch."},
	{Py_tp_new, loop_new},
	{Py_tp_dealloc, loop_dealloc},
	{Py_tp_traverse, loop_traverse},
	{Py_tp_clear, loop_clear},
	{Py_tp_setattro, loop_setattro},
	{Py_tp_methods, NULL}, /* filled by loop_init_types() */
	{Py_tp_getset, loop_getters},
	{Py_tp_members, loop_members},
	{0, NULL},
};

static PyType_Spec loop_spec = {
	.name = "uring_loop._core.Loop",
	.basicsize = sizeof(Loop),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = loop_slots,
};

int loop_init_types(PyObject *module)
{
	/* One type; each file brings its methods. */
	static const PyMethodDef *const parts[] = {loop_methods, schedule_methods,
	                                           request_methods, reader_methods,
	                                           socket_methods, owner_methods,
	                                           thread_methods, queue_methods,
	                                           clock_methods, check_methods};
	static PyMethodDef methods[64];
	size_t count = 0, part, i;

	for (part = 0; part < sizeof(parts) / sizeof(parts[0]); part++) {
		for (i = 0; parts[part][i].ml_name != NULL; i++)
			methods[count++] = parts[part][i];
	}
	assert(count < 64);
	methods[count] = (PyMethodDef){NULL, NULL, 0, NULL};
	overrides_init(methods);
	for (i = 0; loop_slots[i].slot != 0; i++) {
		if (loop_slots[i].slot == Py_tp_methods)
			loop_slots[i].pfunc = methods;
	}
	LoopType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &loop_spec, NULL);
	future_kwnames = PyTuple_Pack(1, names.loop);
	if (LoopType == NULL || future_kwnames == NULL)
		return -1;
	return PyModule_AddType(module, LoopType);
}
