/*
 * Listener: accepted descriptors of a listening socket, for a Python callback.
 *
 *     STOPPED -> ACCEPTING -> (STOPPING | FAILED) -> STOPPED
 *
 * Descriptors that arrive while STOPPING are closed: nobody asked for them.
 */
#include "core.h"

#include <errno.h>
#include <unistd.h>

static PyTypeObject *ListenerType;

typedef struct {
	PyObject_HEAD
	Loop *loop;            /* owned */
	PyObject *callback;    /* owned */
	struct sink accept;
	int fd;                /* borrowed from the caller's socket */
	bool wanted;           /* start() was called and stop() was not */
	bool shared;           /* others may accept from the socket too */
} Listener;

static int listener_arm(Listener *self)
{
	ul_token token;
	int status = self->loop->table->accept(self->loop->driver, &self->accept, self->fd,
	                                       self->shared, &token);

	if (status == -EINPROGRESS) {
		self->accept.token = token;
		sink_hold(self->loop, &self->accept);
		return 0;
	}
	return status < 0 ? status : -EIO;
}

/* Tell Python; -1 when what it raised must end the loop. */
static int listener_call(Listener *self, int result)
{
	PyObject *value = PyLong_FromLong(result);
	PyObject *answer = value == NULL ? NULL : PyObject_CallOneArg(self->callback, value);

	Py_XDECREF(value);
	if (answer == NULL) {
		if (exception_ends_loop())
			return -1;
		PyErr_WriteUnraisable(self->callback);
	}
	Py_XDECREF(answer);
	return 0;
}

static int listener_completed(Loop *loop, struct sink *sink,
                              const struct ul_completion *completion)
{
	Listener *self = container_of(sink, Listener, accept);
	bool terminal = !(completion->flags & UL_MORE);
	int status = 0, failure = 0;

	Py_INCREF(self);
	if (terminal)
		sink_drop(sink);
	if (!self->wanted || loop->closed) {
		if (completion->result >= 0)
			close(completion->result);
		goto out;
	}
	/* Ended, but wanted: stopped and started again, or a connection that won that race. */
	if (terminal && (completion->result >= 0 || completion->result == -ECANCELED))
		failure = listener_arm(self);
	else if (terminal)
		failure = completion->result;
	if (failure < 0)
		self->wanted = false;
	if (completion->result >= 0)
		status = listener_call(self, completion->result);
	if (failure < 0 && status == 0)
		status = listener_call(self, failure);
out:
	Py_DECREF(self);
	return status;
}

PyDoc_STRVAR(listener_start_doc,
"start()\n--\n\n"
"Accept connections until stop() or an error.  OSError when the kernel refuses.\n\n"
"Source: accept(2); IORING_ACCEPT_MULTISHOT, Linux 5.19.");

static PyObject *listener_start(Listener *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (loop_check_closed(self->loop) < 0)
		return NULL;
	if (!self->wanted && self->accept.link == NULL) {
		status = listener_arm(self);
		if (status < 0) {
			exception_set_errno(-status);
			return NULL;
		}
	}
	self->wanted = true;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(listener_stop_doc,
"stop()\n--\n\n"
"Stop accepting.  The listening socket stays open; nothing more is called back.");

static PyObject *listener_stop(Listener *self, PyObject *Py_UNUSED(ignored))
{
	bool active = self->wanted && self->accept.link != NULL && self->loop->table != NULL;

	self->wanted = false;
	if (active)
		sink_cancel(self->loop, &self->accept);
	Py_RETURN_NONE;
}

static PyObject *listener_get_idle(Listener *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->accept.link == NULL);
}

static PyObject *listener_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	Listener *self;
	PyObject *loop, *callback;
	int fd, shared = 0;

	if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Listener() takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O!iO|p:Listener", LoopType, &loop, &fd, &callback, &shared))
		return NULL;
	self = (Listener *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->loop = (Loop *)Py_NewRef(loop);
	self->callback = Py_NewRef(callback);
	self->fd = fd;
	self->shared = shared != 0;
	self->accept.completed = listener_completed;
	self->accept.holder = (PyObject *)self;
	return (PyObject *)self;
}

static int listener_traverse(Listener *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->callback);
	return 0;
}

static int listener_clear(Listener *self)
{
	Py_CLEAR(self->callback);
	if (self->accept.link == NULL)
		Py_CLEAR(self->loop);
	return 0;
}

static void listener_dealloc(Listener *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	assert(self->accept.link == NULL);
	listener_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef listener_methods[] = {
	{"start", (PyCFunction)listener_start, METH_NOARGS, listener_start_doc},
	{"stop", (PyCFunction)listener_stop, METH_NOARGS, listener_stop_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getters[] = {
	{"idle", (getter)listener_get_idle, NULL,
	 "Whether the kernel no longer works on the listening socket.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(listener_doc,
"Listener(loop, fd, callback, shared=False, /)\n--\n\n"
"Accepts connections on the listening socket `fd`, which stays the caller's;\n"
"`shared`: others, in whatever process, may accept from it too.\n\n"
"callback(result) gets each accepted descriptor (non-blocking, close-on-exec;\n"
"now the callback's), or -errno, after which start() is needed again.");

static PyType_Slot listener_slots[] = {
	{Py_tp_doc, (void *)listener_doc},
	{Py_tp_new, listener_new},
	{Py_tp_dealloc, listener_dealloc},
	{Py_tp_traverse, listener_traverse},
	{Py_tp_clear, listener_clear},
	{Py_tp_methods, listener_methods},
	{Py_tp_getset, listener_getters},
	{0, NULL},
};

static PyType_Spec listener_spec = {
	.name = "uring_loop._core.Listener",
	.basicsize = sizeof(Listener),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = listener_slots,
};

int listener_init_types(PyObject *module)
{
	ListenerType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
	if (ListenerType == NULL)
		return -1;
	return PyModule_AddType(module, ListenerType);
}
