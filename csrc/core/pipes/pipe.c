/* What both pipe transports have: their state, their poll, their memory. */
#include "pipe.h"
#include "../base/checks.h"
#include "../descriptors/polls.h"

PyTypeObject *PipeType;

/* ---- its state ----------------------------------------------------------------------------- */

/* The states that may follow each: the diagram of pipe.h.  For assertions. */
static const uint8_t pipe_next[] __attribute__((unused)) = {
	[PIPE_OPEN] = 1 << PIPE_CLOSING | 1 << PIPE_LOST,
	[PIPE_CLOSING] = 1 << PIPE_LOST,
	[PIPE_LOST] = 1 << PIPE_CLOSED,
	[PIPE_CLOSED] = 1 << PIPE_OPEN,
};

static void pipe_set_state(struct pipe *self, enum pipe_state state)
{
	assert(pipe_next[self->state] >> state & 1);
	self->state = state;
}

/* _begin(loop, file, fd, protocol) */
static PyObject *pipe_begin(struct pipe *self, PyObject *args)
{
	PyObject *loop, *file, *protocol;
	int fd;

	if (!PyArg_ParseTuple(args, "O!OiO:_begin", LoopType, &loop, &file, &fd, &protocol))
		return NULL;
	if (self->state != PIPE_CLOSED || self->fd >= 0) {
		PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
		return NULL;
	}
	self->fd = fd;
	self->loop = (Loop *)Py_NewRef(loop);
	self->file = Py_NewRef(file);
	self->protocol = Py_NewRef(protocol);
	pipe_set_state(self, PIPE_OPEN);
	Py_RETURN_NONE;
}

static PyObject *pipe_set_closing(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	if (self->state == PIPE_OPEN)
		pipe_set_state(self, PIPE_CLOSING);
	Py_RETURN_NONE;
}

static PyObject *pipe_set_lost(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	if (self->state < PIPE_LOST)
		pipe_set_state(self, PIPE_LOST);
	Py_RETURN_NONE;
}

/*
 * _end() -> (file, whether a poll of its descriptor may be on its way to the kernel).  The
 * file is the caller's to close.
 */
static PyObject *pipe_end(struct pipe *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *result;

	if (self->state != PIPE_LOST) {
		PyErr_SetString(PyExc_RuntimeError, "the transport is not lost");
		return NULL;
	}
	result = Py_BuildValue("(Oi)", self->file == NULL ? Py_None : self->file,
	                       self->ended_poll != NULL && poll_is_in_flight(self->ended_poll));
	if (result == NULL)
		return NULL;
	pipe_set_state(self, PIPE_CLOSED);
	Py_CLEAR(self->file);
	Py_CLEAR(self->ended_poll);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->loop);
	return result;
}

/* ---- its poll ------------------------------------------------------------------------------ */

int pipe_poll(struct pipe *self, PyObject **place, uint32_t events, PyObject *method)
{
	PyObject *callback = PyObject_GetAttr((PyObject *)self, method);
	PyObject *poll = NULL;
	Loop *loop;

	/* An attribute may be anybody's. */
	if (callback != NULL && self->state < PIPE_LOST && *place == NULL) {
		loop = (Loop *)Py_NewRef((PyObject *)self->loop);
		poll = poll_make(loop, self->fd, events, callback);
		Py_DECREF(loop);
	}
	Py_XDECREF(callback);
	if (unlikely(poll == NULL))
		return PyErr_Occurred() ? -1 : 0;
	/* And so may what a handle of debug mode looks at. */
	if (unlikely(self->state >= PIPE_LOST || *place != NULL))
		return pipe_end_poll(self, &poll);
	*place = poll;
	return 0;
}

int pipe_end_poll(struct pipe *self, PyObject **place)
{
	PyObject *poll = *place;
	int status;

	if (poll == NULL)
		return 0;
	*place = NULL;
	status = poll_end(poll);
	if (poll_is_in_flight(poll))
		Py_XSETREF(self->ended_poll, poll);
	else
		Py_DECREF(poll);
	return status;
}

/* ---- attributes ---------------------------------------------------------------------------- */

static PyObject *or_none(PyObject *object)
{
	return Py_NewRef(object == NULL ? Py_None : object);
}

static PyObject *pipe_get_loop(struct pipe *self, void *Py_UNUSED(closure))
{
	return or_none((PyObject *)self->loop);
}

static PyObject *pipe_get_file(struct pipe *self, void *Py_UNUSED(closure))
{
	return or_none(self->file);
}

/* CPython's own tests take it away, so that nothing is closed. */
static int pipe_set_file(struct pipe *self, PyObject *file, void *Py_UNUSED(closure))
{
	Py_XSETREF(self->file, file == NULL || file == Py_None ? NULL : Py_NewRef(file));
	return 0;
}

static PyObject *pipe_get_protocol(struct pipe *self, void *Py_UNUSED(closure))
{
	return or_none(self->protocol);
}

static int pipe_set_protocol(struct pipe *self, PyObject *protocol, void *Py_UNUSED(closure))
{
	if (protocol == NULL) {
		PyErr_SetString(PyExc_AttributeError, "_protocol cannot be deleted; set it");
		return -1;
	}
	Py_XSETREF(self->protocol, Py_NewRef(protocol));
	return 0;
}

static PyObject *pipe_get_fileno(struct pipe *self, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(self->fd);
}

static PyObject *pipe_get_closing(struct pipe *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->state != PIPE_OPEN);
}

static PyObject *pipe_get_lost(struct pipe *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->state >= PIPE_LOST);
}

static PyObject *pipe_get_polling(struct pipe *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->poll != NULL);
}

static PyGetSetDef pipe_getters[] = {
	{"_loop", (getter)pipe_get_loop, NULL, NULL, NULL},
	{"_pipe", (getter)pipe_get_file, (setter)pipe_set_file, NULL, NULL},
	{"_protocol", (getter)pipe_get_protocol, (setter)pipe_set_protocol, NULL, NULL},
	{"_fileno", (getter)pipe_get_fileno, NULL, NULL, NULL},
	{"_closing", (getter)pipe_get_closing, NULL, NULL, NULL},
	{"_lost", (getter)pipe_get_lost, NULL, NULL, NULL},
	{"_polling", (getter)pipe_get_polling, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

/* ---- memory -------------------------------------------------------------------------------- */

PyObject *pipe_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
	struct pipe *self = (struct pipe *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->fd = -1;
	/* Until _begin(): every method then does nothing. */
	self->state = PIPE_CLOSED;
	return (PyObject *)self;
}

int pipe_traverse(struct pipe *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->extra);
	Py_VISIT(self->loop);
	Py_VISIT(self->protocol);
	Py_VISIT(self->file);
	Py_VISIT(self->poll);
	Py_VISIT(self->ended_poll);
	return 0;
}

/* Garbage: its poll, if there is one, has ended or is garbage of a loop that is closed. */
int pipe_clear(struct pipe *self)
{
	self->state = PIPE_CLOSED;
	Py_CLEAR(self->extra);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->file);
	Py_CLEAR(self->poll);
	Py_CLEAR(self->ended_poll);
	Py_CLEAR(self->loop);
	return 0;
}

void pipe_dealloc(struct pipe *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	pipe_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

/* ---- the type ------------------------------------------------------------------------------ */

static PyMethodDef pipe_methods[] = {
	{"_begin", (PyCFunction)pipe_begin, METH_VARARGS, NULL},
	{"_set_closing", (PyCFunction)pipe_set_closing, METH_NOARGS, NULL},
	{"_set_lost", (PyCFunction)pipe_set_lost, METH_NOARGS, NULL},
	{"_end", (PyCFunction)pipe_end, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot pipe_slots[] = {
	{Py_tp_doc, "One end of a pipe: what both ends have in common."},
	{Py_tp_new, pipe_new},
	{Py_tp_dealloc, pipe_dealloc},
	{Py_tp_traverse, pipe_traverse},
	{Py_tp_clear, pipe_clear},
	{Py_tp_methods, pipe_methods},
	{Py_tp_getset, pipe_getters},
	{0, NULL},
};

static PyType_Spec pipe_spec = {
	.name = "uring_loop._core.Pipe",
	.basicsize = sizeof(struct pipe),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = pipe_slots,
};

int pipe_init_type(PyObject *module)
{
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *base = NULL;

	if (transports != NULL)
		base = PyObject_GetAttrString(transports, "BaseTransport");
	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* Its instances consist of one slot, _extra: ours begin with it. */
	if (((PyTypeObject *)base)->tp_basicsize == offsetof(struct pipe, loop))
		PipeType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pipe_spec, base);
	else
		PyErr_SetString(PyExc_ImportError,
		                "asyncio.BaseTransport of this Python has an unknown layout");
	Py_DECREF(base);
	return PipeType == NULL ? -1 : PyModule_AddType(module, PipeType);
}
