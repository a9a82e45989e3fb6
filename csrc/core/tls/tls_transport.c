/*
 * write() and writelines() of the transport that a program has: methods in C of the class
 * that Python made of asyncio's.  And the functions by which that is set up.
 */
#include "records.h"

#include <structmember.h>

/* Where in instances of the class the slot `_ssl_protocol` is. */
static Py_ssize_t protocol_offset;

/* ---- methods of the transport --------------------------------------------------------------- */

/* The protocol of a transport (borrowed), or NULL when it is not one of ours. */
static Records *records_of(PyObject *transport)
{
	PyObject *protocol = *(PyObject **)((char *)transport + protocol_offset);

	return protocol != NULL && PyObject_TypeCheck(protocol, RecordsType)
		       ? (Records *)protocol
		       : NULL;
}

/* asyncio's way. */
static PyObject *write_appdata(PyObject *transport, PyObject *pieces)
{
	PyObject *protocol = PyObject_GetAttr(transport, names._ssl_protocol), *result;

	if (protocol == NULL)
		return NULL;
	result = PyObject_CallMethodOneArg(protocol, names._write_appdata, pieces);
	Py_DECREF(protocol);
	return result;
}

static PyObject *write_one(PyObject *transport, PyObject *data)
{
	PyObject *pieces = PyTuple_Pack(1, data), *result;

	if (pieces == NULL)
		return NULL;
	result = write_appdata(transport, pieces);
	Py_DECREF(pieces);
	return result;
}

/* A copy of a buffer of bytes that its owner may change; NULL without an exception for others. */
static PyObject *copy_of_buffer(PyObject *data)
{
	PyObject *bytes = NULL;
	Py_buffer view;

	if (PyBytes_Check(data))
		return NULL; /* a subclass may have a len() of its own */
	if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
		PyErr_Clear();
		return NULL;
	}
	if (view.itemsize == 1)
		bytes = PyBytes_FromStringAndSize(view.buf, view.len);
	PyBuffer_Release(&view);
	return bytes;
}

static PyObject *tls_transport_write(PyObject *transport, PyObject *data)
{
	Records *self;
	PyObject *piece;
	int truth;

	if (likely(PyBytes_CheckExact(data))) {
		if (unlikely(PyBytes_GET_SIZE(data) == 0))
			Py_RETURN_NONE;
		piece = Py_NewRef(data);
	} else {
		if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
			PyObject *name = PyType_GetName(Py_TYPE(data));

			if (name != NULL)
				PyErr_Format(PyExc_TypeError,
				             "data: expecting a bytes-like instance, got %U", name);
			Py_XDECREF(name);
			return NULL;
		}
		truth = PyObject_IsTrue(data);
		if (truth < 0)
			return NULL;
		if (!truth)
			Py_RETURN_NONE;
		piece = copy_of_buffer(data);
		if (piece == NULL && PyErr_Occurred())
			return NULL;
	}
	/* A buffer may be of Python's making, and have closed us. */
	self = records_of(transport);
	if (unlikely(self == NULL || piece == NULL || PyBytes_GET_SIZE(piece) == 0 ||
	             !records_write_freely(self))) {
		Py_XDECREF(piece);
		return write_one(transport, data);
	}
	if (unlikely(records_write(self, piece) < 0))
		return NULL;
	Py_RETURN_NONE;
}

/* What follows item `i` of a tuple is asyncio's to write. */
static PyObject *write_rest(PyObject *transport, PyObject *list, Py_ssize_t i)
{
	PyObject *rest = PyTuple_GetSlice(list, i, PyTuple_GET_SIZE(list));
	PyObject *result = rest == NULL ? NULL : write_appdata(transport, rest);

	Py_XDECREF(rest);
	return result;
}

/* The same after an exception that only ends the run of the loop; it stays set. */
static void write_rest_later(PyObject *transport, PyObject *list, Py_ssize_t i)
{
	PyObject *exception, *result;

	if (PyErr_ExceptionMatches(PyExc_Exception))
		return;
	exception = PyErr_GetRaisedException();
	result = write_rest(transport, list, i);
	if (result == NULL)
		PyErr_WriteUnraisable(transport);
	Py_XDECREF(result);
	PyErr_SetRaisedException(exception);
}

static PyObject *tls_transport_writelines(PyObject *transport, PyObject *list)
{
	Records *self = records_of(transport);
	PyObject *result = Py_None;
	Py_ssize_t i;

	if (self == NULL || (!PyList_CheckExact(list) && !PyTuple_CheckExact(list)))
		return write_appdata(transport, list);
	for (i = 0; i < PySequence_Fast_GET_SIZE(list); i++) {
		if (!PyBytes_CheckExact(PySequence_Fast_GET_ITEM(list, i)))
			return write_appdata(transport, list);
	}
	/* What is sent in between may change the list, pause us, or end us. */
	list = PySequence_Tuple(list);
	if (list == NULL)
		return NULL;
	Py_INCREF(self);
	for (i = 0; i < PyTuple_GET_SIZE(list); i++) {
		PyObject *piece = PyTuple_GET_ITEM(list, i);

		if (PyBytes_GET_SIZE(piece) == 0)
			continue;
		if (unlikely(!records_write_freely(self))) {
			result = write_rest(transport, list, i);
			break;
		}
		if (unlikely(records_write(self, Py_NewRef(piece)) < 0)) {
			write_rest_later(transport, list, i + 1);
			result = NULL;
			break;
		}
	}
	Py_DECREF(list);
	Py_DECREF(self);
	return result == Py_None ? Py_NewRef(Py_None) : result;
}

static PyMethodDef transport_methods[] = {
	{"write", (PyCFunction)tls_transport_write, METH_O,
	 "write($self, data, /)\n--\n\n"
	 "Encrypt and send bytes; never blocks.  What is written in one turn of the loop shares\n"
	 "records, and leaves in one system call.\n\n"
	 "TypeError for what is not bytes-like.\n\nSource: asyncio.WriteTransport.write."},
	{"writelines", (PyCFunction)tls_transport_writelines, METH_O,
	 "writelines($self, list_of_data, /)\n--\n\n"
	 "write() each item.\n\nSource: asyncio.WriteTransport.writelines."},
	{NULL, NULL, 0, NULL},
};

/* Make them methods of the class. */
static int transport_bind(PyTypeObject *transport_class)
{
	PyObject *slot = PyObject_GetAttr((PyObject *)transport_class, names._ssl_protocol);
	PyMethodDef *method;

	if (slot == NULL)
		return -1;
	if (!Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
		Py_DECREF(slot);
		PyErr_SetString(PyExc_TypeError, "the class needs a slot named _ssl_protocol");
		return -1;
	}
	protocol_offset = ((PyMemberDescrObject *)slot)->d_member->offset;
	Py_DECREF(slot);
	for (method = transport_methods; method->ml_name != NULL; method++) {
		PyObject *class = (PyObject *)transport_class;
		PyObject *descriptor = PyDescr_NewMethod(transport_class, method);
		int status = -1;

		if (descriptor != NULL)
			status = PyObject_SetAttrString(class, method->ml_name, descriptor);
		Py_XDECREF(descriptor);
		if (status < 0)
			return -1;
	}
	return 0;
}

/* ---- the module's functions ----------------------------------------------------------------- */

PyDoc_STRVAR(tls_find_openssl_doc,
"tls_find_openssl($module, path, /)\n--\n\n"
"Find OpenSSL's functions in what the module at `path` is linked with.\n\n"
"None, or why they are not to be had.");

static PyObject *tls_find_openssl(PyObject *Py_UNUSED(module), PyObject *path)
{
	PyObject *encoded;
	const char *reason;

	if (!PyUnicode_FSConverter(path, &encoded))
		return NULL;
	reason = openssl_find(PyBytes_AS_STRING(encoded));
	Py_DECREF(encoded);
	if (reason == NULL)
		Py_RETURN_NONE;
	return PyUnicode_FromString(reason);
}

PyDoc_STRVAR(tls_set_classes_doc,
"tls_set_classes($module, transport, wrapped, flushing, /)\n--\n\n"
"Make write() and writelines() of the class of TLS transports, which has a slot for its\n"
"_ssl_protocol; and say which of asyncio's SSLProtocolState is which.");

static PyObject *tls_set_classes(PyObject *Py_UNUSED(module), PyObject *args)
{
	PyObject *transport, *wrapped, *flushing;

	if (!PyArg_ParseTuple(args, "O!OO:tls_set_classes", &PyType_Type, &transport, &wrapped,
	                      &flushing))
		return NULL;
	Py_XSETREF(state_wrapped, Py_NewRef(wrapped));
	Py_XSETREF(state_flushing, Py_NewRef(flushing));
	if (transport_bind((PyTypeObject *)transport) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyMethodDef tls_functions[] = {
	{"tls_find_openssl", (PyCFunction)tls_find_openssl, METH_O, tls_find_openssl_doc},
	{"tls_set_classes", (PyCFunction)tls_set_classes, METH_VARARGS, tls_set_classes_doc},
	{NULL, NULL, 0, NULL},
};
