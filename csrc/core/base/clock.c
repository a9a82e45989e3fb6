/* The loop's clock, and what debug mode reports by it. */
#include "clock.h"

double clock_overridden(Loop *self)
{
	PyObject *now = PyObject_CallMethodNoArgs((PyObject *)self, names.time);
	double seconds;

	if (now == NULL)
		return -1.0;
	seconds = PyFloat_AsDouble(now);
	Py_DECREF(now);
	return seconds;
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

int loop_note_long(Loop *self, PyObject *callback, int64_t start)
{
	unsigned long long ns = (unsigned long long)(clock_ns() - start);
	PyObject *args[3] = {(PyObject *)self, callback, NULL};
	int status = 0;

	if (likely(ns < self->long_callback_ns))
		return 0;
	args[2] = PyLong_FromUnsignedLongLong(ns);
	if (args[2] == NULL || call_and_drop(helpers.callback_long, args, 3) < 0) {
		/* After a long callback of C this is the first that hears of a Ctrl-C. */
		status = exception_ends_loop() ? -1 : 0;
		if (status == 0)
			PyErr_WriteUnraisable(callback);
	}
	Py_XDECREF(args[2]);
	return status;
}

PyDoc_STRVAR(loop_time_doc,
"time($self, /)\n--\n\n"
"The loop's clock in seconds, a float from CLOCK_MONOTONIC.\n\n"
"Source: asyncio, Scheduling delayed callbacks.");

static PyObject *loop_time_method(Loop *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	return PyFloat_FromDouble(clock_now());
}

PyMethodDef clock_methods[] = {
	{"time", (PyCFunction)loop_time_method, METH_NOARGS, loop_time_doc},
	{NULL, NULL, 0, NULL},
};
