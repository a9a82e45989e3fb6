/* The coroutine protocol around the steps of reads.c and writes.c. */
#include "call.h"
#include "reader.h"
#include "steps.h"
#include "../base/process.h"

#include <structmember.h>

static PyTypeObject *StreamCallType;

PyObject *stream_call_new(step_function step, PyObject *function, PyObject *object,
                          PyObject *argument)
{
	StreamCall *self;

	if (likely(process.calls.count > 0))
		self = (StreamCall *)PyObject_Init(
			(PyObject *)process.calls.items[--process.calls.count], StreamCallType);
	else
		self = PyObject_GC_New(StreamCall, StreamCallType);
	if (unlikely(self == NULL))
		return NULL;
	self->step = step;
	self->function = Py_NewRef(function);
	self->object = Py_NewRef(object);
	self->argument = Py_XNewRef(argument);
	self->offset = 0;
	self->awaited = NULL;
	self->weakrefs = NULL;
	self->state = CALL_NEW;
	self->running = false;
	self->finalized = false;
	PyObject_GC_Track(self);
	return (PyObject *)self;
}

/* ---- steps ---------------------------------------------------------------------------- */

/* Over, however; keeps the exception that is set. */
static void call_end(StreamCall *self)
{
	PyObject *object = self->object;

	self->state = CALL_ENDED;
	self->object = NULL;
	Py_XDECREF(object);
}

/* The reader's waiter was awaited. */
static void call_stop_waiting(StreamCall *self)
{
	PyObject *attributes = PyObject_GenericGetDict(self->object, NULL);

	if (attributes != NULL)
		reader_waited(attributes);
	else
		PyErr_Clear();
	Py_XDECREF(attributes);
}

/* The iterator of an awaitable, which it gives up: owned, or NULL with an exception. */
static PyObject *iterator_of(PyObject *awaitable)
{
	PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
	PyObject *iterator = NULL;

	if (likely(methods != NULL && methods->am_await != NULL))
		iterator = methods->am_await(awaitable);
	else
		PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
		             Py_TYPE(awaitable)->tp_name);
	Py_DECREF(awaitable);
	return iterator;
}

/* What asyncio's own function gives: an owned coroutine, or NULL with an exception. */
static PyObject *call_asyncio(StreamCall *self)
{
	PyObject *args[2] = {self->object, self->argument};

	return PyObject_Vectorcall(self->function, args, self->argument == NULL ? 1 : 2, NULL);
}

/* Asyncio's own function takes over: 0 or -1. */
static int call_delegate(StreamCall *self)
{
	PyObject *coroutine = call_asyncio(self);

	if (unlikely(coroutine == NULL))
		return -1;
	/* A coroutine is its own iterator, whose close() and throw() are needed. */
	self->awaited = PyCoro_CheckExact(coroutine) ? coroutine : iterator_of(coroutine);
	self->state = CALL_DELEGATED;
	return self->awaited == NULL ? -1 : 0;
}

/* The wait has raised what is set, some of which readline() catches. */
static PySendResult call_wait_failed(StreamCall *self, PyObject **result)
{
	PyObject *args[3] = {self->function, self->object, NULL};

	*result = NULL;
	if (self->step == step_readline && (PyErr_ExceptionMatches(helpers.incomplete_read) ||
	                                    PyErr_ExceptionMatches(helpers.limit_overrun))) {
		args[2] = PyErr_GetRaisedException();
		*result = PyObject_Vectorcall(helpers.line_failed, args, 3, NULL);
		Py_DECREF(args[2]);
	}
	call_end(self);
	return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* Goes on until it must wait, or ends. */
static PySendResult call_go_on(StreamCall *self, PyObject **result)
{
	PySendResult sent;

	for (;;) {
		enum step step = self->step(self, result);

		if (likely(step == STEP_DONE)) {
			call_end(self);
			return PYGEN_RETURN;
		}
		if (likely(step == STEP_WAIT)) {
			self->state = CALL_WAITING;
			self->awaited = iterator_of(*result);
			sent = PYGEN_ERROR;
			if (likely(self->awaited != NULL))
				sent = PyIter_Send(self->awaited, Py_None, result);
			if (likely(sent == PYGEN_NEXT))
				return sent;
			Py_CLEAR(self->awaited);
			call_stop_waiting(self);
			if (sent == PYGEN_ERROR)
				return call_wait_failed(self, result);
			/* A future of somebody's that was done: there may be data. */
			Py_DECREF(*result);
			continue;
		}
		if (step == STEP_FAILED || call_delegate(self) < 0)
			break;
		sent = PyIter_Send(self->awaited, Py_None, result);
		if (sent == PYGEN_NEXT)
			return sent;
		Py_CLEAR(self->awaited);
		call_end(self);
		return sent;
	}
	call_end(self);
	*result = NULL;
	return PYGEN_ERROR;
}

/* What was awaited has ended as `sent` says; `*result`, if it has returned. */
static PySendResult call_resume(StreamCall *self, PySendResult sent, PyObject **result)
{
	Py_CLEAR(self->awaited);
	if (self->state == CALL_DELEGATED) {
		call_end(self);
		return sent;
	}
	call_stop_waiting(self);
	if (unlikely(sent == PYGEN_ERROR))
		return call_wait_failed(self, result);
	Py_DECREF(*result);
	return call_go_on(self, result);
}

static PySendResult call_send(StreamCall *self, PyObject *value, PyObject **result)
{
	PySendResult sent;

	*result = NULL;
	if (unlikely(self->running)) {
		PyErr_SetString(PyExc_ValueError, "coroutine already executing");
		return PYGEN_ERROR;
	}
	if (unlikely(self->state == CALL_ENDED)) {
		PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
		return PYGEN_ERROR;
	}
	if (self->state == CALL_NEW && unlikely(value != Py_None)) {
		PyErr_SetString(PyExc_TypeError,
		                "can't send non-None value to a just-started coroutine");
		return PYGEN_ERROR;
	}
	/* Whoever runs it may drop it. */
	Py_INCREF(self);
	self->running = true;
	if (self->state == CALL_NEW) {
		sent = call_go_on(self, result);
	} else {
		sent = PyIter_Send(self->awaited, value, result);
		if (sent != PYGEN_NEXT)
			sent = call_resume(self, sent, result);
	}
	self->running = false;
	Py_DECREF(self);
	return sent;
}

/* What an iterator's method gives for it; takes the reference. */
static PyObject *as_iterator(PySendResult sent, PyObject *result)
{
	PyObject *stop;

	if (sent != PYGEN_RETURN)
		return result;
	/* No exception says None; a tuple or an exception would be taken for arguments. */
	if (likely(result != Py_None)) {
		if (likely(!PyTuple_Check(result) && !PyExceptionInstance_Check(result))) {
			PyErr_SetObject(PyExc_StopIteration, result);
		} else {
			stop = PyObject_CallOneArg(PyExc_StopIteration, result);
			if (stop != NULL)
				PyErr_SetRaisedException(stop);
		}
	}
	Py_DECREF(result);
	return NULL;
}

static PyObject *call_iternext(StreamCall *self)
{
	PyObject *result;
	PySendResult sent = call_send(self, Py_None, &result);

	return as_iterator(sent, result);
}

/* ---- methods ---------------------------------------------------------------------------- */

/* Of a method, None has to be said. */
static PyObject *as_method(PySendResult sent, PyObject *result)
{
	PyObject *given = as_iterator(sent, result);

	if (given == NULL && !PyErr_Occurred())
		PyErr_SetNone(PyExc_StopIteration);
	return given;
}

static PyObject *call_send_method(StreamCall *self, PyObject *value)
{
	PyObject *result;
	PySendResult sent = call_send(self, value, &result);

	return as_method(sent, result);
}

/* How the iterator that threw has ended: its result, or an exception. */
static PySendResult taken_stop(PyObject **result)
{
	PyObject *stop;

	*result = NULL;
	if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_StopIteration))
		return PYGEN_ERROR;
	stop = PyErr_GetRaisedException();
	*result = stop == NULL ? Py_NewRef(Py_None) : PyObject_GetAttr(stop, names.value);
	Py_XDECREF(stop);
	return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* Nobody awaits it yet: a coroutine of asyncio's raises it, or refuses what cannot be raised. */
static PyObject *call_throw_at_new(StreamCall *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *passed[4] = {call_asyncio(self)}, *frame, *result;
	PyObject *exception;
	Py_ssize_t i;

	if (passed[0] == NULL)
		return NULL;
	for (i = 0; i < nargs; i++)
		passed[i + 1] = args[i];
	result = PyObject_VectorcallMethod(names.throw, passed, (size_t)nargs + 1, NULL);
	exception = PyErr_GetRaisedException();
	frame = PyObject_GetAttrString(passed[0], "cr_frame");
	if (frame == Py_None)
		call_end(self);
	else if (frame == NULL || call_method_and_drop(passed[0], names.close, NULL) < 0)
		PyErr_Clear();
	Py_XDECREF(frame);
	Py_DECREF(passed[0]);
	PyErr_SetRaisedException(exception);
	return result;
}

/* Whether `exception` can be raised; what it is not is set, which CPython looks at first. */
static bool can_be_raised(PyObject *exception)
{
	if (likely(PyExceptionInstance_Check(exception) || PyExceptionClass_Check(exception)))
		return true;
	PyErr_Format(PyExc_TypeError,
	             "exceptions must be classes or instances deriving from "
	             "BaseException, not %s",
	             Py_TYPE(exception)->tp_name);
	return false;
}

static PyObject *call_throw(StreamCall *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *passed[4] = {NULL}, *result = NULL;
	PySendResult sent;
	Py_ssize_t i;

	if (nargs < 1 || nargs > 3) {
		PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", nargs);
		return NULL;
	}
	if ((self->running || self->state == CALL_ENDED) && !can_be_raised(args[0]))
		return NULL;
	if (self->running) {
		PyErr_SetString(PyExc_ValueError, "coroutine already executing");
		return NULL;
	}
	if (self->state == CALL_ENDED) {
		PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
		return NULL;
	}
	if (self->state == CALL_NEW)
		return call_throw_at_new(self, args, nargs);
	Py_INCREF(self);
	self->running = true;
	passed[0] = self->awaited;
	for (i = 0; i < nargs; i++)
		passed[i + 1] = args[i];
	result = PyObject_VectorcallMethod(names.throw, passed, (size_t)nargs + 1, NULL);
	sent = PYGEN_NEXT;
	if (likely(result == NULL)) {
		sent = taken_stop(&result);
		sent = call_resume(self, sent, &result);
	}
	self->running = false;
	Py_DECREF(self);
	return as_method(sent, result);
}

/* Ends it where it is; 0 or -1. */
static int call_close(StreamCall *self)
{
	PyObject *awaited = self->awaited;
	int status = 0;

	if (self->state == CALL_ENDED)
		return 0;
	self->awaited = NULL;
	self->running = true;
	if (awaited != NULL)
		status = call_method_and_drop(awaited, names.close, NULL);
	if (self->state == CALL_WAITING)
		call_stop_waiting(self);
	self->running = false;
	call_end(self);
	Py_XDECREF(awaited);
	return status;
}

static PyObject *call_close_method(StreamCall *self, PyObject *Py_UNUSED(ignored))
{
	if (self->running) {
		PyErr_SetString(PyExc_ValueError, "coroutine already executing");
		return NULL;
	}
	if (call_close(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *call_await(StreamCall *self)
{
	if (unlikely(self->awaited != NULL || self->running)) {
		PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
		return NULL;
	}
	return Py_NewRef(self);
}

/* ---- what tools ask of a coroutine ---------------------------------------------------------- */

static PyObject *call_get_qualname(StreamCall *self, void *Py_UNUSED(closure))
{
	return PyObject_GetAttr(self->function, names.__qualname__);
}

static PyObject *call_get_name(StreamCall *self, void *Py_UNUSED(closure))
{
	return PyObject_GetAttr(self->function, names.__name__);
}

static PyObject *call_get_none(StreamCall *Py_UNUSED(self), void *Py_UNUSED(closure))
{
	Py_RETURN_NONE;
}

static PyObject *call_get_suspended(StreamCall *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->awaited != NULL && !self->running);
}

static PyObject *call_repr(StreamCall *self)
{
	PyObject *name = call_get_qualname(self, NULL), *text;

	if (name == NULL)
		return NULL;
	text = PyUnicode_FromFormat("<coroutine object %U at %p>", name, self);
	Py_DECREF(name);
	return text;
}

/* ---- memory ---------------------------------------------------------------------------- */

static void call_finalize(StreamCall *self)
{
	PyObject *exception, *name;

	self->finalized = true;
	if (likely(self->state == CALL_ENDED))
		return;
	exception = PyErr_GetRaisedException();
	if (self->state == CALL_NEW) {
		name = call_get_qualname(self, NULL);
		if (name == NULL ||
		    PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
		                     "coroutine '%U' was never awaited", name) < 0)
			PyErr_WriteUnraisable((PyObject *)self);
		Py_XDECREF(name);
	}
	if (call_close(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	if (exception != NULL)
		PyErr_SetRaisedException(exception);
}

static int call_traverse(StreamCall *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->function);
	Py_VISIT(self->object);
	Py_VISIT(self->argument);
	Py_VISIT(self->awaited);
	return 0;
}

static int call_clear(StreamCall *self)
{
	self->state = CALL_ENDED;
	Py_CLEAR(self->object);
	Py_CLEAR(self->argument);
	Py_CLEAR(self->awaited);
	return 0;
}

static void call_dealloc(StreamCall *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (unlikely(self->state != CALL_ENDED) &&
	    PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
		return;
	PyObject_GC_UnTrack(self);
	if (unlikely(self->weakrefs != NULL))
		PyObject_ClearWeakRefs((PyObject *)self);
	call_clear(self);
	Py_CLEAR(self->function);
	if (likely(!self->finalized && process.calls.count < SPARE_CALLS_MAX))
		process.calls.items[process.calls.count++] = self;
	else
		PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyMethodDef call_methods[] = {
	{"send", (PyCFunction)call_send_method, METH_O,
	 "send(value)\n--\n\nGo on with `value`; StopIteration when it has ended."},
	{"throw", FASTCALL(call_throw), METH_FASTCALL,
	 "throw(value)\n--\n\nRaise an exception where it waits."},
	{"close", (PyCFunction)call_close_method, METH_NOARGS,
	 "close()\n--\n\nEnd it where it is."},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef call_members[] = {
	{"cr_await", T_OBJECT, offsetof(StreamCall, awaited), READONLY, NULL},
	{"cr_running", T_BOOL, offsetof(StreamCall, running), READONLY, NULL},
	{"__weaklistoffset__", T_PYSSIZET, offsetof(StreamCall, weakrefs), READONLY,
	 NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef call_getset[] = {
	{"__name__", (getter)call_get_name, NULL, NULL, NULL},
	{"__qualname__", (getter)call_get_qualname, NULL, NULL, NULL},
	{"cr_frame", (getter)call_get_none, NULL, NULL, NULL},
	{"cr_origin", (getter)call_get_none, NULL, NULL, NULL},
	{"cr_suspended", (getter)call_get_suspended, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot call_slots[] = {
	{Py_tp_doc, "A call of a coroutine method of asyncio's streams."},
	{Py_tp_dealloc, call_dealloc},
	{Py_tp_finalize, call_finalize},
	{Py_tp_traverse, call_traverse},
	{Py_tp_clear, call_clear},
	{Py_tp_repr, call_repr},
	{Py_tp_iternext, call_iternext},
	{Py_am_await, call_await},
	{Py_am_send, call_send},
	{Py_tp_methods, call_methods},
	{Py_tp_members, call_members},
	{Py_tp_getset, call_getset},
	{0, NULL},
};

static PyType_Spec call_spec = {
	.name = "uring_loop._core.StreamCall",
	.basicsize = sizeof(StreamCall),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = call_slots,
};

int stream_call_init_type(PyObject *module)
{
	StreamCallType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, NULL);
	return StreamCallType == NULL ? -1 : 0;
}
