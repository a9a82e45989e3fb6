/*
 * Which of a loop's methods are not the core's own.
 *
 * asyncio's call_later() goes through call_at(), its timers through time(), its
 * transports through call_soon(): what a subclass, a patch of the class or an
 * attribute of the loop puts in their place is used.  Here the core does the
 * same work without a call, as long as nobody has replaced them.
 */
#include "overrides.h"

/* The core's own; they stay what overrides_init() has found. */
static PyCFunction own_time, own_call_soon, own_call_at, own_create_future;

static PyCFunction method_named(const PyMethodDef *methods, PyObject *name)
{
	while (PyUnicode_CompareWithASCIIString(name, methods->ml_name) != 0)
		methods++;
	return methods->ml_meth;
}

void overrides_init(const PyMethodDef *methods)
{
	own_time = method_named(methods, names.time);
	own_call_soon = method_named(methods, names.call_soon);
	own_call_at = method_named(methods, names.call_at);
	own_create_future = method_named(methods, names.create_future);
}

/* Whether loop.name is the method that _core.Loop brought. */
static bool loop_has_own(Loop *self, PyObject *name, PyCFunction function)
{
	PyObject *method = PyObject_GetAttr((PyObject *)self, name);
	bool own = method != NULL && PyCFunction_Check(method) &&
	           PyCFunction_GET_SELF(method) == (PyObject *)self &&
	           PyCFunction_GET_FUNCTION(method) == function;

	/* The caller of the method will be told what is wrong with it. */
	if (method == NULL)
		PyErr_Clear();
	Py_XDECREF(method);
	return own;
}

unsigned loop_find_overrides(Loop *self)
{
	unsigned found = 0, version;

	assert(!PyErr_Occurred());
	if (!loop_has_own(self, names.time, own_time))
		found |= OVERRIDES_TIME;
	if (!loop_has_own(self, names.call_soon, own_call_soon))
		found |= OVERRIDES_CALL_SOON;
	if (!loop_has_own(self, names.call_at, own_call_at))
		found |= OVERRIDES_CALL_AT;
	if (!loop_has_own(self, names.create_future, own_create_future))
		found |= OVERRIDES_CREATE_FUTURE;
	/* The search has given the type one, if there are any left to give. */
	version = Py_TYPE(self)->tp_version_tag;
	self->overrides.version = version != 0 ? version : VERSION_UNKNOWN;
	self->overrides.found = (uint8_t)found;
	return found;
}

PyObject *loop_make_future(PyObject *loop)
{
	if (likely(PyObject_TypeCheck(loop, LoopType)) &&
	    likely(!(loop_overrides((Loop *)loop) & OVERRIDES_CREATE_FUTURE)))
		return own_create_future(loop, NULL);
	return PyObject_CallMethodNoArgs(loop, names.create_future);
}
