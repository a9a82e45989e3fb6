/*
 * The owner of a descriptor that was opened and that nobody has taken yet.
 *
 * Between the kernel's answer and the file that closes it there are a future, a task's
 * step, some frames and objects, and for each of them memory may be missing.  So the
 * owner is made before the descriptor is asked for: what fails afterwards drops it, and
 * with it the descriptor.
 */
#include "opened.h"

#include <structmember.h>
#include <unistd.h>

typedef struct {
	PyObject_HEAD int number; /* owned; -1: none */
} Opened;

static PyTypeObject *OpenedType;

PyObject *opened_new(void)
{
	Opened *self = PyObject_New(Opened, OpenedType);

	if (self != NULL)
		self->number = -1;
	return (PyObject *)self;
}

void opened_hold(PyObject *object, int fd)
{
	((Opened *)object)->number = fd;
}

static void opened_end(Opened *self)
{
	int number = self->number;

	self->number = -1;
	if (number >= 0)
		close(number);
}

static PyObject *opened_new_method(PyTypeObject *Py_UNUSED(type), PyObject *args,
                                   PyObject *kwargs)
{
	if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
		PyErr_SetString(PyExc_TypeError, "Opened() takes no arguments");
		return NULL;
	}
	return opened_new();
}

static void opened_dealloc(Opened *self)
{
	PyTypeObject *type = Py_TYPE(self);

	opened_end(self);
	PyObject_Free(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(opened_hold_doc,
"hold($self, number, /)\n--\n\n"
"Own the descriptor `number` from here on.");

static PyObject *opened_hold_method(Opened *self, PyObject *number)
{
	long value = PyLong_AsLong(number);

	if (value == -1 && PyErr_Occurred())
		return NULL;
	opened_end(self);
	self->number = (int)value;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(opened_detach_doc,
"detach($self, /)\n--\n\n"
"Own it no more: somebody else closes it.  Cannot fail.");

static PyObject *opened_detach(Opened *self, PyObject *Py_UNUSED(ignored))
{
	self->number = -1;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(opened_close_doc,
"close($self, /)\n--\n\n"
"Close it, as the end of this object would; a second call does nothing.");

static PyObject *opened_close(Opened *self, PyObject *Py_UNUSED(ignored))
{
	opened_end(self);
	Py_RETURN_NONE;
}

static PyMethodDef opened_methods[] = {
	{"hold", (PyCFunction)opened_hold_method, METH_O, opened_hold_doc},
	{"detach", (PyCFunction)opened_detach, METH_NOARGS, opened_detach_doc},
	{"close", (PyCFunction)opened_close, METH_NOARGS, opened_close_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef opened_members[] = {
	{"number", T_INT, offsetof(Opened, number), READONLY, "The descriptor; -1: none."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot opened_slots[] = {
	{Py_tp_doc, "The owner of a descriptor that nobody has taken yet: closes it at its end."},
	{Py_tp_new, opened_new_method},
	{Py_tp_dealloc, opened_dealloc},
	{Py_tp_methods, opened_methods},
	{Py_tp_members, opened_members},
	{0, NULL},
};

static PyType_Spec opened_spec = {
	.name = "uring_loop._core.Opened",
	.basicsize = sizeof(Opened),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = opened_slots,
};

int opened_init_type(PyObject *module)
{
	OpenedType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &opened_spec, NULL);
	return OpenedType == NULL ? -1 : PyModule_AddType(module, OpenedType);
}
