/* asyncio's classes of streams and ours: what belongs to which, and whether it still does. */
#include "classes.h"

struct stream_class reader_class, writer_class, protocol_class;
struct reader_places reader_places;
struct writer_places writer_places;
struct protocol_places protocol_places;

#define PLACE(of, name) {&names.name, &of.name}
static const struct named_place reader_names[] = {
	PLACE(reader_places, _limit),
	PLACE(reader_places, _loop),
	PLACE(reader_places, _buffer),
	PLACE(reader_places, _eof),
	PLACE(reader_places, _waiter),
	PLACE(reader_places, _exception),
	PLACE(reader_places, _transport),
	PLACE(reader_places, _paused),
};
static const struct named_place writer_names[] = {
	PLACE(writer_places, _transport),
	PLACE(writer_places, _protocol),
	PLACE(writer_places, _reader),
};
static const struct named_place protocol_names[] = {
	PLACE(protocol_places, _paused),
	PLACE(protocol_places, _connection_lost),
	PLACE(protocol_places, _stream_reader_wr),
	PLACE(protocol_places, _client_connected_cb),
	PLACE(protocol_places, _strong_reader),
};
#undef PLACE

/* The classes by their names, and their places. */
#define KNOWN(class, table, name) {name, &class, table, sizeof(table) / sizeof(table[0])}
static const struct known_class {
	const char *name;
	struct stream_class *class;
	const struct named_place *places;
	size_t count;
} known_classes[] = {
	KNOWN(reader_class, reader_names, "StreamReader"),
	KNOWN(writer_class, writer_names, "StreamWriter"),
	KNOWN(protocol_class, protocol_names, "StreamReaderProtocol"),
};
#undef KNOWN

/* ---- whether a class is plain -------------------------------------------------------- */

/* Whether type.name is what was found of each name. */
static bool has_all(PyTypeObject *type, PyObject *tuple, PyObject *found)
{
	Py_ssize_t i;

	for (i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
		PyObject *value = PyObject_GetAttr((PyObject *)type, PyTuple_GET_ITEM(tuple, i));

		/* Only compared: it may be gone by then. */
		Py_XDECREF(value);
		if (value != PyTuple_GET_ITEM(found, i))
			return false;
	}
	return true;
}

/* A property of the class would come before the instance's attribute. */
static bool has_none(PyTypeObject *type, PyObject *tuple)
{
	Py_ssize_t i;

	for (i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
		if (PyObject_HasAttr((PyObject *)type, PyTuple_GET_ITEM(tuple, i)))
			return false;
	}
	return true;
}

bool stream_class_look(struct stream_class *self)
{
	unsigned version;

	/* An exception would be forgotten below. */
	assert(!PyErr_Occurred());
	self->plain = self->own->tp_getattro == PyObject_GenericGetAttr &&
	              self->own->tp_setattro == PyObject_GenericSetAttr &&
	              has_all(self->asyncio, self->names, self->found) &&
	              has_all(self->own, self->names, self->found_own) &&
	              has_none(self->own, self->state);
	PyErr_Clear();
	/* The search has given the type one, if there are any left to give. */
	version = self->own->tp_version_tag;
	self->version = version != 0 ? version : VERSION_UNKNOWN;
	return self->plain;
}

/* Whether one of the class's methods was set on an instance. */
static bool has_methods(const struct stream_class *self, PyObject *attributes)
{
	Py_ssize_t i;

	for (i = 0; i < PyTuple_GET_SIZE(self->names); i++) {
		if (PyDict_GetItemWithError(attributes, PyTuple_GET_ITEM(self->names, i)) != NULL)
			return true;
	}
	return false;
}

/* Whether it has no attributes but those with which it was made. */
static bool is_usual(const struct stream_class *self, PyObject *attributes)
{
	Py_ssize_t size = PyDict_GET_SIZE(attributes);

	/* The protocol of a server's connection has one more. */
	return size == self->usual ||
	       (size == self->usual + 1 && self == &protocol_class &&
	        protocol_attribute(attributes, _strong_reader) != NULL);
}

PyObject *stream_class_open(struct stream_class *self, PyObject *instance)
{
	PyObject *attributes;

	if (unlikely(Py_TYPE(instance) != self->own || !stream_class_is_plain(self)))
		return NULL;
	attributes = PyObject_GenericGetDict(instance, NULL);
	if (unlikely(attributes == NULL)) {
		PyErr_Clear();
		return NULL;
	}
	if (unlikely(!is_usual(self, attributes)) && has_methods(self, attributes)) {
		Py_DECREF(attributes);
		return NULL;
	}
	return attributes;
}

/* ---- adopting -------------------------------------------------------------------------- */

int stream_class_adopt(struct stream_class *self, PyObject *instance, PyObject *loop)
{
	PyObject *attributes;
	bool ours;

	if (self->own == NULL || Py_TYPE(instance) != self->asyncio)
		return 0;
	attributes = PyObject_GenericGetDict(instance, NULL);
	if (attributes == NULL)
		return -1;
	ours = PyDict_GetItemWithError(attributes, names._loop) == loop;
	Py_DECREF(attributes);
	return ours ? PyObject_SetAttr(instance, names.__class__, (PyObject *)self->own) : 0;
}

int streams_adopt(PyObject *protocol, PyObject *loop)
{
	PyObject *reader;
	int status;

	if (likely(Py_TYPE(protocol) != protocol_class.asyncio))
		return 0;
	reader = PyObject_GetAttr(protocol, names._stream_reader);
	if (reader == NULL)
		return -1;
	status = stream_class_adopt(&reader_class, reader, loop);
	Py_DECREF(reader);
	return status < 0 ? -1 : stream_class_adopt(&protocol_class, protocol, loop);
}

PyDoc_STRVAR(adopt_stream_doc,
"adopt_stream(protocol, loop, /)\n--\n\n"
"Give an asyncio.StreamReaderProtocol of that loop, and its reader, classes of ours.\n\n"
"Any other protocol stays what it is.");

static PyObject *adopt_stream(PyObject *Py_UNUSED(module), PyObject *args)
{
	PyObject *protocol, *loop;

	if (!PyArg_ParseTuple(args, "OO:adopt_stream", &protocol, &loop) ||
	    streams_adopt(protocol, loop) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- set by Python ------------------------------------------------------------------------ */

/* The values of type.name for all names: an owned tuple, or NULL with an exception. */
static PyObject *attributes_of(PyTypeObject *type, PyObject *all)
{
	PyObject *found = PyTuple_New(PyTuple_GET_SIZE(all));
	Py_ssize_t i;

	for (i = 0; found != NULL && i < PyTuple_GET_SIZE(all); i++) {
		PyObject *value = PyObject_GetAttr((PyObject *)type, PyTuple_GET_ITEM(all, i));

		if (value == NULL)
			Py_CLEAR(found);
		else
			PyTuple_SET_ITEM(found, i, value);
	}
	return found;
}

static const struct known_class *class_named(PyTypeObject *type)
{
	PyObject *name = PyType_GetName(type);
	size_t i;

	for (i = 0; name != NULL && i < sizeof(known_classes) / sizeof(known_classes[0]); i++) {
		if (PyUnicode_CompareWithASCIIString(name, known_classes[i].name) == 0) {
			Py_DECREF(name);
			return &known_classes[i];
		}
	}
	if (name != NULL)
		PyErr_Format(PyExc_TypeError, "%R is no class of asyncio's streams", name);
	Py_XDECREF(name);
	return NULL;
}

PyDoc_STRVAR(set_stream_class_doc,
"set_stream_class(asyncio, sample, names, state, usual, /)\n--\n\n"
"Make the exact instances of a class of asyncio's streams instances of the sample's class.\n\n"
"sample: one that nobody uses. names: of methods. state: of the instances' attributes, of\n"
"which they have `usual`.");

static PyObject *set_stream_class(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct stream_class *self, made = {.version = VERSION_UNKNOWN}, old = {NULL};
	const struct known_class *known;
	PyObject *sample, *attributes;
	int status = -1;

	if (!PyArg_ParseTuple(args, "O!OO!O!n:set_stream_class", &PyType_Type, &made.asyncio,
	                      &sample, &PyTuple_Type, &made.names, &PyTuple_Type, &made.state,
	                      &made.usual))
		return NULL;
	made.own = Py_TYPE(sample);
	known = class_named(made.own);
	if (known == NULL)
		return NULL;
	self = known->class;
	made.found = attributes_of(made.asyncio, made.names);
	made.found_own = made.found == NULL ? NULL : attributes_of(made.own, made.names);
	attributes = made.found_own == NULL ? NULL : PyObject_GenericGetDict(sample, NULL);
	if (attributes != NULL)
		status = layout_take(&made.layout, attributes, known->places, known->count);
	Py_XDECREF(attributes);
	if (status == 0) {
		Py_INCREF(made.asyncio);
		Py_INCREF(made.own);
		Py_INCREF(made.names);
		Py_INCREF(made.state);
		old = *self;
		*self = made;
	} else {
		/* What was made goes; what was given stays the caller's. */
		old.found = made.found;
		old.found_own = made.found_own;
		old.layout = made.layout;
	}
	Py_XDECREF(old.asyncio);
	Py_XDECREF(old.own);
	Py_XDECREF(old.names);
	Py_XDECREF(old.state);
	Py_XDECREF(old.found);
	Py_XDECREF(old.found_own);
	Py_XDECREF(old.layout.sample);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyMethodDef stream_functions[] = {
	{"adopt_stream", adopt_stream, METH_VARARGS, adopt_stream_doc},
	{"set_stream_class", set_stream_class, METH_VARARGS, set_stream_class_doc},
	{NULL, NULL, 0, NULL},
};
