/*
 * One-shot operations that Python started through cffi: whoever expects the
 * token is called with the result.
 */
#include "requests.h"
#include "../base/checks.h"
#include "../loop.h"

#include <errno.h>

PyDoc_STRVAR(loop_expect_doc,
"_expect($self, token, callback, keep=None, /)\n--\n\n"
"Call callback(result, flags) when the one-shot operation `token` completes.\n\n"
"`keep` is held until then: the memory that the kernel may touch.");

static PyObject *loop_expect(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *entry;
	int status;

	if (nargs != 2 && nargs != 3) {
		PyErr_SetString(PyExc_TypeError, "_expect() takes token, callback and keep");
		return NULL;
	}
	entry = PyTuple_Pack(2, args[1], nargs == 3 ? args[2] : Py_None);
	if (entry == NULL)
		return NULL;
	status = PyDict_SetItem(self->requests, args[0], entry);
	Py_DECREF(entry);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
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

/* The verb's answer, or -1 with an exception. */
static long call_verb(PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *answer = PyObject_Vectorcall(args[0], args + 1, (size_t)nargs - 1, NULL);
	long result;

	if (answer == NULL)
		return -1;
	result = PyLong_AsLong(answer);
	Py_DECREF(answer);
	return result;
}

PyDoc_STRVAR(loop_operate_doc,
"_operate($self, callback, keep, verb, /, *args)\n--\n\n"
"Call verb(*args), and _expect() what it has started: its result.\n\n"
"The last of `args` is where the verb leaves its token.  Nothing comes between the\n"
"two, no signal's handler and no lack of memory: what the kernel may touch is held.");

static PyObject *loop_operate(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *entry, *token, *first;
	long result;

	if (nargs < 4) {
		PyErr_SetString(PyExc_TypeError, "_operate() takes callback, keep, verb and more");
		return NULL;
	}
	entry = PyTuple_Pack(2, args[0], args[1]);
	if (entry == NULL)
		return NULL;
	/* Here, as a new tuple may start the cycle collector, which runs anything. */
	if (loop_check_closed(self) < 0 || loop_check_thread(self) < 0) {
		Py_DECREF(entry);
		return NULL;
	}
	result = call_verb(args + 2, nargs - 2);
	if (result != -EINPROGRESS) {
		Py_DECREF(entry);
		return PyErr_Occurred() ? NULL : PyLong_FromLong(result);
	}
	first = PyLong_FromLong(0);
	token = first == NULL ? NULL : PyObject_GetItem(args[nargs - 1], first);
	Py_XDECREF(first);
	if (token == NULL || PyDict_SetItem(self->requests, token, entry) < 0) {
		/* Nobody will hear of the end: `entry` stays for ever, and what it holds. */
		Py_XDECREF(token);
		return NULL;
	}
	Py_DECREF(token);
	Py_DECREF(entry);
	return PyLong_FromLong(result);
}

PyDoc_STRVAR(loop_request_doc,
"_request($self, callback, keep, request, /)\n--\n\n"
"Queue an operation that has no verb of its own: its token, or -errno at once.\n\n"
"callback(result, flags): called when it has ended.\n"
"keep: the memory that it borrows, held until then.\n"
"request: opcode (IORING_OP_*), fd, addr, off, len and flags, as io_uring_enter(2)\n"
"has them; OverflowError for a number that does not fit.  -EOPNOTSUPP at once says\n"
"that this driver, on this kernel, never does it.");

static PyObject *loop_request(Loop *self, PyObject *args)
{
	struct ul_request request = {0};
	PyObject *callback, *keep, *entry, *key;
	ul_token token;
	int result;

	if (!PyArg_ParseTuple(args, "OO(biO&O&O&O&):_request", &callback, &keep, &request.opcode,
	                      &request.fd, as_uint64, &request.address, as_uint64,
	                      &request.address2, as_uint32, &request.length, as_uint32,
	                      &request.op_flags))
		return NULL;
	entry = PyTuple_Pack(2, callback, keep);
	if (entry == NULL)
		return NULL;
	/* Here, as a new tuple may start the cycle collector, which runs anything. */
	if (loop_check_closed(self) < 0 || loop_check_thread(self) < 0) {
		Py_DECREF(entry);
		return NULL;
	}
	result = self->table->submit(self->driver, NULL, &request, &token);
	if (result != -EINPROGRESS) {
		Py_DECREF(entry);
		return PyLong_FromLong(result < 0 ? result : -EOPNOTSUPP);
	}
	key = PyLong_FromUnsignedLongLong(token);
	if (key == NULL || PyDict_SetItem(self->requests, key, entry) < 0) {
		/* Unless it ends at once `entry` stays for ever, and the kernel's memory. */
		if (self->table->cancel(self->driver, token) == 0)
			Py_DECREF(entry);
		Py_XDECREF(key);
		return NULL;
	}
	Py_DECREF(entry);
	return key;
}

int request_completed(Loop *self, const struct ul_completion *completion)
{
	PyObject *token = PyLong_FromUnsignedLongLong(completion->token);
	PyObject *entry, *result, *args[2];
	int status = 0;

	if (token == NULL)
		return -1;
	entry = Py_XNewRef(PyDict_GetItemWithError(self->requests, token));
	if (entry == NULL || PyDict_DelItem(self->requests, token) < 0) {
		Py_DECREF(token);
		Py_XDECREF(entry);
		return PyErr_Occurred() ? -1 : 0;
	}
	Py_DECREF(token);
	if (unlikely(completion->flags & UL_KEEP))
		Py_INCREF(PyTuple_GET_ITEM(entry, 1)); /* the kernel may still touch it */
	args[0] = PyLong_FromLong(completion->result);
	args[1] = PyLong_FromUnsignedLong(completion->flags);
	if (args[0] == NULL || args[1] == NULL) {
		status = -1;
	} else if (likely(!self->forgotten)) {
		result = PyObject_Vectorcall(PyTuple_GET_ITEM(entry, 0), args, 2, NULL);
		Py_XDECREF(result);
		if (result == NULL) {
			if (exception_ends_loop())
				status = -1;
			else
				PyErr_WriteUnraisable(PyTuple_GET_ITEM(entry, 0));
		}
	}
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	Py_DECREF(entry);
	return status;
}

static PyObject *loop_cancel(Loop *self, PyObject *token)
{
	unsigned long long value = PyLong_AsUnsignedLongLong(token);
	int status;

	if (value == (unsigned long long)-1 && PyErr_Occurred())
		return NULL;
	if (self->table == NULL)
		return PyLong_FromLong(-ENOENT);
	if (loop_check_thread(self) < 0)
		return NULL;
	status = self->table->cancel(self->driver, value);
	/* Ended: nothing will come that could take it out of the table. */
	if (status == 0 && PyDict_DelItem(self->requests, token) < 0) {
		if (!PyErr_ExceptionMatches(PyExc_KeyError))
			return NULL;
		PyErr_Clear();
	}
	return PyLong_FromLong(status);
}

PyMethodDef request_methods[] = {
	{"_expect", FASTCALL(loop_expect), METH_FASTCALL, loop_expect_doc},
	{"_operate", FASTCALL(loop_operate), METH_FASTCALL, loop_operate_doc},
	{"_request", (PyCFunction)loop_request, METH_VARARGS, loop_request_doc},
	{"_cancel", (PyCFunction)loop_cancel, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};
