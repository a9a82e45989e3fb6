/* Refusals: of a closed loop, of another thread. */
#include "checks.h"

int loop_check_closed(Loop *self)
{
	if (likely(!self->closed))
		return 0;
	PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
	return -1;
}

int loop_check_thread(const Loop *self)
{
	if (likely(!loop_is_elsewhere(self)))
		return 0;
	PyErr_SetString(PyExc_RuntimeError,
	                "the loop runs in another thread, where this has to be called: use "
	                "asyncio.run_coroutine_threadsafe() or loop.call_soon_threadsafe()");
	return -1;
}

int loop_check_debug_thread(const Loop *self)
{
	if (likely(!self->debug || !loop_is_elsewhere(self)))
		return 0;
	PyErr_SetString(PyExc_RuntimeError,
	                "Non-thread-safe operation invoked on an event loop other than the "
	                "current one");
	return -1;
}

static PyObject *loop_check_closed_method(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (loop_check_closed(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_runs_elsewhere_doc,
"_runs_elsewhere($self, /)\n--\n\nWhether another thread runs the loop, and so has its driver.");

static PyObject *loop_runs_elsewhere(Loop *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(loop_is_elsewhere(self));
}

PyDoc_STRVAR(loop_check_debug_thread_doc,
"_check_debug_thread($self, /)\n--\n\n"
"RuntimeError, in debug mode, when another thread runs the loop: as call_soon() does.");

static PyObject *loop_check_debug_thread_method(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (loop_check_debug_thread(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyMethodDef check_methods[] = {
	{"_check_closed", (PyCFunction)loop_check_closed_method, METH_NOARGS, NULL},
	{"_runs_elsewhere", (PyCFunction)loop_runs_elsewhere, METH_NOARGS,
	 loop_runs_elsewhere_doc},
	{"_check_debug_thread", (PyCFunction)loop_check_debug_thread_method, METH_NOARGS,
	 loop_check_debug_thread_doc},
	{NULL, NULL, 0, NULL},
};
