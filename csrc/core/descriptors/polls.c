/*
 * Watch: calls back while a descriptor of the loop's own is ready, and reads it.
 *
 * Unlike add_reader(), which is one per descriptor and the user's, any number of
 * them may watch a descriptor, for whatever events, and none is found by its
 * number.  Pipes, children and signals are watched so.
 */
#include "../base/checks.h"
#include "../core.h"

#include <errno.h>
#include <structmember.h>
#include <unistd.h>

static PyTypeObject *WatchType;

typedef struct {
	PyObject_HEAD
	Loop *loop;            /* owned */
	Handle *handle;        /* owned; the callback and its context */
	struct operation operation;
	int fd;                /* borrowed from the caller */
	uint32_t events;       /* POLL* bits */
	int ready;             /* in the callback: POLL* bits, or -errno */
} Watch;

static int watch_start(Watch *self)
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
	/* Known at once.  The callback has its place in the next turn all the same. */
	self->ready = status < 0 ? status : -EIO;
	return ready_push(&loop->ready, (Handle *)Py_NewRef((PyObject *)self->handle));
}

static int watch_completed(Loop *loop, struct operation *operation,
                           const struct ul_completion *completion)
{
	Watch *self = container_of(operation, Watch, operation);
	Handle *handle = (Handle *)Py_NewRef((PyObject *)self->handle);
	int status = 0;

	Py_INCREF(self);
	if (!(completion->flags & UL_MORE))
		operation_drop(operation);
	if (unlikely(completion->result == -ECANCELED) && !handle->cancelled && !loop->closed) {
		/* Not by us: the thread that drove the ring has gone. */
		status = watch_start(self);
	} else if (likely(!loop->closed)) {
		self->ready = completion->result;
		status = handle_run(loop, handle); /* nothing, when it was cancelled */
	}
	Py_DECREF(handle);
	Py_DECREF(self);
	return status;
}

static PyObject *watch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *loop, *callback;
	unsigned int events;
	Watch *self;
	int fd;

	if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Watch() takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O!iIO:Watch", LoopType, &loop, &fd, &events, &callback) ||
	    loop_check_closed((Loop *)loop) < 0)
		return NULL;
	self = (Watch *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->operation.completed = watch_completed;
	self->operation.holder = (PyObject *)self;
	self->fd = fd;
	self->events = events;
	self->loop = (Loop *)Py_NewRef(loop);
	self->handle = handle_new(self->loop, callback, NULL, 0, NULL);
	/* Once more: the handle's traceback, in debug mode, is Python's to make. */
	if (self->handle == NULL || loop_check_closed(self->loop) < 0 || watch_start(self) < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

/* In the loop's thread, for another that has made it. */
static PyObject *watch_start_method(Watch *self, PyObject *Py_UNUSED(ignored))
{
	if (self->handle != NULL && !self->handle->cancelled && self->operation.link == NULL &&
	    !self->loop->closed && watch_start(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_cancel_doc, "cancel()\n--\n\nNever call back again.");

static PyObject *watch_cancel(Watch *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (self->handle == NULL)
		Py_RETURN_NONE;
	Py_INCREF(self);
	status = handle_cancel(self->handle);
	if (self->operation.link != NULL && self->loop->table != NULL)
		operation_cancel(self->loop, &self->operation);
	Py_DECREF(self);
	if (unlikely(status < 0))
		return NULL;
	Py_RETURN_NONE;
}

/* What is there; None for nothing. */
static PyObject *watch_read_now(Watch *self)
{
	Loop *loop = self->loop;
	char *buffer = loop_received(loop);
	ssize_t count;
	int error;

	if (buffer == NULL)
		return NULL;
	loop->receiving = true;
	Py_BEGIN_ALLOW_THREADS
	count = read(self->fd, buffer, LOOP_RECEIVED_BYTES);
	error = errno;
	Py_END_ALLOW_THREADS
	loop->receiving = false;
	if (count >= 0)
		return PyBytes_FromStringAndSize(buffer, count);
	/* It is still ready after a signal, whose handler may have closed it. */
	if (error == EAGAIN || error == EINTR)
		Py_RETURN_NONE;
	exception_set_errno(error);
	return NULL;
}

PyDoc_STRVAR(watch_read_doc,
"read()\n--\n\n"
"Read what there is, up to 256 KiB: b'' at the end, None when there is nothing yet.\n\n"
"Source: read(2), whose errors are raised as OSError.");

static PyObject *watch_read(Watch *self, PyObject *Py_UNUSED(ignored))
{
	if (self->loop == NULL || loop_check_closed(self->loop) < 0)
		return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
	return watch_read_now(self);
}

/* The driver may still look at the descriptor. */
static PyObject *watch_get_in_flight(Watch *self, void *Py_UNUSED(closure))
{
	const Loop *loop = self->loop;

	if (self->operation.link == NULL || loop->table == NULL)
		Py_RETURN_FALSE;
	return PyBool_FromLong(!self->handle->cancelled || loop_is_elsewhere(loop) ||
	                       !loop->table->released(loop->driver, self->operation.token));
}

static int watch_traverse(Watch *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->handle);
	return 0;
}

static int watch_clear(Watch *self)
{
	if (self->operation.link != NULL)
		return 0;
	Py_CLEAR(self->handle);
	Py_CLEAR(self->loop);
	return 0;
}

static void watch_dealloc(Watch *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	assert(self->operation.link == NULL);
	watch_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef watch_methods[] = {
	{"cancel", (PyCFunction)watch_cancel, METH_NOARGS, watch_cancel_doc},
	{"read", (PyCFunction)watch_read, METH_NOARGS, watch_read_doc},
	{"_start", (PyCFunction)watch_start_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef watch_getters[] = {
	{"in_flight", (getter)watch_get_in_flight, NULL,
	 "Whether the driver may still look at the descriptor.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef watch_members[] = {
	{"ready", T_INT, offsetof(Watch, ready), READONLY,
	 "In the callback, the POLL* bits that hold; or -errno: the descriptor cannot\n"
	 "be polled, and no further call follows."},
	{NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(watch_doc,
"Watch(loop, fd, events, callback, /)\n--\n\n"
"Calls callback() in each turn in which `fd`, which stays the caller's, shows one\n"
"of `events` (POLL* bits), until cancel().\n\n"
"The callback runs as those of add_reader() do: in a copy of the context that was\n"
"current when the watch was made, and what it raises goes to the loop's exception\n"
"handler.");

static PyType_Slot watch_slots[] = {
	{Py_tp_doc, (void *)watch_doc},
	{Py_tp_new, watch_new},
	{Py_tp_dealloc, watch_dealloc},
	{Py_tp_traverse, watch_traverse},
	{Py_tp_clear, watch_clear},
	{Py_tp_methods, watch_methods},
	{Py_tp_getset, watch_getters},
	{Py_tp_members, watch_members},
	{0, NULL},
};

static PyType_Spec watch_spec = {
	.name = "uring_loop._core.Watch",
	.basicsize = sizeof(Watch),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = watch_slots,
};

int polls_init_types(PyObject *module)
{
	WatchType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &watch_spec, NULL);
	return WatchType == NULL ? -1 : PyModule_AddType(module, WatchType);
}
