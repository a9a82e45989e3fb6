/*
 * The life of a loop: its beginning, its turns, its end.
 *
 * One turn runs, in asyncio's order: what was ready before the wait, then the
 * completions, then the timers that are due.  What these schedule runs in the next turn.
 */
#include "loop.h"
#include "base/checks.h"
#include "base/clock.h"
#include "base/overrides.h"
#include "base/process.h"
#include "descriptors/readers.h"
#include "dispatch.h"
#include "operations/threads.h"
#include "transports/streams.h"

/* The longest wait, as asyncio's: a day.  Larger values overflow in kernels. */
#define WAIT_MAX_SECONDS 86400.0
/*
 * Turns in a row that may keep the GIL before another thread must get it, and do without
 * a look for signals: what callbacks run in Python looks by itself.
 */
#define TURNS_WITH_GIL 128
/* Nanoseconds for which callbacks are timed after a long turn. */
#define OBSERVED_LONG_NS 1000000000
/* Sends in one call from which on it is worth to let other threads run meanwhile. */
#define SENDS_WITH_GIL 8

/* ---- the beginning ------------------------------------------------------------------------- */

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

/* ---- one turn ------------------------------------------------------------------------------ */

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

/* The answer of begin() or turn(), as an exception. */
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

/* A turn was long, a moment or a while ago. */
__attribute__((cold, noinline)) static void loop_observe_after_long_turn(Loop *self)
{
	if (self->times.read_at - self->times.long_at < OBSERVED_LONG_NS) {
		self->observed |= OBSERVED_LONG;
	} else {
		self->observed &= ~OBSERVED_LONG;
		self->times.long_at = 0;
	}
}

/* The turn is one of those after which the clock is read. */
__attribute__((noinline)) static void loop_read_clock(Loop *self)
{
	self->clock_due = self->turn + turn_times_read(&self->times, self->turn);
	if (unlikely(self->times.long_at != 0))
		loop_observe_after_long_turn(self);
}

/* The driver's turn without the GIL. */
__attribute__((noinline)) static int loop_sleep(Loop *self, int64_t timeout_ns, bool may_sleep)
{
	int status;

	if (may_sleep)
		turn_times_sleep(&self->times, self->turn);
	self->asleep = true;
	Py_BEGIN_ALLOW_THREADS
		status = self->table->turn(self->driver, timeout_ns);
	if (may_sleep)
		turn_times_wake(&self->times);
	Py_END_ALLOW_THREADS
		self->asleep = false;
	if (may_sleep) {
		/* After the next turn, should it not sleep: this one is not counted yet. */
		self->clock_due = self->turn + 2;
		if (unlikely(self->times.long_at != 0))
			loop_observe_after_long_turn(self);
	}
	return status;
}

static int loop_wait(Loop *self, int64_t timeout_ns)
{
	bool immediate = timeout_ns == 0 || self->table->immediate(self->driver);
	bool keep = timeout_ns != 0 ? immediate : self->turn % TURNS_WITH_GIL != 0;
	int status;

	/* Each send that leaves with the call is some microseconds of the kernel's. */
	if (keep && self->sends < SENDS_WITH_GIL)
		status = self->table->turn(self->driver, timeout_ns);
	else
		status = loop_sleep(self, timeout_ns, !immediate);
	self->sends = 0;
	self->turn++;
	if (unlikely(self->turn >= self->clock_due))
		loop_read_clock(self);
	self->batch.unharvested = true;
	if (unlikely(status < 0)) {
		driver_failed(status);
		return -1;
	}
	if (unlikely(self->threads.asked) && loop_serve_threads(self) < 0)
		return -1;
	return !keep || self->turn % TURNS_WITH_GIL == 0 ? PyErr_CheckSignals() : 0;
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
	ready = (Py_ssize_t)self->ready.count;
	expired = loop_expire(self);
	if (unlikely(expired < 0))
		return -1;
	if (loop_run_ready(self, ready) < 0 || loop_dispatch_all(self) < 0)
		return -1;
	return loop_run_ready(self, expired);
}

/* ---- a run --------------------------------------------------------------------------------- */

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

/* The answer of asyncio.get_running_loop() in this thread: the loop, or None; 0 or -1. */
static int loop_set_running(PyObject *loop)
{
	return call_method_and_drop(helpers.running_loop_module, names._set_running_loop, loop);
}

/* This must succeed, or no loop runs in this thread again.  Keeps the exception that is set. */
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

/* Other loops may have begun to run since, in other threads. */
static void loop_leave_running(Loop *self)
{
	Loop **link = &process.running;

	while (*link != NULL && *link != self)
		link = &(*link)->next_running;
	if (*link == self)
		*link = self->next_running;
	self->next_running = NULL;
}

PyDoc_STRVAR(loop_run_doc,
"_run($self, /)\n--\n\n"
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
	self->next_running = process.running;
	process.running = self;
	turn_times_begin(&self->times, self->turn);
	self->clock_due = self->turn + 1;
	do {
		status = loop_run_once(self);
	} while (likely(status == 0 && !self->stopping));
	if (unlikely(self->streams.dirty != NULL || self->threads.asked))
		status = loop_wind_up(self, status);
	streams_hold(self);
	turn_times_end(&self->times, self->turn);
	loop_leave_running(self);
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

PyDoc_STRVAR(loop_stop_doc,
"stop($self, /)\n--\n\n"
"End run_forever() after the current turn; before a run, after its first turn.\n\n"
"Source: asyncio, Running and stopping the loop.");

static PyObject *loop_stop(Loop *self, PyObject *Py_UNUSED(ignored))
{
	self->stopping = true;
	loop_wake_if_asleep(self);
	Py_RETURN_NONE;
}

/* ---- beside a run -------------------------------------------------------------------------- */

PyDoc_STRVAR(loop_submit_doc,
"_submit($self, /)\n--\n\n"
"Hand to the kernel what is queued, without waiting.\n\n"
"For the moment before a descriptor is closed that a cancelled operation names.");

static PyObject *loop_submit(Loop *self, PyObject *Py_UNUSED(ignored))
{
	int status = 0;

	if (self->table == NULL)
		Py_RETURN_NONE;
	if (unlikely(loop_is_elsewhere(self))) {
		/* The other thread's turns do that. */
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
"_send_queued($self, /)\n--\n\n"
"Offer to the kernel, at once, what was written in this turn.\n\n"
"For the moment before a fork: asyncio has sent it, so no child may send it again.");

static PyObject *loop_send_queued(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (self->table != NULL && streams_flush_now(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- the end ------------------------------------------------------------------------------- */

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
	ready_clear(&self->ready);
	self->table = NULL;
	self->driver = NULL;
	self->driver_owner = NULL;
	Py_XDECREF(owner);
}

void loop_end_forgotten(Loop *self)
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
"_close($self, /)\n--\n\n"
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

PyMethodDef loop_methods[] = {
	{"stop", (PyCFunction)loop_stop, METH_NOARGS, loop_stop_doc},
	{"_attach", (PyCFunction)loop_attach, METH_VARARGS, loop_attach_doc},
	{"_run", (PyCFunction)loop_run, METH_NOARGS, loop_run_doc},
	{"_close", (PyCFunction)loop_close, METH_NOARGS, loop_close_doc},
	{"_submit", (PyCFunction)loop_submit, METH_NOARGS, loop_submit_doc},
	{"_send_queued", (PyCFunction)loop_send_queued, METH_NOARGS, loop_send_queued_doc},
	{NULL, NULL, 0, NULL},
};
