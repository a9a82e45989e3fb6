/* A reader's buffer, its waiter and its transport, as asyncio's StreamReader handles them. */
#include "reader.h"
#include "../base/overrides.h"

#include <string.h>

/* As large may the buffer of a reader be that has nothing. */
#define KEPT_BYTES 2048

Py_ssize_t reader_limit(PyObject *attributes)
{
	PyObject *limit = reader_attribute(attributes, _limit);
	Py_ssize_t value;

	if (unlikely(limit == NULL || !PyLong_CheckExact(limit)))
		return -1;
	value = PyLong_AsSsize_t(limit);
	if (unlikely(value < 0))
		PyErr_Clear();
	return value;
}

/* ---- feeding ------------------------------------------------------------------------- */

/* As asyncio's _wakeup_waiter(): one that was cancelled, and is rare, refuses the result. */
static int reader_wake(PyObject *attributes)
{
	PyObject *waiter = reader_attribute(attributes, _waiter), *exception, *cancelled;
	int status;

	if (waiter == NULL || waiter == Py_None)
		return 0;
	Py_INCREF(waiter);
	status = PyDict_SetItem(attributes, names._waiter, Py_None);
	if (likely(status == 0))
		status = call_method_and_drop(waiter, names.set_result, Py_None);
	if (unlikely(status < 0) && PyErr_ExceptionMatches(helpers.invalid_state)) {
		exception = PyErr_GetRaisedException();
		cancelled = PyObject_CallMethodNoArgs(waiter, names.cancelled);
		status = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled) - 1;
		Py_XDECREF(cancelled);
		if (status == 0 || PyErr_Occurred())
			Py_DECREF(exception);
		else
			PyErr_SetRaisedException(exception);
	}
	Py_DECREF(waiter);
	return status;
}

/* More is kept than twice the limit. */
static int reader_pause(PyObject *attributes, PyObject *transport)
{
	PyObject *result;

	Py_INCREF(transport);
	result = PyObject_CallMethodNoArgs(transport, names.pause_reading);
	Py_DECREF(transport);
	if (likely(result != NULL)) {
		Py_DECREF(result);
		return PyDict_SetItem(attributes, names._paused, Py_True);
	}
	/* It cannot be paused: everything has to be kept, and it is not asked again. */
	if (!PyErr_ExceptionMatches(PyExc_NotImplementedError))
		return -1;
	PyErr_Clear();
	return PyDict_SetItem(attributes, names._transport, Py_None);
}

static int buffer_append(PyObject *buffer, const char *data, size_t size)
{
	Py_ssize_t old = PyByteArray_GET_SIZE(buffer);

	/* Both are in memory. */
	assert(size <= (size_t)(PY_SSIZE_T_MAX - old));
	if (unlikely(PyByteArray_Resize(buffer, old + (Py_ssize_t)size) < 0))
		return -1;
	memcpy(PyByteArray_AS_STRING(buffer) + old, data, size);
	return 0;
}

int reader_feed(PyObject *attributes, const char *data, size_t size)
{
	PyObject *buffer = reader_buffer(attributes), *transport;
	Py_ssize_t limit = reader_limit(attributes), kept;
	int status;

	if (unlikely(size == 0 || buffer == NULL || limit < 0 || limit > PY_SSIZE_T_MAX / 2 ||
	             as_flag(reader_attribute(attributes, _eof)) != 0))
		return 0;
	Py_INCREF(buffer);
	status = buffer_append(buffer, data, size);
	if (likely(status == 0))
		status = reader_wake(attributes);
	kept = PyByteArray_GET_SIZE(buffer);
	Py_DECREF(buffer);
	if (unlikely(status < 0))
		return -1;
	if (likely(kept <= 2 * limit))
		return 1;
	transport = reader_attribute(attributes, _transport);
	if (transport != NULL && transport != Py_None &&
	    as_flag(reader_attribute(attributes, _paused)) == 0 &&
	    reader_pause(attributes, transport) < 0)
		return -1;
	return 1;
}

/* ---- taking -------------------------------------------------------------------------- */

/*
 * As `del buffer[:size]`, without its slice.  A small buffer keeps its memory for the next
 * message: to shrink and grow it again costs as much as all else that is done with it.
 */
int reader_drop(PyObject *buffer, Py_ssize_t size)
{
#if PY_VERSION_HEX < 0x030F0000
	PyByteArrayObject *array = (PyByteArrayObject *)buffer;

	if (likely(array->ob_exports == 0 && array->ob_alloc > 0 &&
	           array->ob_alloc <= KEPT_BYTES)) {
		Py_SET_SIZE(array, Py_SIZE(array) - size);
		/* What is behind the last byte is 0 already, but not at the beginning. */
		array->ob_start = Py_SIZE(array) > 0 ? array->ob_start + size : array->ob_bytes;
		array->ob_start[Py_SIZE(array)] = 0;
		return 0;
	}
#endif
	if (size == PyByteArray_GET_SIZE(buffer))
		return PyByteArray_Resize(buffer, 0);
	return PySequence_DelSlice(buffer, 0, size);
}

PyObject *reader_take(PyObject *buffer, Py_ssize_t size)
{
#if PY_VERSION_HEX >= 0x030F0000
	/* As asyncio: it gives its memory away, if that is all. */
	PyObject *count = PyLong_FromSsize_t(size);
	PyObject *bytes = count == NULL ? NULL
	                                : PyObject_CallMethodOneArg(buffer, names.take_bytes,
	                                                            count);

	Py_XDECREF(count);
#else
	PyObject *bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), size);

	if (bytes != NULL && size > 0 && unlikely(reader_drop(buffer, size) < 0))
		Py_CLEAR(bytes);
#endif
	return bytes;
}

/* The transport is to be read again. */
static int reader_resume(PyObject *attributes)
{
	PyObject *transport = Py_XNewRef(reader_attribute(attributes, _transport));
	int status = PyDict_SetItem(attributes, names._paused, Py_False);

	if (status == 0)
		status = call_method_and_drop(transport == NULL ? Py_None : transport,
		                              names.resume_reading, NULL);
	Py_XDECREF(transport);
	return status;
}

int reader_maybe_resume(PyObject *attributes)
{
	PyObject *buffer;

	if (likely(as_flag(reader_attribute(attributes, _paused)) == 0))
		return 0;
	buffer = reader_buffer(attributes);
	if (buffer == NULL || PyByteArray_GET_SIZE(buffer) > reader_limit(attributes))
		return 0;
	return reader_resume(attributes);
}

/* ---- waiting --------------------------------------------------------------------------- */

PyObject *reader_wait(PyObject *attributes, const char *function)
{
	PyObject *waiter = reader_attribute(attributes, _waiter), *loop;
	int paused = as_flag(reader_attribute(attributes, _paused));

	loop = reader_attribute(attributes, _loop);
	if (unlikely(waiter == NULL || loop == NULL || paused < 0))
		return NULL;
	if (unlikely(waiter != Py_None)) {
		PyErr_Format(PyExc_RuntimeError,
		             "%s() called while another coroutine is already waiting for "
		             "incoming data",
		             function);
		return NULL;
	}
	Py_INCREF(loop);
	/* Waiting for what a paused transport has would be for ever. */
	waiter = NULL;
	if (likely(!paused) || reader_resume(attributes) == 0)
		waiter = loop_make_future(loop);
	Py_DECREF(loop);
	if (likely(waiter != NULL) &&
	    unlikely(PyDict_SetItem(attributes, names._waiter, waiter) < 0))
		Py_CLEAR(waiter);
	return waiter;
}

void reader_waited(PyObject *attributes)
{
	PyObject *exception;

	/* Who has woken it has done that. */
	if (likely(reader_attribute(attributes, _waiter) == Py_None))
		return;
	exception = PyErr_GetRaisedException();
	if (PyDict_SetItem(attributes, names._waiter, Py_None) < 0)
		PyErr_Clear();
	if (exception != NULL)
		PyErr_SetRaisedException(exception);
}
