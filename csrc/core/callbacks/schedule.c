/*
 * call_soon() and its family: from Python's arguments to a queued handle.
 */
#include "schedule.h"
#include "handle.h"
#include "ready.h"
#include "timers.h"
#include "../base/checks.h"
#include "../base/clock.h"
#include "../base/overrides.h"
#include "../loop.h"

#include <math.h>

#define MAX_EXACT_INT 9007199254740992.0 /* 2^53: up to there a double holds each int */

/* Debug mode: asyncio's checks of a callback and of the calling thread. */
static int loop_check_debug(Loop *self, PyObject *callback, const char *method, bool any_thread)
{
	PyObject *args[2];
	int result;

	if (!any_thread && loop_check_debug_thread(self) < 0)
		return -1;
	args[0] = callback;
	args[1] = PyUnicode_FromString(method);
	if (args[1] == NULL)
		return -1;
	result = call_and_drop(helpers.check_callback, args, 2);
	Py_DECREF(args[1]);
	return result;
}

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
			} else if (call->callback == NULL &&
			           PyUnicode_Compare(name, names.callback) == 0) {
				call->callback = value;
			} else if (leading != NULL && *leading_value == NULL &&
			           PyUnicode_CompareWithASCIIString(name, leading) == 0) {
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
		PyErr_Format(PyExc_TypeError,
		             "%s() context must be a contextvars.Context, not %.200s", method,
		             Py_TYPE(call->context)->tp_name);
		return -1;
	}
	return 0;
}

/* Takes the reference; gives it back with the handle queued, or NULL. */
static Handle *loop_queue_handle(Loop *self, Handle *handle)
{
	if (unlikely(handle == NULL))
		return NULL;
	Py_INCREF(handle);
	if (unlikely(ready_push(&self->ready, handle) < 0)) {
		Py_DECREF(handle);
		return NULL;
	}
	loop_wake_if_asleep(self);
	return handle;
}

static Handle *loop_queue(Loop *self, const struct call *call)
{
	return loop_queue_handle(self, handle_new(self, call->callback, call->args, call->nargs,
	                                          call->context));
}

static int loop_queue_call(Loop *self, const struct call *call)
{
	Handle *handle;

	if (loop_check_closed(self) < 0)
		return -1;
	handle = loop_queue(self, call);
	if (handle == NULL)
		return -1;
	Py_DECREF(handle);
	return 0;
}

/* self.name(first, callback, *args, context=context), each where there is one. */
static PyObject *loop_call_method(Loop *self, PyObject *name, PyObject *first,
                                  const struct call *call)
{
	Py_ssize_t leading = first == NULL ? 2 : 3, i;
	PyObject **all = PyMem_New(PyObject *, leading + call->nargs + 1);
	PyObject *kwnames = NULL, *result = NULL;

	if (all == NULL)
		return PyErr_NoMemory();
	all[0] = (PyObject *)self;
	if (first != NULL)
		all[1] = first;
	all[leading - 1] = call->callback;
	for (i = 0; i < call->nargs; i++)
		all[leading + i] = call->args[i];
	if (call->context != NULL) {
		all[leading + call->nargs] = call->context;
		kwnames = PyTuple_Pack(1, names.context);
	}
	if (call->context == NULL || kwnames != NULL)
		result = PyObject_VectorcallMethod(name, all, (size_t)(leading + call->nargs),
		                                   kwnames);
	Py_XDECREF(kwnames);
	PyMem_Free(all);
	return result;
}

int loop_call_soon(Loop *self, PyObject *callback, PyObject *const *args, Py_ssize_t nargs)
{
	return loop_call_soon_in(self, callback, args, nargs, NULL);
}

int loop_queue_soon(Loop *self, PyObject *callback, PyObject *const *args, Py_ssize_t nargs)
{
	struct call call = {callback, args, nargs, NULL};

	return loop_queue_call(self, &call);
}

/* The call_soon() that somebody has put in ours' place. */
__attribute__((cold, noinline))
static int loop_call_soon_overridden(Loop *self, const struct call *call)
{
	PyObject *handle = loop_call_method(self, names.call_soon, NULL, call);

	Py_XDECREF(handle);
	return handle == NULL ? -1 : 0;
}

int loop_call_soon_in(Loop *self, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context)
{
	struct call call = {callback, args, nargs, context};

	if (unlikely(loop_overrides(self) & OVERRIDES_CALL_SOON))
		return loop_call_soon_overridden(self, &call);
	return loop_queue_call(self, &call);
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

	if (unlikely(call_parse(&call, "call_soon_threadsafe", NULL, NULL, args, nargs,
	                        kwnames) < 0))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) &&
	    loop_check_debug(self, call.callback, "call_soon_threadsafe", true) < 0)
		return NULL;
	return (PyObject *)loop_queue_handle(
		self, threadsafe_handle_new(self, call.callback, call.args, call.nargs,
		                            call.context));
}

PyDoc_STRVAR(loop_write_to_self_doc,
"_write_to_self($self, /)\n--\n\n"
"Wake a sleeping loop, from any thread: asyncio's name, which programs call.");

static PyObject *loop_write_to_self(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (self->running && self->thread != PyThread_get_thread_ident())
		self->table->wake(self->driver);
	Py_RETURN_NONE;
}

/* PyFloat_AsDouble(), which makes a float of an int to look at it. */
static double schedule_seconds(PyObject *object)
{
	return PyLong_CheckExact(object) ? PyLong_AsDouble(object) : PyFloat_AsDouble(object);
}

static PyObject *loop_schedule(Loop *self, double when, const struct call *call)
{
	Timer *timer = timer_handle_new(self, when, call->callback, call->args, call->nargs,
	                                call->context);

	if (unlikely(timer == NULL))
		return NULL;
	Py_INCREF(timer);
	if (unlikely(timers_push(&self->timers, timer) < 0)) {
		Py_DECREF(timer);
		return NULL;
	}
	loop_wake_if_asleep(self);
	return (PyObject *)timer;
}

/*
 * The same where Python must be asked: time() or call_at() is somebody else's, or
 * `delay` knows by itself how it is added to a float.  Inlined, it would cost
 * loop_call_later() a twentieth.
 */
__attribute__((cold, noinline))
static PyObject *loop_call_later_by_methods(Loop *self, PyObject *delay,
                                            const struct call *call)
{
	PyObject *now = PyObject_CallMethodNoArgs((PyObject *)self, names.time);
	PyObject *when = now == NULL ? NULL : PyNumber_Add(now, delay), *timer = NULL;

	Py_XDECREF(now);
	if (when != NULL)
		timer = loop_call_method(self, names.call_at, when, call);
	Py_XDECREF(when);
	return timer;
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
	if (unlikely(loop_overrides(self) & (OVERRIDES_TIME | OVERRIDES_CALL_AT)))
		return loop_call_later_by_methods(self, delay, &call);
	if (PyLong_CheckExact(delay))
		seconds = PyLong_AsDouble(delay);
	else if (likely(PyFloat_CheckExact(delay)))
		seconds = PyFloat_AS_DOUBLE(delay);
	else
		return loop_call_later_by_methods(self, delay, &call);
	if (unlikely(seconds == -1.0 && PyErr_Occurred()))
		return NULL;
	now = loop_time(self);
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
	PyObject *when, *timer;
	double seconds;

	if (unlikely(call_parse(&call, "call_at", "when", &when, args, nargs, kwnames) < 0))
		return NULL;
	if (unlikely(when == Py_None)) {
		PyErr_SetString(PyExc_TypeError, "when cannot be None");
		return NULL;
	}
	seconds = schedule_seconds(when);
	if (unlikely(seconds == -1.0 && PyErr_Occurred()))
		return NULL;
	if (unlikely(loop_check_closed(self) < 0))
		return NULL;
	if (unlikely(self->debug) && loop_check_debug(self, call.callback, "call_at", false) < 0)
		return NULL;
	timer = loop_schedule(self, seconds, &call);
	/* As long as the double is that very int. */
	if (timer != NULL && PyLong_CheckExact(when) && fabs(seconds) <= MAX_EXACT_INT)
		((Handle *)timer)->is_timer = TIMER_OF_INT;
	return timer;
}

PyMethodDef schedule_methods[] = {
	{"call_soon", FASTCALL(loop_call_soon_method), METH_FASTCALL | METH_KEYWORDS,
	 loop_call_soon_doc},
	{"call_soon_threadsafe", FASTCALL(loop_call_soon_threadsafe),
	 METH_FASTCALL | METH_KEYWORDS, loop_call_soon_threadsafe_doc},
	{"call_later", FASTCALL(loop_call_later), METH_FASTCALL | METH_KEYWORDS,
	 loop_call_later_doc},
	{"call_at", FASTCALL(loop_call_at), METH_FASTCALL | METH_KEYWORDS, loop_call_at_doc},
	{"_write_to_self", (PyCFunction)loop_write_to_self, METH_NOARGS, loop_write_to_self_doc},
	{NULL, NULL, 0, NULL},
};
