/*
 * One-shot operations that Python starts and awaits: each a Request, which is made
 * before its operation is started and owns what that borrows and what it brings.
 *
 * So nothing that can fail comes between the kernel and the owner: an operation that was
 * started is held by the loop like any other, its end is told without an allocation of
 * ours, and a descriptor that it brings belongs to somebody from the first moment on.
 * Whoever has no memory to hear of the end hears of it in the next turn.
 */
#include "requests.h"
#include "opened.h"
#include "operation.h"
#include "../base/checks.h"
#include "../loop.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <structmember.h>

struct Request {
	PyObject_HEAD struct operation operation;
	Loop *loop;         /* owned */
	PyObject *callback; /* owned until it has ended */
	PyObject *keep;     /* owned until it has ended, or NULL: what the kernel may touch */
	PyObject *opened;   /* owned, or NULL: the owner of the descriptor that it brings */
	int result;         /* once it has ended */
	unsigned int flags; /* UL_KEEP, or 0 */
	int tries;          /* how often its end could not be told */
	Request *next_untold; /* owned; in the loop's list */
};

/* Turns for which somebody waits for memory to be told. */
#define TRIES_MAX 64

static PyTypeObject *RequestType;

static int request_completed(Loop *loop, struct operation *operation,
                             const struct ul_completion *completion);

/* ---- starting ------------------------------------------------------------------------------ */

static Request *request_new(Loop *loop, PyObject *callback, PyObject *keep)
{
	Request *self = (Request *)RequestType->tp_alloc(RequestType, 0);

	if (self == NULL)
		return NULL;
	self->operation.completed = request_completed;
	self->operation.holder = (PyObject *)self;
	self->loop = (Loop *)Py_NewRef((PyObject *)loop);
	self->callback = Py_NewRef(callback);
	self->keep = Py_XNewRef(keep);
	/* Here, as a new object may start the cycle collector, which runs anything. */
	if (loop_check_closed(loop) < 0 || loop_check_thread(loop) < 0)
		Py_CLEAR(self);
	return self;
}

/* What a verb has answered: the request when it was started, else the answer.  Takes `self`. */
static PyObject *request_started(Request *self, int status)
{
	if (likely(status == -EINPROGRESS)) {
		operation_hold(self->loop, &self->operation);
		return (PyObject *)self;
	}
	Py_DECREF(self);
	return PyLong_FromLong(status);
}

PyDoc_STRVAR(loop_connect_doc,
"_connect($self, callback, fd, address, /)\n--\n\n"
"Connect a socket to an address of C's: a Request, or the result at once.\n\n"
"callback(request): called when it has ended.");

static PyObject *loop_connect(Loop *self, PyObject *args)
{
	PyObject *callback;
	Request *request;
	Py_buffer address;
	int fd, status;

	if (!PyArg_ParseTuple(args, "Oiy*:_connect", &callback, &fd, &address))
		return NULL;
	request = request_new(self, callback, NULL);
	if (request == NULL) {
		PyBuffer_Release(&address);
		return NULL;
	}
	/* The driver copies the address. */
	status = self->table->connect(self->driver, &request->operation, fd, address.buf,
	                              (uint32_t)address.len, &request->operation.token);
	PyBuffer_Release(&address);
	return request_started(request, status);
}

PyDoc_STRVAR(loop_poll_doc,
"_poll($self, callback, fd, events, /)\n--\n\n"
"Wait once for POLL* bits of a descriptor: a Request, or the bits at once.\n\n"
"callback(request): called when it has ended.");

static PyObject *loop_poll(Loop *self, PyObject *args)
{
	PyObject *callback;
	unsigned int events;
	Request *request;
	int fd;

	if (!PyArg_ParseTuple(args, "OiI:_poll", &callback, &fd, &events))
		return NULL;
	request = request_new(self, callback, NULL);
	if (request == NULL)
		return NULL;
	return request_started(request,
	                       self->table->poll(self->driver, &request->operation, fd,
	                                         events & ~UL_POLL_LEVEL,
	                                         &request->operation.token));
}

PyDoc_STRVAR(loop_splice_doc,
"_splice($self, callback, fd_in, offset_in, fd_out, offset_out, size, flags, /)\n--\n\n"
"splice(2): a Request, or the result at once.  An offset of -1: where the descriptor is.\n\n"
"callback(request): called when it has ended.");

static PyObject *loop_splice(Loop *self, PyObject *args)
{
	long long offset_in, offset_out;
	unsigned int size, flags;
	PyObject *callback;
	Request *request;
	int fd_in, fd_out;

	if (!PyArg_ParseTuple(args, "OiLiLII:_splice", &callback, &fd_in, &offset_in, &fd_out,
	                      &offset_out, &size, &flags))
		return NULL;
	request = request_new(self, callback, NULL);
	if (request == NULL)
		return NULL;
	return request_started(request,
	                       self->table->splice(self->driver, &request->operation, fd_in,
	                                           offset_in, fd_out, offset_out, size, flags,
	                                           &request->operation.token));
}

/* For "O&": a number of 64 bits without a sign; one that does not fit is refused. */
static int as_uint64(PyObject *number, void *result)
{
	unsigned long long value = PyLong_AsUnsignedLongLong(number);

	if (value == (unsigned long long)-1 && PyErr_Occurred())
		return 0;
	*(uint64_t *)result = value;
	return 1;
}

/* The same of 32 bits. */
static int as_uint32(PyObject *number, void *result)
{
	uint64_t value;

	if (!as_uint64(number, &value))
		return 0;
	if (value > UINT32_MAX) {
		PyErr_SetString(PyExc_OverflowError, "it does not fit into 32 bits");
		return 0;
	}
	*(uint32_t *)result = (uint32_t)value;
	return 1;
}

static bool brings_descriptor(uint8_t opcode)
{
	return opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2 ||
	       opcode == IORING_OP_ACCEPT || opcode == IORING_OP_SOCKET;
}

PyDoc_STRVAR(loop_request_doc,
"_request($self, callback, keep, request, /)\n--\n\n"
"Queue an operation that has no verb of its own: a Request, or -errno at once.\n\n"
"callback(request): called when it has ended; and in the next turns again, when it\n"
"raises MemoryError.\n"
"keep: the memory that it borrows, held until then.\n"
"request: opcode (IORING_OP_*), fd, addr, off, len and flags, as io_uring_enter(2)\n"
"has them; OverflowError for a number that does not fit.  -EOPNOTSUPP at once says\n"
"that this driver, on this kernel, never does it.");

static PyObject *loop_request(Loop *self, PyObject *args)
{
	struct ul_request queued = {0};
	PyObject *callback, *keep;
	Request *request;
	int status;

	if (!PyArg_ParseTuple(args, "OO(biO&O&O&O&):_request", &callback, &keep, &queued.opcode,
	                      &queued.fd, as_uint64, &queued.address, as_uint64,
	                      &queued.address2, as_uint32, &queued.length, as_uint32,
	                      &queued.op_flags))
		return NULL;
	request = request_new(self, callback, keep);
	if (request == NULL)
		return NULL;
	if (brings_descriptor(queued.opcode)) {
		request->opened = opened_new();
		if (request->opened == NULL) {
			Py_DECREF(request);
			return NULL;
		}
	}
	status = self->table->submit(self->driver, &request->operation, &queued,
	                             &request->operation.token);
	return request_started(request, status >= 0 ? -EOPNOTSUPP : status);
}

/* ---- the end ------------------------------------------------------------------------------- */

/* It borrows nothing any more, and calls nobody. */
static void request_let_go(Request *self)
{
	Py_CLEAR(self->callback);
	Py_CLEAR(self->keep);
}

/* Once more in the next turn: there was no memory to hear of it. */
static void request_tell_later(Loop *loop, Request *self)
{
	Request **last = &loop->threads.untold;

	while (*last != NULL)
		last = &(*last)->next_untold;
	*last = (Request *)Py_NewRef((PyObject *)self);
	loop->threads.asked = true;
}

/* Call whoever waits for its end.  -1 with an exception that must end the loop. */
static int request_tell(Loop *loop, Request *self)
{
	PyObject *argument = (PyObject *)self, *callback = Py_NewRef(self->callback), *exception;
	int status = 0;

	if (call_and_drop(callback, &argument, 1) < 0) {
		if (PyErr_ExceptionMatches(PyExc_MemoryError) && self->tries++ < TRIES_MAX &&
		    !loop->closed) {
			PyErr_Clear();
			request_tell_later(loop, self);
			Py_DECREF(callback);
			return 0;
		}
		status = exception_ends_loop() ? -1 : 0;
		if (status == 0)
			PyErr_WriteUnraisable(callback);
	}
	exception = PyErr_GetRaisedException();
	request_let_go(self);
	Py_DECREF(callback);
	PyErr_SetRaisedException(exception);
	return status;
}

static int request_completed(Loop *loop, struct operation *operation,
                             const struct ul_completion *completion)
{
	Request *self = container_of(operation, Request, operation);
	int status = 0;

	self->result = completion->result;
	self->flags = completion->flags;
	if (self->opened != NULL && completion->result >= 0)
		opened_hold(self->opened, completion->result);
	if (unlikely(completion->flags & UL_KEEP))
		Py_XINCREF(self->keep); /* the kernel may still touch it */
	Py_INCREF(self);
	operation_drop(operation);
	/* Of a forgotten loop what it refers to may be cleared. */
	if (likely(!loop->forgotten))
		status = request_tell(loop, self);
	else
		request_let_go(self);
	Py_DECREF(self);
	return status;
}

int requests_tell(Loop *loop)
{
	Request *untold = loop->threads.untold, *self;
	int status = 0;

	/* What cannot be told now either is in the list again, behind what is left of this one. */
	loop->threads.untold = NULL;
	while (status == 0 && (self = untold) != NULL) {
		untold = self->next_untold;
		self->next_untold = NULL;
		status = request_tell(loop, self);
		Py_DECREF(self);
	}
	if (untold != NULL) {
		for (self = untold; self->next_untold != NULL; self = self->next_untold)
			;
		self->next_untold = loop->threads.untold;
		loop->threads.untold = untold;
	}
	return status;
}

int requests_traverse(Loop *loop, visitproc visit, void *arg)
{
	Request *each;

	for (each = loop->threads.untold; each != NULL; each = each->next_untold)
		Py_VISIT((PyObject *)each);
	return 0;
}

void requests_clear(Loop *loop)
{
	Request *self;

	while ((self = loop->threads.untold) != NULL) {
		loop->threads.untold = self->next_untold;
		self->next_untold = NULL;
		request_let_go(self);
		Py_DECREF(self);
	}
}

PyDoc_STRVAR(request_cancel_doc,
"cancel($self, /)\n--\n\n"
"Ask it to end.  0: it has, and calls nobody.  -EINPROGRESS: its end follows, with\n"
"-ECANCELED or with the result that won the race.  -ENOENT: it had ended.");

static PyObject *request_cancel(Request *self, PyObject *Py_UNUSED(ignored))
{
	Loop *loop = self->loop;
	int status;

	if (self->operation.link == NULL || loop->table == NULL)
		return PyLong_FromLong(-ENOENT);
	if (loop_check_thread(loop) < 0)
		return NULL;
	status = loop->table->cancel(loop->driver, self->operation.token);
	if (status == 0) {
		/* Ended: nothing will come that could do this. */
		Py_INCREF(self);
		operation_drop(&self->operation);
		request_let_go(self);
		Py_DECREF(self);
	}
	return PyLong_FromLong(status);
}

PyMethodDef request_methods[] = {
	{"_connect", (PyCFunction)loop_connect, METH_VARARGS, loop_connect_doc},
	{"_poll", (PyCFunction)loop_poll, METH_VARARGS, loop_poll_doc},
	{"_splice", (PyCFunction)loop_splice, METH_VARARGS, loop_splice_doc},
	{"_request", (PyCFunction)loop_request, METH_VARARGS, loop_request_doc},
	{NULL, NULL, 0, NULL},
};

/* ---- the type ------------------------------------------------------------------------------ */

static int request_traverse(Request *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT((PyObject *)self->loop);
	Py_VISIT(self->callback);
	Py_VISIT(self->keep);
	return 0;
}

static int request_clear(Request *self)
{
	/* In flight it is held, and untold it is too: the loop, garbage with it, ends it first. */
	if (self->operation.link == NULL && self->tries == 0)
		request_let_go(self);
	return 0;
}

static void request_dealloc(Request *self)
{
	PyTypeObject *type = Py_TYPE(self);

	assert(self->operation.link == NULL);
	PyObject_GC_UnTrack(self);
	request_let_go(self);
	Py_CLEAR(self->opened);
	Py_CLEAR(self->loop);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef request_type_methods[] = {
	{"cancel", (PyCFunction)request_cancel, METH_NOARGS, request_cancel_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef request_members[] = {
	{"result", T_INT, offsetof(Request, result), READONLY, "At its end: >= 0, or -errno."},
	{"flags", T_UINT, offsetof(Request, flags), READONLY, "At its end: UL_KEEP, or 0."},
	{"opened", T_OBJECT, offsetof(Request, opened), READONLY,
	 "What owns the descriptor that it brings; None: it brings none."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot request_slots[] = {
	{Py_tp_doc, "A one-shot operation that was started."},
	{Py_tp_dealloc, request_dealloc},
	{Py_tp_traverse, request_traverse},
	{Py_tp_clear, request_clear},
	{Py_tp_methods, request_type_methods},
	{Py_tp_members, request_members},
	{0, NULL},
};

static PyType_Spec request_spec = {
	.name = "uring_loop._core.Request",
	.basicsize = sizeof(Request),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = request_slots,
};

int requests_init_type(PyObject *module)
{
	RequestType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &request_spec, NULL);
	return RequestType == NULL ? -1 : PyModule_AddType(module, RequestType);
}
