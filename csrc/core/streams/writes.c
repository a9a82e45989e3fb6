/* drain(), which as a rule waits for nothing, and what a writer hands to its transport. */
#include "writes.h"
#include "classes.h"
#include "steps.h"

PyObject *writer_pass_on(PyObject *writer, PyObject *name, PyObject *argument)
{
	PyObject *attributes = stream_class_open(&writer_class, writer);
	PyObject *args[2] = {NULL, argument}, *result;

	if (unlikely(attributes == NULL))
		return NULL;
	args[0] = Py_XNewRef(writer_attribute(attributes, _transport));
	Py_DECREF(attributes);
	if (unlikely(args[0] == NULL))
		return NULL;
	result = PyObject_VectorcallMethod(name, args, argument == NULL ? 1 : 2, NULL);
	Py_DECREF(args[0]);
	return result;
}

/* Whether a protocol of ours would have nobody wait. */
static bool writes_freely(PyObject *protocol)
{
	PyObject *attributes = stream_class_open(&protocol_class, protocol);
	bool freely;

	if (unlikely(attributes == NULL))
		return false;
	freely = as_flag(protocol_attribute(attributes, _connection_lost)) == 0 &&
	         as_flag(protocol_attribute(attributes, _paused)) == 0;
	Py_DECREF(attributes);
	return freely;
}

enum step step_drain_helper(StreamCall *self, PyObject **given)
{
	if (unlikely(!writes_freely(self->object)))
		return STEP_DELEGATE;
	*given = Py_NewRef(Py_None);
	return STEP_DONE;
}

/* Whether the reader, or None, has no exception to raise. */
static bool reads_well(PyObject *reader)
{
	PyObject *attributes;
	bool well;

	if (reader == Py_None)
		return true;
	attributes = stream_class_open(&reader_class, reader);
	if (unlikely(attributes == NULL))
		return false;
	well = reader_attribute(attributes, _exception) == Py_None;
	Py_DECREF(attributes);
	return well;
}

/* Whether the transport is open, or -1 with what it has raised. */
static int is_open(PyObject *transport)
{
	PyObject *closing = PyObject_CallMethodNoArgs(transport, names.is_closing);

	Py_XDECREF(closing);
	return closing == NULL ? -1 : closing == Py_False;
}

enum step step_drain(StreamCall *self, PyObject **given)
{
	PyObject *attributes = stream_class_open(&writer_class, self->object);
	PyObject *reader, *transport, *protocol;
	int free = 0;

	if (unlikely(attributes == NULL))
		return STEP_DELEGATE;
	reader = writer_attribute(attributes, _reader);
	transport = writer_attribute(attributes, _transport);
	protocol = writer_attribute(attributes, _protocol);
	if (likely(reader != NULL && transport != NULL && protocol != NULL) &&
	    likely(reads_well(reader))) {
		Py_INCREF(transport);
		Py_INCREF(protocol);
		free = is_open(transport);
		if (free > 0)
			free = writes_freely(protocol);
		Py_DECREF(protocol);
		Py_DECREF(transport);
	}
	Py_DECREF(attributes);
	if (unlikely(free <= 0))
		return free < 0 ? STEP_FAILED : STEP_DELEGATE;
	*given = Py_NewRef(Py_None);
	return STEP_DONE;
}
