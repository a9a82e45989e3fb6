/*
 * The reading end: polled, then read, so that nothing is ever taken out of a shared
 * pipe or terminal for somebody who has gone, and an idle pipe holds no buffer.
 */
#include "pipe.h"
#include "../descriptors/polls.h"

#include <poll.h>

/* The exception that is set is the read's: it ends the transport. */
static PyObject *read_pipe_failed(struct pipe *self)
{
	PyObject *exception, *result;

	if (!PyErr_ExceptionMatches(PyExc_OSError))
		return NULL;
	exception = PyErr_GetRaisedException();
	result = PyObject_CallMethodOneArg((PyObject *)self, names._read_failed, exception);
	Py_DECREF(exception);
	return result;
}

/* The poll's callback. */
static PyObject *read_pipe_ready(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *poll = self->poll, *data, *protocol, *result;

	/* Another thread has paused it, or closed it. */
	if (poll == NULL)
		Py_RETURN_NONE;
	if (unlikely(poll_readiness(poll) < 0)) {
		exception_set_errno(-poll_readiness(poll));
		return read_pipe_failed(self);
	}
	Py_INCREF(poll);
	data = poll_receive(poll);
	Py_DECREF(poll);
	if (unlikely(data == NULL))
		return read_pipe_failed(self);
	if (unlikely(data == Py_None || self->state >= PIPE_LOST)) {
		Py_DECREF(data);
		Py_RETURN_NONE;
	}
	if (likely(PyBytes_GET_SIZE(data) > 0)) {
		protocol = Py_NewRef(self->protocol);
		result = PyObject_CallMethodOneArg(protocol, names.data_received, data);
		Py_DECREF(protocol);
	} else {
		result = PyObject_CallMethodNoArgs((PyObject *)self, names._read_ended);
	}
	Py_DECREF(data);
	return result;
}

static PyObject *read_pipe_begin_poll(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	if (self->state == PIPE_OPEN && self->poll == NULL &&
	    pipe_poll(self, &self->poll, POLLIN, names._read_ready) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *read_pipe_end_polls(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	if (pipe_end_poll(self, &self->poll) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef read_pipe_methods[] = {
	{"_read_ready", (PyCFunction)read_pipe_ready, METH_NOARGS, NULL},
	{"_begin_poll", (PyCFunction)read_pipe_begin_poll, METH_NOARGS, NULL},
	{"_end_polls", (PyCFunction)read_pipe_end_polls, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot read_pipe_slots[] = {
	{Py_tp_doc, "The reading end of a pipe: what runs per message."},
	{Py_tp_new, pipe_new},
	{Py_tp_dealloc, pipe_dealloc},
	{Py_tp_traverse, pipe_traverse},
	{Py_tp_clear, pipe_clear},
	{Py_tp_methods, read_pipe_methods},
	{0, NULL},
};

static PyType_Spec read_pipe_spec = {
	.name = "uring_loop._core.ReadPipe",
	.basicsize = sizeof(struct pipe),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = read_pipe_slots,
};

int read_pipe_init_type(PyObject *module)
{
	PyObject *type = PyType_FromModuleAndSpec(module, &read_pipe_spec, (PyObject *)PipeType);
	int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

	Py_XDECREF(type);
	return status;
}
