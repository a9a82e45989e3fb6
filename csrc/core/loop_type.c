/*
 * Loop: the base type of uring_loop._internal.loop.EventLoop, its attributes and its memory.
 * One type, to which each file brings its methods.
 */
#include "base/checks.h"
#include "base/clock.h"
#include "base/overrides.h"
#include "base/scratch.h"
#include "callbacks/queues.h"
#include "callbacks/ready.h"
#include "callbacks/schedule.h"
#include "callbacks/timers.h"
#include "counts.h"
#include "descriptors/readers.h"
#include "descriptors/sockets.h"
#include "loop.h"
#include "operations/operation.h"
#include "operations/requests.h"
#include "operations/threads.h"
#include "transports/addresses.h"
#include "transports/owners.h"
#include "transports/streams.h"

#include <structmember.h>

/* What takes less is nobody's concern: a callback that is told among the longest. */
#define LONG_CALLBACK_NS 1000000

PyTypeObject *LoopType;
/* ("loop",), since import. */
static PyObject *future_kwnames;

/* ---- public methods ------------------------------------------------------------------------ */

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

/* Time each callback for this reason, or no more. */
static void loop_observe(Loop *self, enum loop_observed reason, int truth)
{
	if (truth)
		self->observed |= reason;
	else
		self->observed &= ~reason;
}

static void loop_set_debug(Loop *self, int truth)
{
	self->debug = truth;
	loop_observe(self, OBSERVED_DEBUG, truth);
}

static PyObject *loop_set_core_debug(Loop *self, PyObject *enabled)
{
	int truth = PyObject_IsTrue(enabled);

	if (truth < 0)
		return NULL;
	loop_set_debug(self, truth);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_time_callbacks_doc,
"time_callbacks($self, enabled=True, /)\n--\n\n"
"Time each callback from now on, or no more, for statistics()[\"longest\"].\n\n"
"Costs two readings of the clock for each callback, about 50 ns.");

static PyObject *loop_time_callbacks(Loop *self, PyObject *args)
{
	int truth = 1;

	if (!PyArg_ParseTuple(args, "|p:time_callbacks", &truth))
		return NULL;
	loop_observe(self, OBSERVED_ASKED, truth);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(loop_create_future_doc,
"create_future($self, /)\n--\n\n"
"A new asyncio.Future of this loop.\n\n"
"Source: asyncio, Creating futures and tasks.");

/*
 * Whether it is the loop that asyncio.Future() takes by itself.  Before 3.12 that asks the
 * kernel for the process's number each time.
 */
static bool loop_is_current(Loop *self)
{
	PyObject *running;
	bool current;

	if (PY_VERSION_HEX < 0x030C0000 || !self->running)
		return false;
	running = PyObject_CallNoArgs(helpers.get_running_loop);
	current = running == (PyObject *)self;
	if (unlikely(running == NULL))
		PyErr_Clear();
	Py_XDECREF(running);
	return current;
}

static PyObject *loop_create_future(Loop *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *args[2] = {NULL, (PyObject *)self};

	if (helpers_check() < 0)
		return NULL;
	/* A keyword would cost a dictionary. */
	if (likely(loop_is_current(self)))
		return PyObject_CallNoArgs(helpers.future_class);
	return PyObject_Vectorcall(helpers.future_class, args + 1,
	                           0 | PY_VECTORCALL_ARGUMENTS_OFFSET, future_kwnames);
}

static PyMethodDef attribute_methods[] = {
	{"create_future", (PyCFunction)loop_create_future, METH_NOARGS, loop_create_future_doc},
	{"is_running", (PyCFunction)loop_is_running, METH_NOARGS,
	 "is_running($self, /)\n--\n\nWhether the loop runs now."},
	{"is_closed", (PyCFunction)loop_is_closed, METH_NOARGS,
	 "is_closed($self, /)\n--\n\nWhether close() was called."},
	{"get_debug", (PyCFunction)loop_get_debug, METH_NOARGS,
	 "get_debug($self, /)\n--\n\nWhether debug mode is on."},
	{"time_callbacks", (PyCFunction)loop_time_callbacks, METH_VARARGS,
	 loop_time_callbacks_doc},
	{"_set_core_debug", (PyCFunction)loop_set_core_debug, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};

/* ---- attributes of asyncio's loops, which others read and set ------------------------------ */

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
	loop_set_debug(self, truth);
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

/* The id decides what is_running() says; what a running loop refuses is refused still. */
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

static PyObject *loop_get_ready_count(Loop *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(self->ready.count);
}

static PyObject *loop_get_timer_count(Loop *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(self->timers.count);
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
	{"_long_callback_ns", T_ULONGLONG, offsetof(Loop, long_callback_ns), 0, NULL},
	{"_connections_in", T_ULONGLONG, offsetof(Loop, counts.connections_in), 0, NULL},
	{"_connections_out", T_ULONGLONG, offsetof(Loop, counts.connections_out), 0, NULL},
	{"_turn", T_ULONGLONG, offsetof(Loop, turn), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

/* ---- memory -------------------------------------------------------------------------------- */

static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
	Loop *self = (Loop *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->closed = true; /* until _attach() */
	self->slow_callback_duration = 0.1;
	self->long_callback_ns = LONG_CALLBACK_NS;
	/* Far below the wait's own precision. */
	self->clock_resolution = 1e-9;
	self->overrides.version = VERSION_UNKNOWN;
	self->streams.dirty_tail = &self->streams.dirty;
	return (PyObject *)self;
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
	type->tp_free(self);
	Py_DECREF(type);
}

/* ---- the type ------------------------------------------------------------------------------ */

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
	static const PyMethodDef *const parts[] = {
		loop_methods,
		attribute_methods,
		clock_methods,
		check_methods,
		schedule_methods,
		queue_methods,
		thread_methods,
		request_methods,
		reader_methods,
		socket_methods,
		owner_methods,
		count_methods,
	};
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
