/*
 * The methods by name, and their type.  What asks one of them what it is (its signature,
 * its documentation, whether it is a coroutine function) is answered by asyncio's own.
 */
#include "method.h"
#include "classes.h"
#include "protocol.h"
#include "reader.h"
#include "steps.h"
#include "writes.h"

#include <structmember.h>

/* Does it, or gives NULL without an exception for asyncio's own to do. */
typedef PyObject *(*direct_function)(PyObject *object, PyObject *name, PyObject *argument);

/* data_received() and feed_data(): 1, 0 and -1 as reader_feed()'s. */
static PyObject *fed(int status)
{
	return status > 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *direct_feed_data(PyObject *reader, PyObject *Py_UNUSED(name), PyObject *data)
{
	PyObject *attributes, *result;

	if (!PyBytes_CheckExact(data))
		return NULL;
	attributes = stream_class_open(&reader_class, reader);
	if (attributes == NULL)
		return NULL;
	result = fed(reader_feed(attributes, PyBytes_AS_STRING(data),
	                         (size_t)PyBytes_GET_SIZE(data)));
	Py_DECREF(attributes);
	return result;
}

static PyObject *direct_data_received(PyObject *protocol, PyObject *Py_UNUSED(name),
                                      PyObject *data)
{
	if (!PyBytes_CheckExact(data))
		return NULL;
	return fed(protocol_feed(protocol, PyBytes_AS_STRING(data),
	                         (size_t)PyBytes_GET_SIZE(data)));
}

/* ---- which there are -------------------------------------------------------------------- */

struct method_kind {
	const char *name;
	struct stream_class *owner;
	step_function step;     /* a coroutine's, or NULL */
	direct_function direct; /* else */
	uint8_t least, most;    /* arguments after self that C takes */
};

static const struct method_kind kinds[] = {
	{"feed_data", &reader_class, NULL, direct_feed_data, 1, 1},
	{"readline", &reader_class, step_readline, NULL, 0, 0},
	{"readuntil", &reader_class, step_readuntil, NULL, 0, 1},
	{"readexactly", &reader_class, step_readexactly, NULL, 1, 1},
	{"read", &reader_class, step_read, NULL, 1, 1},
	{"connection_made", &protocol_class, NULL, protocol_connection_made, 1, 1},
	{"data_received", &protocol_class, NULL, direct_data_received, 1, 1},
	{"_drain_helper", &protocol_class, step_drain_helper, NULL, 0, 0},
	{"write", &writer_class, NULL, writer_pass_on, 1, 1},
	{"writelines", &writer_class, NULL, writer_pass_on, 1, 1},
	{"is_closing", &writer_class, NULL, writer_pass_on, 0, 0},
	{"drain", &writer_class, step_drain, NULL, 0, 0},
};

/* ---- the type --------------------------------------------------------------------------- */

typedef struct {
	PyObject_HEAD
		vectorcallfunc vectorcall;
	const struct method_kind *kind;
	PyObject *owner;      /* owned; asyncio's class */
	PyObject *name;       /* owned; interned */
	PyObject *function;   /* owned; asyncio's own */
} StreamMethod;

/* What asyncio's class has under the name now. */
static PyObject *method_call_asyncio(StreamMethod *self, PyObject *const *args, size_t nargsf,
                                     PyObject *kwnames)
{
	PyObject *function = PyObject_GetAttr(self->owner, self->name), *result;

	if (function == NULL)
		return NULL;
	result = PyObject_Vectorcall(function, args, nargsf, kwnames);
	Py_DECREF(function);
	return result;
}

static PyObject *method_vectorcall(StreamMethod *self, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames)
{
	const struct method_kind *kind = self->kind;
	Py_ssize_t nargs = PyVectorcall_NARGS(nargsf) - 1;
	PyObject *argument, *result = NULL;

	if (unlikely(kwnames != NULL || nargs < kind->least || nargs > kind->most ||
	             Py_TYPE(args[0]) != kind->owner->own ||
	             !stream_class_is_plain(kind->owner)))
		return method_call_asyncio(self, args, nargsf, kwnames);
	argument = nargs > 0 ? args[1] : NULL;
	if (kind->step != NULL)
		return stream_call_new(kind->step, self->function, args[0], argument);
	result = kind->direct(args[0], self->name, argument);
	if (unlikely(result == NULL) && !PyErr_Occurred())
		return method_call_asyncio(self, args, nargsf, kwnames);
	return result;
}

static PyObject *method_descr_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
	if (object == NULL || object == Py_None)
		return Py_NewRef(self);
	return PyMethod_New(self, object);
}

static PyObject *method_getattro(PyObject *self, PyObject *name)
{
	PyObject *value = PyObject_GenericGetAttr(self, name);

	if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
		PyErr_Clear();
		value = PyObject_GetAttr(((StreamMethod *)self)->function, name);
	}
	return value;
}

static PyObject *method_get_forwarded(StreamMethod *self, void *name)
{
	return PyObject_GetAttrString(self->function, name);
}

static PyObject *method_repr(StreamMethod *self)
{
	return PyUnicode_FromFormat("<method %R of asyncio's streams>", self->name);
}

/* StreamMethod(owner, name): of asyncio's class `owner`. */
static PyObject *method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"owner", "name", NULL};
	PyObject *owner, *name;
	StreamMethod *self;
	size_t i;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!U:StreamMethod", keywords, &PyType_Type,
	                                 &owner, &name))
		return NULL;
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (PyUnicode_CompareWithASCIIString(name, kinds[i].name) == 0)
			break;
	}
	if (i == sizeof(kinds) / sizeof(kinds[0])) {
		PyErr_Format(PyExc_ValueError, "%R is no method that is C's", name);
		return NULL;
	}
	self = (StreamMethod *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->vectorcall = (vectorcallfunc)method_vectorcall;
	self->kind = &kinds[i];
	self->owner = Py_NewRef(owner);
	self->name = Py_NewRef(name);
	PyUnicode_InternInPlace(&self->name);
	self->function = PyObject_GetAttr(owner, name);
	if (self->function == NULL)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static int method_traverse(StreamMethod *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->owner);
	Py_VISIT(self->function);
	return 0;
}

static int method_clear(StreamMethod *self)
{
	Py_CLEAR(self->owner);
	Py_CLEAR(self->function);
	return 0;
}

static void method_dealloc(StreamMethod *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	method_clear(self);
	Py_XDECREF(self->name);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMemberDef method_members[] = {
	{"__vectorcalloffset__", T_PYSSIZET, offsetof(StreamMethod, vectorcall), READONLY, NULL},
	{"__wrapped__", T_OBJECT, offsetof(StreamMethod, function), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef method_getset[] = {
	{"__doc__", (getter)method_get_forwarded, NULL, NULL, "__doc__"},
	{"__module__", (getter)method_get_forwarded, NULL, NULL, "__module__"},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot method_slots[] = {
	{Py_tp_new, method_new},
	{Py_tp_dealloc, method_dealloc},
	{Py_tp_traverse, method_traverse},
	{Py_tp_clear, method_clear},
	{Py_tp_call, PyVectorcall_Call},
	{Py_tp_descr_get, method_descr_get},
	{Py_tp_getattro, method_getattro},
	{Py_tp_repr, method_repr},
	{Py_tp_members, method_members},
	{Py_tp_getset, method_getset},
	{0, NULL},
};

static PyType_Spec method_spec = {
	.name = "uring_loop._core.StreamMethod",
	.basicsize = sizeof(StreamMethod),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
	         Py_TPFLAGS_METHOD_DESCRIPTOR,
	.slots = method_slots,
};

int stream_method_init_type(PyObject *module)
{
	PyObject *type = PyType_FromModuleAndSpec(module, &method_spec, NULL);
	int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

	Py_XDECREF(type);
	return status;
}
