/* From a protocol to its reader, of which it has a weak reference. */
#include "protocol.h"
#include "reader.h"

/* The reader that a protocol of ours feeds: owned, or NULL without an exception. */
static PyObject *protocol_reader(PyObject *protocol)
{
	PyObject *attributes = stream_class_open(&protocol_class, protocol);
	PyObject *reference, *reader = NULL;

	if (unlikely(attributes == NULL))
		return NULL;
	reference = attribute(attributes, names._stream_reader_wr);
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
