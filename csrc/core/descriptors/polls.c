/*
 * Poll: calls back while a descriptor of the loop's own is ready, and reads it for a pipe.
 *
 * Unlike add_reader(), which is one per descriptor and the user's, any number of
 * them may poll a descriptor, for whatever events, and none is found by its
 * number.  Pipes, children and signals are polled so.
 */
#include "polls.h"
#include "../base/checks.h"
#include "../base/scratch.h"
#include "../callbacks/handle.h"
#include "../callbacks/ready.h"
#include "../loop.h"
#include "../operations/operation.h"
#include "../operations/threads.h"

#include <errno.h>
#include <structmember.h>
#include <unistd.h>

static PyTypeObject *PollType;

typedef struct {
	PyObject_HEAD Loop *loop;            /* owned */
	Handle *handle;        /* owned; the callback and its context */
	struct operation operation;
	int fd;                /* borrowed from the caller */
	uint32_t events;       /* POLL* bits */
	int ready;             /* in the callback: POLL* bits, or -errno */
} Poll;

static int poll_start(Poll *self)
{
	Loop *loop = self->loop;
	int status;

	if (unlikely(loop_is_elsewhere(loop)))
		return loop_leave_call(loop, (PyObject *)self, names._start, NULL);
	status = loop->table->poll(loop->driver, &self->operation, self->fd,
	                           self->events | UL_POLL_LEVEL, &self->operation.token);
	if (likely(status == -EINPROGRESS)) {
		operation_hold(loop, &self->operation);
		return 0;
	}
	/* Refused at once.  The callback has its place in the next turn all the same. */
	assert(status < 0);
	self->ready = status;
	return ready_push(&loop->ready, (Handle *)Py_NewRef((PyObject *)self->handle));
}

static int poll_completed(Loop *loop, struct operation *operation,
                          const struct ul_completion *completion)
{
	Poll *self = container_of(operation, Poll, operation);
	Handle *handle = (Handle *)Py_NewRef((PyObject *)self->handle);
	int status = 0;

	Py_INCREF(self);
	if (!(completion->flags & UL_MORE))
		operation_drop(operation);
	if (unlikely(completion->result == -ECANCELED) && !handle->cancelled && !loop->closed) {
		/* Not by us: the thread that drove the ring has gone. */
		status = poll_start(self);
	} else if (likely(!loop->closed)) {
		self->ready = completion->result;
		status = handle_run(loop, handle); /* nothing, when it was cancelled */
	}
	Py_DECREF(handle);
	Py_DECREF(self);
	return status;
}

static PyObject *poll_begin(PyTypeObject *type, Loop *loop, int fd, uint32_t events,
                            PyObject *callback)
{
	Poll *self;

	if (loop_check_closed(loop) < 0)
		return NULL;
	self = (Poll *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->operation.completed = poll_completed;
	self->operation.holder = (PyObject *)self;
	self->fd = fd;
	self->events = events;
	self->loop = (Loop *)Py_NewRef((PyObject *)loop);
	self->handle = handle_new(self->loop, callback, NULL, 0, NULL);
	/* Once more: the handle's traceback, in debug mode, is Python's to make. */
	if (self->handle == NULL || loop_check_closed(self->loop) < 0 || poll_start(self) < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

PyObject *poll_make(Loop *loop, int fd, uint32_t events, PyObject *callback)
{
	return poll_begin(PollType, loop, fd, events, callback);
}

static PyObject *poll_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *loop, *callback;
	unsigned int events;
	int fd;

	if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Poll() takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O!iIO:Poll", LoopType, &loop, &fd, &events, &callback))
		return NULL;
	return poll_begin(type, (Loop *)loop, fd, events, callback);
}

/* In the loop's thread, for another that has made it. */
static PyObject *poll_start_method(Poll *self, PyObject *Py_UNUSED(ignored))
{
	if (self->handle != NULL && !self->handle->cancelled && self->operation.link == NULL &&
	    !self->loop->closed && poll_start(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(poll_cancel_doc, "cancel($self, /)\n--\n\nNever call back again.");

int poll_end(PyObject *poll)
{
	Poll *self = (Poll *)poll;
	int status;

	if (self->handle == NULL)
		return 0;
	Py_INCREF(self);
	status = handle_cancel(self->handle);
	if (self->operation.link != NULL && self->loop->table != NULL)
		operation_cancel(self->loop, &self->operation);
	Py_DECREF(self);
	return status;
}

static PyObject *poll_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	if (unlikely(poll_end(self) < 0))
		return NULL;
	Py_RETURN_NONE;
}

int poll_readiness(PyObject *poll)
{
	return ((Poll *)poll)->ready;
}

/* The bytes that are there; None for nothing. */
static PyObject *poll_read_now(Poll *self)
{
	Loop *loop = self->loop;
	char *buffer = scratch_received(loop);
	ssize_t count;
	int error;

	if (buffer == NULL)
		return NULL;
	loop->scratch.receiving = true;
	Py_BEGIN_ALLOW_THREADS
		count = read(self->fd, buffer, SCRATCH_BYTES);
	error = errno;
	Py_END_ALLOW_THREADS
		loop->scratch.receiving = false;
	if (count >= 0)
		return PyBytes_FromStringAndSize(buffer, count);
	/* The descriptor is still ready after a signal, whose handler may have closed it. */
	if (error == EAGAIN || error == EINTR)
		Py_RETURN_NONE;
	exception_set_errno(error);
	return NULL;
}

PyObject *poll_receive(PyObject *poll)
{
	Poll *self = (Poll *)poll;

	if (self->loop == NULL || loop_check_closed(self->loop) < 0)
		return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
	return poll_read_now(self);
}

bool poll_is_in_flight(PyObject *poll)
{
	const Poll *self = (Poll *)poll;
	const Loop *loop = self->loop;

	if (self->operation.link == NULL || loop->table == NULL)
		return false;
	return !self->handle->cancelled || loop_is_elsewhere(loop) ||
	       !loop->table->released(loop->driver, self->operation.token);
}

static PyObject *poll_get_in_flight(PyObject *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(poll_is_in_flight(self));
}

static int poll_traverse(Poll *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->handle);
	return 0;
}

static int poll_clear(Poll *self)
{
	if (self->operation.link != NULL)
		return 0;
	Py_CLEAR(self->handle);
	Py_CLEAR(self->loop);
	return 0;
}

static void poll_dealloc(Poll *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	assert(self->operation.link == NULL);
	poll_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef poll_methods[] = {
	{"cancel", (PyCFunction)poll_cancel, METH_NOARGS, poll_cancel_doc},
	{"_start", (PyCFunction)poll_start_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef poll_getters[] = {
	{"in_flight", (getter)poll_get_in_flight, NULL,
	 "Whether the driver may still look at the descriptor.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef poll_members[] = {
	{"ready", T_INT, offsetof(Poll, ready), READONLY,
	 "In the callback, the POLL* bits that hold; or -errno: the descriptor cannot\n"
	 "be polled, and no further call follows."},
	{NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(poll_doc,
"Poll(loop, fd, events, callback, /)\n--\n\n"
"Calls callback() in each turn in which `fd`, which stays the caller's, shows one\n"
"of `events` (POLL* bits), until cancel().\n\n"
"The callback runs as those of add_reader() do: in a copy of the context that was\n"
"current when the poll was made, and what it raises goes to the loop's exception\n"
"handler.");

static PyType_Slot poll_slots[] = {
	{Py_tp_doc, (void *)poll_doc},
	{Py_tp_new, poll_new},
	{Py_tp_dealloc, poll_dealloc},
	{Py_tp_traverse, poll_traverse},
	{Py_tp_clear, poll_clear},
	{Py_tp_methods, poll_methods},
	{Py_tp_getset, poll_getters},
	{Py_tp_members, poll_members},
	{0, NULL},
};

static PyType_Spec poll_spec = {
	.name = "uring_loop._core.Poll",
	.basicsize = sizeof(Poll),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = poll_slots,
};

int polls_init_types(PyObject *module)
{
	PollType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &poll_spec, NULL);
	return PollType == NULL ? -1 : PyModule_AddType(module, PollType);
}
