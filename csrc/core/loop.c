/*
 * Loop: scheduling, the turn, and the dispatch of completions.
 *
 * The base type of uring_loop.loop.EventLoop.  One turn of the loop runs, in
 * asyncio's order: what was ready before the wait, then the completions, then
 * the timers that are due.  What these schedule runs in the next turn.
 */
#include "core.h"

#include <errno.h>
#include <structmember.h>
#include <time.h>
#include <unistd.h>

PyTypeObject *LoopType;

/* The longest wait, as asyncio's: a day.  Larger values overflow in kernels. */
#define WAIT_MAX_SECONDS 86400.0
/* Turns in a row that may keep the GIL before another thread must get it. */
#define TURNS_WITH_GIL 128

/* ---- time ---------------------------------------------------------------- */

static double monotonic_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double overridden_time(Loop *self)
{
	PyObject *now = PyObject_CallMethodNoArgs((PyObject *)self, names.time);
	double seconds;

	if (now == NULL)
		return -1.0;
	seconds = PyFloat_AsDouble(now);
	Py_DECREF(now);
	return seconds;
}

double loop_time(Loop *self)
{
	return unlikely(self->time_overridden) ? overridden_time(self) : monotonic_time();
}

PyDoc_STRVAR(loop_time_doc,
"time()\n--\n\n"
"The loop's clock in seconds, a float from CLOCK_MONOTONIC.\n\n"
"Source: asyncio, Scheduling delayed callbacks.");

static PyObject *loop_time_method(Loop *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	return PyFloat_FromDouble(monotonic_time());
}

int loop_report_slow(Loop *self, PyObject *what, double start)
{
	PyObject *args[3] = {(PyObject *)self, what, NULL};
	double now = loop_time(self);
	int status;

	if (unlikely(now == -1.0 && PyErr_Occurred()))
		return -1;
	if (now - start < self->slow_callback_duration)
		return 0;
	args[2] = PyFloat_FromDouble(now - start);
	if (args[2] == NULL)
		return -1;
	status = call_and_drop(helpers.callback_slow, args, 3);
	Py_DECREF(args[2]);
	return status;
}

/* ---- held sinks ------------------------------------------------------------ */

void sink_hold(Loop *self, struct sink *sink)
{
	assert(sink->link == NULL);
	Py_INCREF(sink->holder);
	sink->weak = false;
	sink->next = self->held;
	if (sink->next != NULL)
		sink->next->link = &sink->next;
	sink->link = &self->held;
	self->held = sink;
}

void sink_drop(struct sink *sink)
{
	assert(sink->link != NULL);
	*sink->link = sink->next;
	if (sink->next != NULL)
		sink->next->link = sink->link;
	sink->link = NULL;
	sink->next = NULL;
	if (!sink->weak)
		Py_DECREF(sink->holder);
}

void sink_weaken(struct sink *sink)
{
	if (sink->link == NULL || sink->weak)
		return;
	sink->weak = true;
	Py_DECREF(sink->holder);
}

void sink_strengthen(struct sink *sink)
{
	if (sink->link == NULL || !sink->weak)
		return;
	sink->weak = false;
	Py_INCREF(sink->holder);
}

bool sink_cancel(Loop *self, struct sink *sink)
{
	int i;

	/* -EINPROGRESS: it follows.  -ENOENT: it was harvested, so it waits in our batch. */
	if (self->table->cancel(self->driver, sink->token) != 0)
		return false;
	for (i = self->batch_count; i-- > self->batch_next;) {
		struct ul_completion *completion = &self->batch[i];

		if (completion->token == sink->token && !(completion->flags & UL_WATCH)) {
			/* The last one that we have is now the terminal one. */
			completion->flags &= ~(uint32_t)UL_MORE;
			return false;
		}
	}
	sink_drop(sink);
	return true;
}

/* ---- descriptors ----------------------------------------------------------- */

void loop_close_fd(Loop *self, int fd)
{
	if (self->table == NULL) {
		close(fd);
	} else if (!self->running || self->thread == PyThread_get_thread_ident()) {
		self->table->close(self->driver, fd);
	} else {
		/* The collector found it in another thread; the driver belongs to the loop's. */
		int *orphans = PyMem_Realloc(self->orphans,
		                             ((size_t)self->orphan_count + 1) * sizeof(int));

		if (orphans == NULL)
			return; /* out of memory: a lost descriptor is the lesser evil */
		self->orphans = orphans;
		self->orphans[self->orphan_count++] = fd;
		self->table->wake(self->driver);
	}
}

static void loop_close_orphans(Loop *self)
{
	while (self->orphan_count > 0)
		self->table->close(self->driver, self->orphans[--self->orphan_count]);
}

/* ---- checks ---------------------------------------------------------------- */

int loop_check_closed(Loop *self)
{
	if (likely(!self->closed))
		return 0;
	PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
	return -1;
}

static PyObject *loop_check_closed_method(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (loop_check_closed(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* Debug mode: asyncio's checks of a callback and of the calling thread. */
static int loop_check_debug(Loop *self, PyObject *callback, const char *method, bool any_thread)
{
	PyObject *args[2];
	int result;

	if (!any_thread && self->running && self->thread != PyThread_get_thread_ident()) {
		PyErr_SetString(PyExc_RuntimeError,
		                "Non-thread-safe operation invoked on an event loop other "
		                "than the current one");
		return -1;
	}
	args[0] = callback;
	args[1] = PyUnicode_FromString(method);
	if (args[1] == NULL)
		return -1;
	result = call_and_drop(helpers.check_callback, args, 2);
	Py_DECREF(args[1]);
	return result;
}

/* ---- scheduling ------------------------------------------------------------ */

/* The arguments of call_*: (leading..., callback, *args, context=None). */
struct call {
	PyObject *callback;
	PyObject *const *args;
	Py_ssize_t nargs;
	PyObject *context;     /* NULL: the current one, copied */
};

static int call_parse(struct call *call, const char *method, const char *leading,
                      PyObject **leading_value, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
	Py_ssize_t wanted = leading == NULL ? 1 : 2, i;

	call->context = NULL;
	call->callback = nargs >= wanted ? args[wanted - 1] : NULL;
	if (leading != NULL)
		*leading_value = nargs > 0 ? args[0] : NULL;
	call->args = args + wanted;
	call->nargs = nargs > wanted ? nargs - wanted : 0;
	if (kwnames != NULL) {
		for (i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
			PyObject *name = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];

			/* Interned, as a rule: tasks call us with context= all the time. */
			if (likely(name == names.context) ||
			    PyUnicode_Compare(name, names.context) == 0) {
				call->context = value == Py_None ? NULL : value;
			} else if (PyUnicode_Compare(name, names.callback) == 0 && !call->callback) {
				call->callback = value;
			} else if (leading && PyUnicode_CompareWithASCIIString(name, leading) == 0 &&
			           *leading_value == NULL) {
				*leading_value = value;
			} else {
				PyErr_Format(PyExc_TypeError,
				             "%s() got an unexpected keyword argument '%U'",
				             method, name);
				return -1;
			}
		}
	}
	if (call->callback == NULL || (leading != NULL && *leading_value == NULL)) {
		PyErr_Format(PyExc_TypeError, "%s() missing a required argument: '%s'", method,
		             leading != NULL && *leading_value == NULL ? leading : "callback");
		return -1;
	}
	if (call->context != NULL && !PyContext_CheckExact(call->context)) {
		PyErr_Format(PyExc_TypeError, "%s() context must be a contextvars.Context, not %.200s",
		             method, Py_TYPE(call->context)->tp_name);
		return -1;
	}
	return 0;
}

static Handle *loop_queue(Loop *self, const struct call *call)
{
	Handle *handle = handle_new(self, call->callback, call->args, call->nargs, call->context);

	if (unlikely(handle == NULL))
		return NULL;
	Py_INCREF(handle);
	if (unlikely(ready_push(&self->ready, handle) < 0)) {
		Py_DECREF(handle);
		return NULL;
	}
	return handle;
}

int loop_call_soon(Loop *self, PyObject *callback, PyObject *const *args, Py_ssize_t nargs)
{
	struct call call = {callback, args, nargs, NULL};
	Handle *handle;

	if (loop_check_closed(self) < 0)
		return -1;
	handle = loop_queue(self, &call);
	if (handle == NULL)
		return -1;
	Py_DECREF(handle);
	return 0;
}

PyDoc_STRVAR(loop_call_soon_doc,
"call_soon($self, /, callback, *args, context=None)\n--\n\n"
"Call callback(*args) in the next turn, in the order of the calls.\n\n"
"context: contextvars.Context to run in; by default a copy of the current one.\n"
"Returns a Handle.  Not thread-safe.  RuntimeError when the loop is closed.\n\n"
"Source: asyncio, Scheduling callbacks.");

static PyObject *loop_call_soon_method(Loop *self, PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *kwnames)
{
	struct call call;

	if (unlikely(call_parse(&call, "call_soon", NULL, NULL, args, nargs, kwnames) < 0))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) && loop_check_debug(self, call.callback, "call_soon", false) < 0)
		return NULL;
	return (PyObject *)loop_queue(self, &call);
}

PyDoc_STRVAR(loop_call_soon_threadsafe_doc,
"call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n"
"As call_soon(), from any thread or signal handler; wakes a sleeping loop.\n\n"
"Source: asyncio, Scheduling callbacks.");

static PyObject *loop_call_soon_threadsafe(Loop *self, PyObject *const *args, Py_ssize_t nargs,
                                           PyObject *kwnames)
{
	struct call call;
	Handle *handle;

	if (unlikely(call_parse(&call, "call_soon_threadsafe", NULL, NULL, args, nargs,
	                        kwnames) < 0))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) &&
	    loop_check_debug(self, call.callback, "call_soon_threadsafe", true) < 0)
		return NULL;
	handle = loop_queue(self, &call);
	/* The loop's own thread is awake, by the fact that it is here. */
	if (likely(handle != NULL) && self->running &&
	    self->thread != PyThread_get_thread_ident())
		self->table->wake(self->driver);
	return (PyObject *)handle;
}

static PyObject *loop_schedule(Loop *self, double when, const struct call *call)
{
	Handle *handle = timer_handle_new(self, when, call->callback, call->args, call->nargs,
	                                  call->context);

	if (unlikely(handle == NULL))
		return NULL;
	Py_INCREF(handle);
	if (unlikely(timers_push(&self->timers, handle) < 0)) {
		Py_DECREF(handle);
		return NULL;
	}
	return (PyObject *)handle;
}

PyDoc_STRVAR(loop_call_later_doc,
"call_later($self, /, delay, callback, *args, context=None)\n--\n\n"
"Call callback(*args) after `delay` seconds.  Returns a TimerHandle.\n\n"
"Source: asyncio, Scheduling delayed callbacks.");

static PyObject *loop_call_later(Loop *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
	struct call call;
	PyObject *delay;
	double now, seconds;

	if (unlikely(call_parse(&call, "call_later", "delay", &delay, args, nargs, kwnames) < 0))
		return NULL;
	if (unlikely(delay == Py_None)) {
		PyErr_SetString(PyExc_TypeError, "delay must not be None");
		return NULL;
	}
	seconds = PyFloat_AsDouble(delay);
	if (unlikely(seconds == -1.0 && PyErr_Occurred()))
		return NULL;
	now = loop_time(self);
	if (unlikely(now == -1.0 && PyErr_Occurred()))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) && loop_check_debug(self, call.callback, "call_at", false) < 0)
		return NULL;
	return loop_schedule(self, now + seconds, &call);
}

PyDoc_STRVAR(loop_call_at_doc,
"call_at($self, /, when, callback, *args, context=None)\n--\n\n"
"Call callback(*args) when loop.time() reaches `when`.  Returns a TimerHandle.\n\n"
"Source: asyncio, Scheduling delayed callbacks.");

static PyObject *loop_call_at(Loop *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames)
{
	struct call call;
	PyObject *when;
	double seconds;

	if (unlikely(call_parse(&call, "call_at", "when", &when, args, nargs, kwnames) < 0))
		return NULL;
	if (unlikely(when == Py_None)) {
		PyErr_SetString(PyExc_TypeError, "when cannot be None");
		return NULL;
	}
	seconds = PyFloat_AsDouble(when);
	if (unlikely(seconds == -1.0 && PyErr_Occurred()))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) && loop_check_debug(self, call.callback, "call_at", false) < 0)
		return NULL;
	return loop_schedule(self, seconds, &call);
}

/* ---- one-shot operations that Python started ---------------------------------- */

PyDoc_STRVAR(loop_expect_doc,
"_expect($self, token, callback, keep=None, /)\n--\n\n"
"Call callback(result, flags) when the one-shot operation `token` completes.\n\n"
"`keep` is held until then: the memory that the kernel may touch.");

static PyObject *loop_expect(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *entry;
	int status;

	if (nargs != 2 && nargs != 3) {
		PyErr_SetString(PyExc_TypeError, "_expect() takes token, callback and keep");
		return NULL;
	}
	entry = PyTuple_Pack(2, args[1], nargs == 3 ? args[2] : Py_None);
	if (entry == NULL)
		return NULL;
	status = PyDict_SetItem(self->operations, args[0], entry);
	Py_DECREF(entry);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

static int operation_completed(Loop *self, const struct ul_completion *completion)
{
	PyObject *token = PyLong_FromUnsignedLongLong(completion->token);
	PyObject *entry, *result, *args[2];
	int status = 0;

	if (token == NULL)
		return -1;
	entry = Py_XNewRef(PyDict_GetItemWithError(self->operations, token));
	if (entry == NULL || PyDict_DelItem(self->operations, token) < 0) {
		Py_DECREF(token);
		Py_XDECREF(entry);
		return PyErr_Occurred() ? -1 : 0;
	}
	Py_DECREF(token);
	if (unlikely(completion->flags & UL_KEEP))
		Py_INCREF(entry); /* the kernel may still touch what it keeps */
	args[0] = PyLong_FromLong(completion->result);
	args[1] = PyLong_FromUnsignedLong(completion->flags);
	if (args[0] == NULL || args[1] == NULL) {
		status = -1;
	} else {
		result = PyObject_Vectorcall(PyTuple_GET_ITEM(entry, 0), args, 2, NULL);
		Py_XDECREF(result);
		if (result == NULL) {
			if (exception_ends_loop())
				status = -1;
			else
				PyErr_WriteUnraisable(PyTuple_GET_ITEM(entry, 0));
		}
	}
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	Py_DECREF(entry);
	return status;
}

/* ---- one turn ------------------------------------------------------------------ */

static int loop_dispatch(Loop *self, const struct ul_completion *completion)
{
	if (likely(completion->owner != NULL && !(completion->flags & UL_WATCH))) {
		struct sink *sink = completion->owner;

		return sink->completed(self, sink, completion);
	}
	if (completion->flags & UL_WATCH)
		return watcher_ready(self, completion);
	return operation_completed(self, completion);
}

/* Dispatch what the last turn found.  -1 leaves the rest for the next call. */
static int loop_dispatch_all(Loop *self)
{
	for (;;) {
		while (self->batch_next < self->batch_count) {
			if (unlikely(loop_dispatch(self, &self->batch[self->batch_next++]) < 0))
				return -1;
		}
		self->batch_next = 0;
		self->batch_count = self->table->harvest(self->driver, self->batch, LOOP_BATCH);
		if (self->batch_count <= 0) {
			self->batch_count = 0;
			self->unharvested = false;
			return 0;
		}
	}
}

/* How long the loop may sleep: nanoseconds, UL_FOREVER, or -2 with an exception. */
static int64_t loop_timeout(Loop *self)
{
	double now, wait;

	if (self->ready.count > 0 || self->stopping)
		return 0;
	if (self->timers.count == 0)
		return UL_FOREVER;
	now = loop_time(self);
	if (unlikely(now == -1.0 && PyErr_Occurred()))
		return -2;
	/* A time() in Python may have run a signal handler that scheduled something. */
	if (unlikely(self->time_overridden) && (self->ready.count > 0 || self->timers.count == 0))
		return 0;
	wait = self->timers.items[0]->when - now;
	if (wait <= 0)
		return 0;
	if (!(wait < WAIT_MAX_SECONDS))
		wait = WAIT_MAX_SECONDS;
	/* Rounded up: to wake early would only mean another turn. */
	return (int64_t)(wait * 1e9) + 1;
}

static int loop_wait(Loop *self, int64_t timeout_ns)
{
	int status;

	if (timeout_ns != 0 ? self->table->immediate(self->driver) : self->turn % TURNS_WITH_GIL) {
		status = self->table->turn(self->driver, timeout_ns);
	} else {
		Py_BEGIN_ALLOW_THREADS
		status = self->table->turn(self->driver, timeout_ns);
		Py_END_ALLOW_THREADS
	}
	self->turn++;
	self->unharvested = true;
	if (unlikely(self->orphan_count > 0))
		loop_close_orphans(self);
	if (unlikely(status < 0)) {
		PyObject *exception = exception_from_errno(-status);

		if (exception != NULL)
			PyErr_SetRaisedException(exception);
		return -1;
	}
	return 0;
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
	/* asyncio's clock resolution: 1 ns, far below the wait's own precision. */
	now += 1e-9;
	while (self->timers.count > 0 && self->timers.items[0]->when < now) {
		if (ready_push(&self->ready, timers_pop(&self->timers)) < 0)
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

		Py_DECREF(handle);
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
	if (unlikely(self->unharvested) && loop_dispatch_all(self) < 0)
		return -1;
	if (self->dirty != NULL && unlikely(streams_flush(self) < 0))
		return -1;
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

PyDoc_STRVAR(loop_run_doc,
"_run()\n--\n\n"
"Turn until stop().  Whatever must end the loop (KeyboardInterrupt, SystemExit,\n"
"a broken driver) is raised; the loop can run again afterwards.");

static PyObject *loop_run(Loop *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (loop_check_closed(self) < 0 || helpers_check() < 0)
		return NULL;
	if (self->running) {
		PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
		return NULL;
	}
	status = self->table->begin(self->driver);
	if (status < 0) {
		PyObject *exception = exception_from_errno(-status);

		if (exception != NULL)
			PyErr_SetRaisedException(exception);
		return NULL;
	}
	self->running = true;
	self->thread = PyThread_get_thread_ident();
	do {
		status = loop_run_once(self);
	} while (likely(status == 0 && !self->stopping));
	if (unlikely(self->dirty != NULL)) {
		PyObject *exception = PyErr_GetRaisedException();

		if (streams_flush_now(self) < 0 && exception != NULL)
			PyErr_WriteUnraisable((PyObject *)self);
		else if (exception == NULL && PyErr_Occurred())
			status = -1;
		if (exception != NULL)
			PyErr_SetRaisedException(exception);
	}
	self->stopping = false;
	self->running = false;
	self->thread = 0;
	self->table->end(self->driver);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- life ------------------------------------------------------------------------ */

PyDoc_STRVAR(loop_attach_doc,
"_attach($self, driver, table, /)\n--\n\n"
"Borrow the driver at address `driver` with the verbs at address `table`.\n\n"
"RuntimeError when the two modules were not built together.");

static PyObject *loop_attach(Loop *self, PyObject *args)
{
	unsigned long long driver, table;

	if (!PyArg_ParseTuple(args, "KK:_attach", &driver, &table))
		return NULL;
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
	self->closed = false;
	Py_RETURN_NONE;
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
	/* asyncio has sent this already, inside write(). */
	if (streams_flush_now(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	self->closed = true;
	ready_clear(&self->ready);
	timers_clear(&self->timers);
	watchers_clear(self);
	streams_forget(self);
	self->table->shutdown(self->driver);
	/* With `closed` set no sink calls a protocol: it only lets go of memory. */
	while (loop_dispatch_all(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	assert(self->held == NULL);
	loop_close_orphans(self);
	PyDict_Clear(self->operations);
	ready_clear(&self->ready);
	self->table = NULL;
	self->driver = NULL;
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
	if (!self->running)
		status = self->table->begin(self->driver);
	if (status == 0) {
		status = self->table->turn(self->driver, 0);
		self->unharvested = true;
		if (!self->running)
			self->table->end(self->driver);
	}
	if (status < 0) {
		PyObject *exception = exception_from_errno(-status);

		if (exception != NULL)
			PyErr_SetRaisedException(exception);
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *loop_cancel(Loop *self, PyObject *token)
{
	unsigned long long value = PyLong_AsUnsignedLongLong(token);
	int status;

	if (value == (unsigned long long)-1 && PyErr_Occurred())
		return NULL;
	if (self->table == NULL)
		return PyLong_FromLong(-ENOENT);
	status = self->table->cancel(self->driver, value);
	/* Ended: nothing will come that could take it out of the table. */
	if (status == 0 && PyDict_DelItem(self->operations, token) < 0) {
		if (!PyErr_ExceptionMatches(PyExc_KeyError))
			return NULL;
		PyErr_Clear();
	}
	return PyLong_FromLong(status);
}

PyDoc_STRVAR(loop_stop_doc,
"stop()\n--\n\n"
"End run_forever() after the current turn; before a run, after its first turn.\n\n"
"Source: asyncio, Running and stopping the loop.");

static PyObject *loop_stop(Loop *self, PyObject *Py_UNUSED(ignored))
{
	self->stopping = true;
	Py_RETURN_NONE;
}

static PyObject *loop_is_running(Loop *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->running);
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
	static PyObject *kwnames;
	PyObject *args[2] = {NULL, (PyObject *)self};

	if (unlikely(kwnames == NULL)) {
		if (helpers_check() < 0)
			return NULL;
		kwnames = PyTuple_Pack(1, names.loop);
		if (kwnames == NULL)
			return NULL;
	}
	return PyObject_Vectorcall(helpers.future_class, args + 1,
	                           0 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
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
	int status = PyObject_GenericSetAttr(self, name, value);

	if (status == 0 && PyUnicode_Check(name) && PyUnicode_Compare(name, names.time) == 0)
		((Loop *)self)->time_overridden = true;
	return status;
}

static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
	Loop *self = (Loop *)type->tp_alloc(type, 0);
	PyObject *ours, *theirs;

	if (self == NULL)
		return NULL;
	self->closed = true; /* until _attach() */
	self->slow_callback_duration = 0.1;
	self->dirty_tail = &self->dirty;
	self->operations = PyDict_New();
	ours = PyObject_GetAttr((PyObject *)LoopType, names.time);
	theirs = PyObject_GetAttr((PyObject *)type, names.time);
	self->time_overridden = ours != theirs;
	Py_XDECREF(ours);
	Py_XDECREF(theirs);
	if (self->operations == NULL || ours == NULL || theirs == NULL) {
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static int loop_traverse(Loop *self, visitproc visit, void *arg)
{
	struct sink *sink;
	size_t i;

	Py_VISIT(Py_TYPE(self));
	for (i = 0; i < self->ready.count; i++)
		Py_VISIT(self->ready.items[(self->ready.head + i) & self->ready.mask]);
	for (i = 0; i < self->timers.count; i++)
		Py_VISIT(self->timers.items[i]);
	for (sink = self->held; sink != NULL; sink = sink->next) {
		if (!sink->weak)
			Py_VISIT(sink->holder);
	}
	Py_VISIT(self->operations);
	Py_VISIT(self->current_handle);
	if (streams_traverse(self, visit, arg) != 0)
		return -1;
	return watchers_traverse(self, visit, arg);
}

static int loop_clear(Loop *self)
{
	ready_clear(&self->ready);
	timers_clear(&self->timers);
	watchers_clear(self);
	streams_forget(self);
	Py_CLEAR(self->current_handle);
	if (self->operations != NULL)
		PyDict_Clear(self->operations);
	return 0;
}

static void loop_dealloc(Loop *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	/* EventLoop.__del__ has closed the loop, so nothing is in flight. */
	loop_clear(self);
	ready_release(&self->ready);
	timers_release(&self->timers);
	PyMem_Free(self->watchers);
	PyMem_Free(self->orphans);
	Py_CLEAR(self->operations);
	type->tp_free(self);
	Py_DECREF(type);
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef loop_methods[] = {
	{"call_soon", FASTCALL(loop_call_soon_method), METH_FASTCALL | METH_KEYWORDS,
	 loop_call_soon_doc},
	{"call_soon_threadsafe", FASTCALL(loop_call_soon_threadsafe),
	 METH_FASTCALL | METH_KEYWORDS, loop_call_soon_threadsafe_doc},
	{"call_later", FASTCALL(loop_call_later), METH_FASTCALL | METH_KEYWORDS,
	 loop_call_later_doc},
	{"call_at", FASTCALL(loop_call_at), METH_FASTCALL | METH_KEYWORDS, loop_call_at_doc},
	{"time", (PyCFunction)loop_time_method, METH_NOARGS, loop_time_doc},
	{"create_future", (PyCFunction)loop_create_future, METH_NOARGS, loop_create_future_doc},
	{"stop", (PyCFunction)loop_stop, METH_NOARGS, loop_stop_doc},
	{"is_running", (PyCFunction)loop_is_running, METH_NOARGS,
	 "is_running()\n--\n\nWhether the loop runs now."},
	{"is_closed", (PyCFunction)loop_is_closed, METH_NOARGS,
	 "is_closed()\n--\n\nWhether close() was called."},
	{"get_debug", (PyCFunction)loop_get_debug, METH_NOARGS,
	 "get_debug()\n--\n\nWhether debug mode is on."},
	{"_set_core_debug", (PyCFunction)loop_set_core_debug, METH_O, NULL},
	{"_check_closed", (PyCFunction)loop_check_closed_method, METH_NOARGS, NULL},
	{"_attach", (PyCFunction)loop_attach, METH_VARARGS, loop_attach_doc},
	{"_run", (PyCFunction)loop_run, METH_NOARGS, loop_run_doc},
	{"_close", (PyCFunction)loop_close, METH_NOARGS, loop_close_doc},
	{"_cancel", (PyCFunction)loop_cancel, METH_O, NULL},
	{"_submit", (PyCFunction)loop_submit, METH_NOARGS, loop_submit_doc},
	{"_expect", FASTCALL(loop_expect), METH_FASTCALL, loop_expect_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef loop_getters[] = {
	{"_ready_count", (getter)loop_get_ready_count, NULL, NULL, NULL},
	{"_timer_count", (getter)loop_get_timer_count, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
	{"slow_callback_duration", T_DOUBLE, offsetof(Loop, slow_callback_duration), 0,
	 "Seconds after which debug mode reports a callback as slow."},
	{"_current_handle", T_OBJECT, offsetof(Loop, current_handle), READONLY, NULL},
	{"_stopping", T_BOOL, offsetof(Loop, stopping), READONLY, NULL},
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
	/* One type, two files of methods: the loop's own and the watchers'. */
	static PyMethodDef methods[64];
	size_t count = 0, i;

	for (i = 0; loop_methods[i].ml_name != NULL; i++)
		methods[count++] = loop_methods[i];
	for (i = 0; watcher_methods[i].ml_name != NULL; i++)
		methods[count++] = watcher_methods[i];
	assert(count < 64);
	methods[count] = (PyMethodDef){NULL, NULL, 0, NULL};
	for (i = 0; loop_slots[i].slot != 0; i++) {
		if (loop_slots[i].slot == Py_tp_methods)
			loop_slots[i].pfunc = methods;
	}
	LoopType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &loop_spec, NULL);
	if (LoopType == NULL)
		return -1;
	return PyModule_AddType(module, LoopType);
}
