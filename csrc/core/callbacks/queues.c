/*
 * asyncio's _ready and _scheduled: what is scheduled, as lists.
 *
 * Programs count them, look for a handle in them and empty them.  A list is made
 * when somebody asks; uring_loop/_internal/queues.py makes live sequences of it.  What is
 * put back replaces what was there.
 */
#include "queues.h"
#include "handle.h"
#include "ready.h"
#include "timers.h"
#include "../loop.h"

/* An asyncio.Handle that is not ours is called by a handle of ours, and shown as itself. */
static bool handle_is_wrapper(const Handle *handle)
{
	return handle->callback != NULL && handle->callback == helpers.run_foreign;
}

static PyObject *loop_get_ready(Loop *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	size_t i;

	/* To make the list may have run the collector, and with it anything. */
	for (i = 0; list != NULL && i < self->ready.count; i++) {
		Handle *handle = self->ready.items[(self->ready.head + i) & self->ready.mask];
		PyObject *item = handle_is_wrapper(handle) ? handle->args[0] : (PyObject *)handle;

		if (PyList_Append(list, item) < 0)
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *loop_get_timers(Loop *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	size_t i;

	for (i = 0; list != NULL && i < self->timers.count; i++) {
		if (PyList_Append(list, (PyObject *)self->timers.items[i]) < 0)
			Py_CLEAR(list);
	}
	return list;
}

static bool is_handle_of(const Loop *self, PyObject *object)
{
	return (Py_IS_TYPE(object, HandleType) || Py_IS_TYPE(object, TimerHandleType)) &&
	       ((Handle *)object)->loop == self;
}

/* A handle of ours for `object`: a new reference, or NULL with an exception. */
static Handle *handle_for(Loop *self, PyObject *object)
{
	int known;

	if (is_handle_of(self, object))
		return (Handle *)Py_NewRef(object);
	known = PyObject_IsInstance(object, helpers.handle_class);
	if (known > 0 && !Py_IS_TYPE(object, HandleType) && !Py_IS_TYPE(object, TimerHandleType))
		return handle_new(self, helpers.run_foreign, &object, 1, NULL);
	if (known >= 0)
		PyErr_Format(PyExc_TypeError, "a handle of this loop was expected, got %R", object);
	return NULL;
}

/* `list` with handles of ours in the place of others: new, or NULL with an exception. */
static PyObject *handles_for(Loop *self, PyObject *list)
{
	Py_ssize_t count = PyList_GET_SIZE(list), i;
	PyObject *handles = PyTuple_New(count);

	for (i = 0; handles != NULL && i < count && i < PyList_GET_SIZE(list); i++) {
		PyObject *object = Py_NewRef(PyList_GET_ITEM(list, i));
		Handle *handle = handle_for(self, object);

		Py_DECREF(object);
		if (handle == NULL)
			Py_CLEAR(handles);
		else
			PyTuple_SET_ITEM(handles, i, (PyObject *)handle);
	}
	if (handles != NULL && i < count) {
		Py_CLEAR(handles);
		PyErr_SetString(PyExc_RuntimeError, "the list changed while it was read");
	}
	return handles;
}

static PyObject *loop_set_ready(Loop *self, PyObject *list)
{
	PyObject *handles, *before;
	Py_ssize_t i;
	int status = 0;

	if (!PyList_Check(list)) {
		PyErr_SetString(PyExc_TypeError, "a list of handles was expected");
		return NULL;
	}
	handles = handles_for(self, list);
	before = handles == NULL ? NULL : loop_get_ready(self, NULL);
	if (before == NULL) {
		Py_XDECREF(handles);
		return NULL;
	}
	/* `before` holds all that goes, but for wrappers, whose handles it holds: nothing runs. */
	ready_clear(&self->ready);
	for (i = 0; status == 0 && i < PyTuple_GET_SIZE(handles); i++)
		status = ready_push(&self->ready,
		                    (Handle *)Py_NewRef(PyTuple_GET_ITEM(handles, i)));
	Py_DECREF(handles);
	Py_DECREF(before);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *loop_set_timers(Loop *self, PyObject *list)
{
	PyObject *timers, *before;
	Py_ssize_t i;
	int status = 0;

	if (!PyList_Check(list)) {
		PyErr_SetString(PyExc_TypeError, "a list of timers was expected");
		return NULL;
	}
	timers = PyList_AsTuple(list);
	if (timers == NULL)
		return NULL;
	for (i = 0; i < PyTuple_GET_SIZE(timers); i++) {
		PyObject *timer = PyTuple_GET_ITEM(timers, i);

		if (!is_handle_of(self, timer) || !Py_IS_TYPE(timer, TimerHandleType)) {
			PyErr_Format(PyExc_TypeError,
			             "a timer of this loop's call_at() was expected, not %R",
			             timer);
			Py_DECREF(timers);
			return NULL;
		}
	}
	before = loop_get_timers(self, NULL);
	if (before == NULL) {
		Py_DECREF(timers);
		return NULL;
	}
	timers_clear(&self->timers);
	for (i = 0; status == 0 && i < PyTuple_GET_SIZE(timers); i++) {
		Timer *timer = (Timer *)PyTuple_GET_ITEM(timers, i);

		/* A cancelled one leaves the heap at once, wherever it comes from. */
		if (!timer->handle.cancelled && timer->heap_index == TIMER_NOT_SCHEDULED)
			status = timers_push(&self->timers, (Timer *)Py_NewRef((PyObject *)timer));
	}
	Py_DECREF(timers);
	Py_DECREF(before);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *loop_append_ready(Loop *self, PyObject *object)
{
	Handle *handle = handle_for(self, object);

	if (handle == NULL || ready_push(&self->ready, handle) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyMethodDef queue_methods[] = {
	{"_append_ready", (PyCFunction)loop_append_ready, METH_O, NULL},
	{"_get_ready", (PyCFunction)loop_get_ready, METH_NOARGS, NULL},
	{"_set_ready", (PyCFunction)loop_set_ready, METH_O, NULL},
	{"_get_timers", (PyCFunction)loop_get_timers, METH_NOARGS, NULL},
	{"_set_timers", (PyCFunction)loop_set_timers, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};
