/*
 * The Python types of Handle and TimerHandle: what asyncio's have, and what others
 * read of them.
 *
 * They are not subclasses of asyncio's, which would nearly double their size;
 * __class__ answers with asyncio's class, so that isinstance() holds.
 */
#include "context.h"
#include "handle.h"
#include "../loop.h"

#include <structmember.h>

/* ---- what asyncio has ---------------------------------------------------------------------- */

PyDoc_STRVAR(handle_cancel_doc,
"cancel($self, /)\n--\n\n"
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

	/* Anybody with a handle may call this, in any thread, whether or not the loop runs. */
	Py_INCREF(self);
	/* Without a callback the cycle collector has emptied it, and a __del__ has found it. */
	if (!self->cancelled && self->callback != NULL && self->context != NULL)
		status = handle_call(self->loop, self, PyThreadState_Get());
	Py_DECREF(self);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- attributes ---------------------------------------------------------------------------- */

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

/* ---- comparisons --------------------------------------------------------------------------- */

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

/* ---- the types ----------------------------------------------------------------------------- */

static PyObject *handle_repr(Handle *self)
{
	PyObject *repr = self->debug == NULL ? Py_None : PyTuple_GET_ITEM(self->debug, 1);

	if (repr != Py_None)
		return Py_NewRef(repr);
	return PyObject_CallOneArg(helpers.handle_repr, (PyObject *)self);
}

static PyMethodDef handle_methods[] = {
	{"cancel", (PyCFunction)handle_cancel_method, METH_NOARGS, handle_cancel_doc},
	{"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS,
	 "cancelled($self, /)\n--\n\nWhether cancel() was called."},
	{"get_context", (PyCFunction)handle_get_context, METH_NOARGS,
	 "get_context($self, /)\n--\n\nThe contextvars.Context in which the callback runs."},
	{"_run", (PyCFunction)handle_run_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMethodDef timer_handle_methods[] = {
	{"cancel", (PyCFunction)handle_cancel_method, METH_NOARGS, handle_cancel_doc},
	{"cancelled", (PyCFunction)handle_cancelled, METH_NOARGS,
	 "cancelled($self, /)\n--\n\nWhether cancel() was called."},
	{"get_context", (PyCFunction)handle_get_context, METH_NOARGS,
	 "get_context($self, /)\n--\n\nThe contextvars.Context in which the callback runs."},
	{"when", (PyCFunction)timer_handle_when, METH_NOARGS,
	 "when($self, /)\n--\n\nThe deadline in seconds, in the time of loop.time()."},
	{"_run", (PyCFunction)handle_run_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

#define HANDLE_GETTERS \
	{"__class__", (getter)handle_get_class, NULL, NULL, NULL}, \
		{"_callback", (getter)handle_get_callback, NULL, NULL, NULL}, \
		{"_args", (getter)handle_get_args, NULL, NULL, NULL}, \
		{"_context", (getter)handle_get_context_attribute, NULL, NULL, NULL}, \
	{ \
		"_source_traceback", (getter)handle_get_traceback, NULL, NULL, NULL \
	}

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
