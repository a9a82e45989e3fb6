/* From a protocol to its reader, of which it has a weak reference, and to its writer. */
#include "protocol.h"
#include "reader.h"

/* The reader that a protocol of ours feeds: owned, or NULL without an exception. */
static PyObject *protocol_reader(PyObject *protocol)
{
	PyObject *attributes = stream_class_open(&protocol_class, protocol);
	PyObject *reference, *reader = NULL;

	if (unlikely(attributes == NULL))
		return NULL;
	reference = protocol_attribute(attributes, _stream_reader_wr);
	if (likely(reference != NULL && PyWeakref_CheckRefExact(reference))) {
#if PY_VERSION_HEX >= 0x030D0000
		if (PyWeakref_GetRef(reference, &reader) < 0)
			PyErr_Clear();
#else
		reader = PyWeakref_GET_OBJECT(reference);
		reader = reader == Py_None ? NULL : Py_NewRef(reader);
#endif
	}
	Py_DECREF(attributes);
	return reader;
}

int protocol_feed_reader(PyObject *protocol, const char *data, size_t size)
{
	PyObject *reader = protocol_reader(protocol), *attributes;
	int status = 0;

	if (unlikely(reader == NULL))
		return 0;
	attributes = stream_class_open(&reader_class, reader);
	if (likely(attributes != NULL)) {
		status = reader_feed(attributes, data, size);
		Py_DECREF(attributes);
	}
	Py_DECREF(reader);
	return status;
}

/* ---- a server's writer ------------------------------------------------------------------ */

/* Whoever asks the protocol has its own callback there again; 0 or -1. */
static int give_back_callback(PyObject *protocol, PyObject *callback)
{
	return PyObject_SetAttr(protocol, names._client_connected_cb, callback);
}

/* Instead of the callback (reader, writer) of a server: `self` is (protocol, callback). */
static PyObject *introduce(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	PyObject *protocol = PyTuple_GET_ITEM(self, 0), *callback = PyTuple_GET_ITEM(self, 1);
	PyObject *loop;
	int status;

	if (give_back_callback(protocol, callback) < 0)
		return NULL;
	if (nargs == 2) {
		loop = PyObject_GetAttr(protocol, names._loop);
		status = loop == NULL ? -1 : stream_class_adopt(&writer_class, args[1], loop);
		Py_XDECREF(loop);
		if (status < 0)
			return NULL;
	}
	return PyObject_Vectorcall(callback, args, (size_t)nargs, NULL);
}

static PyMethodDef introduction = {"client_connected_cb", FASTCALL(introduce), METH_FASTCALL,
                                   "Give the writer its class, and call the server's own."};

/* The callback that stands in the protocol's place for one call: owned, or NULL. */
static PyObject *introduction_of(PyObject *protocol, PyObject *callback)
{
	PyObject *both = PyTuple_Pack(2, protocol, callback), *function;

	if (both == NULL)
		return NULL;
	function = PyCFunction_New(&introduction, both);
	Py_DECREF(both);
	return function;
}

PyObject *protocol_connection_made(PyObject *protocol, PyObject *name, PyObject *transport)
{
	PyObject *attributes = stream_class_open(&protocol_class, protocol);
	PyObject *args[2] = {protocol, transport};
	PyObject *callback, *function, *made, *result = NULL;

	if (attributes == NULL)
		return NULL;
	callback = Py_XNewRef(protocol_attribute(attributes, _client_connected_cb));
	Py_DECREF(attributes);
	if (callback == NULL || callback == Py_None) {
		Py_XDECREF(callback);
		return NULL;
	}
	function = introduction_of(protocol, callback);
	made = function == NULL ? NULL : PyObject_GetAttr((PyObject *)protocol_class.asyncio, name);
	if (made != NULL && give_back_callback(protocol, function) == 0) {
		result = PyObject_Vectorcall(made, args, 2, NULL);
		/* When it has raised before it has called it. */
		attributes = PyObject_GenericGetDict(protocol, NULL);
		if (attributes != NULL &&
		    protocol_attribute(attributes, _client_connected_cb) == function &&
		    PyDict_SetItem(attributes, names._client_connected_cb, callback) < 0)
			Py_CLEAR(result);
		Py_XDECREF(attributes);
	}
	Py_XDECREF(made);
	Py_XDECREF(function);
	Py_DECREF(callback);
	return result;
}
