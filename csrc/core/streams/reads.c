/*
 * readline(), readuntil(), readexactly() and read(), step by step as asyncio's.
 *
 * What they are given that is no plain number or bytes, read(-1), and a reader with an
 * exception are asyncio's own: it says what there is to say.
 */
#include "reader.h"
#include "steps.h"

#include <string.h>

/* What each step begins with. */
struct read {
	PyObject *attributes; /* owned */
	PyObject *buffer;     /* owned */
};

/* Whether C may read; if so read_close() follows. */
static bool read_open(const StreamCall *self, struct read *read)
{
	read->attributes = stream_class_open(&reader_class, self->object);
	if (unlikely(read->attributes == NULL))
		return false;
	read->buffer = reader_buffer(read->attributes);
	if (likely(read->buffer != NULL &&
	           /* Who has waited is told by the waiter. */
	           (self->state != CALL_NEW ||
	            reader_attribute(read->attributes, _exception) == Py_None))) {
		Py_INCREF(read->buffer);
		return true;
	}
	Py_DECREF(read->attributes);
	return false;
}

/* Nothing more will come (1), or may (0); -1: asyncio shall say what is wrong. */
static int read_ended(const struct read *read)
{
	return as_flag(reader_attribute(read->attributes, _eof));
}

static enum step read_close(struct read *read, enum step step)
{
	Py_DECREF(read->buffer);
	Py_DECREF(read->attributes);
	return step;
}

static enum step read_wait(struct read *read, const char *function, PyObject **given)
{
	*given = reader_wait(read->attributes, function);
	if (likely(*given != NULL))
		return read_close(read, STEP_WAIT);
	return read_close(read, PyErr_Occurred() ? STEP_FAILED : STEP_DELEGATE);
}

/* The first `size` bytes of the buffer are the result. */
static enum step read_done(struct read *read, Py_ssize_t size, PyObject **given)
{
	*given = reader_take(read->buffer, size);
	if (likely(*given != NULL) && unlikely(reader_maybe_resume(read->attributes) < 0))
		Py_CLEAR(*given);
	return read_close(read, *given == NULL ? STEP_FAILED : STEP_DONE);
}

/* As `raise`, with what is being handled as its context; takes the reference, or NULL. */
static void raise_exception(PyObject *exception)
{
	if (exception == NULL)
		return;
	PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_DECREF(exception);
}

/* All that will ever come is too little: IncompleteReadError(it, expected). */
static enum step read_incomplete(struct read *read, PyObject *expected)
{
	PyObject *args[2] = {reader_take(read->buffer, PyByteArray_GET_SIZE(read->buffer)),
	                     expected};
	PyObject *exception = NULL;

	if (args[0] != NULL)
		exception = PyObject_Vectorcall(helpers.incomplete_read, args, 2, NULL);
	Py_XDECREF(args[0]);
	raise_exception(exception);
	return read_close(read, STEP_FAILED);
}

/* ---- lines --------------------------------------------------------------------------------- */

/* asyncio's words. */
static const char not_found[] = "Separator is not found, and chunk exceed the limit";
static const char found_too_far[] = "Separator is found, but chunk is longer than limit";

static PyObject *overrun_error(const char *message, Py_ssize_t consumed)
{
	PyObject *args[2] = {PyUnicode_FromString(message), PyLong_FromSsize_t(consumed)};
	PyObject *exception = NULL;

	if (args[0] != NULL && args[1] != NULL)
		exception = PyObject_Vectorcall(helpers.limit_overrun, args, 2, NULL);
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	return exception;
}

/* readline() drops what is too long; 0 or -1. */
static int line_drop(struct read *read, Py_ssize_t consumed)
{
	Py_ssize_t size = PyByteArray_GET_SIZE(read->buffer);

	if (consumed < size && PyByteArray_AS_STRING(read->buffer)[consumed] == '\n')
		size = consumed + 1;
	if (size > 0 && reader_drop(read->buffer, size) < 0)
		return -1;
	return reader_maybe_resume(read->attributes);
}

/* What `overrun`, which is set, becomes for readline(): raised while that is handled. */
static void line_too_long(struct read *read, const char *message, Py_ssize_t consumed)
{
	PyObject *overrun = PyErr_GetRaisedException(), *error;

	if (line_drop(read, consumed) == 0)
		PyErr_SetString(PyExc_ValueError, message);
	error = PyErr_GetRaisedException();
	PyException_SetContext(error, overrun);
	PyErr_SetRaisedException(error);
}

static enum step read_overrun(struct read *read, bool line, const char *message,
                              Py_ssize_t consumed)
{
	raise_exception(overrun_error(message, consumed));
	if (line && PyErr_ExceptionMatches(helpers.limit_overrun))
		line_too_long(read, message, consumed);
	return read_close(read, STEP_FAILED);
}

static enum step read_until(StreamCall *self, PyObject **given, const char *separator,
                            Py_ssize_t length, bool line)
{
	Py_ssize_t size, start, limit;
	const char *data, *found;
	struct read read;
	int ended;

	if (unlikely(!read_open(self, &read)))
		return STEP_DELEGATE;
	limit = reader_limit(read.attributes);
	if (unlikely(limit < 0))
		return read_close(&read, STEP_DELEGATE);
	size = PyByteArray_GET_SIZE(read.buffer);
	if (size - self->offset >= length) {
		data = PyByteArray_AS_STRING(read.buffer);
		found = memmem(data + self->offset, (size_t)(size - self->offset), separator,
		               (size_t)length);
		if (likely(found != NULL)) {
			start = found - data;
			if (likely(start <= limit))
				return read_done(&read, start + length, given);
			return read_overrun(&read, line, found_too_far, start);
		}
		/* The last bytes may be the beginning of a separator. */
		self->offset = size + 1 - length;
		if (unlikely(self->offset > limit))
			return read_overrun(&read, line, not_found, self->offset);
	}
	ended = read_ended(&read);
	if (likely(ended == 0))
		return read_wait(&read, "readuntil", given);
	if (unlikely(ended < 0))
		return read_close(&read, STEP_DELEGATE);
	if (!line)
		return read_incomplete(&read, Py_None);
	*given = reader_take(read.buffer, size);
	return read_close(&read, *given == NULL ? STEP_FAILED : STEP_DONE);
}

enum step step_readline(StreamCall *self, PyObject **given)
{
	return read_until(self, given, "\n", 1, true);
}

enum step step_readuntil(StreamCall *self, PyObject **given)
{
	PyObject *separator = self->argument;

	if (separator == NULL)
		return read_until(self, given, "\n", 1, false);
	if (unlikely(!PyBytes_CheckExact(separator) || PyBytes_GET_SIZE(separator) == 0))
		return STEP_DELEGATE;
	return read_until(self, given, PyBytes_AS_STRING(separator), PyBytes_GET_SIZE(separator),
	                  false);
}

/* ---- sizes ---------------------------------------------------------------------------------- */

/* How many bytes are wanted; -1: asyncio shall say what it is. */
static Py_ssize_t read_size(const StreamCall *self)
{
	Py_ssize_t size;

	if (unlikely(self->argument == NULL || !PyLong_CheckExact(self->argument)))
		return -1;
	size = PyLong_AsSsize_t(self->argument);
	if (unlikely(size < 0))
		PyErr_Clear();
	return size;
}

enum step step_readexactly(StreamCall *self, PyObject **given)
{
	Py_ssize_t size = read_size(self);
	struct read read;
	int ended;

	if (unlikely(size < 0 || !read_open(self, &read)))
		return STEP_DELEGATE;
	if (PyByteArray_GET_SIZE(read.buffer) < size) {
		ended = read_ended(&read);
		if (likely(ended == 0))
			return read_wait(&read, "readexactly", given);
		return ended > 0 ? read_incomplete(&read, self->argument)
		                 : read_close(&read, STEP_DELEGATE);
	}
	if (likely(size > 0))
		return read_done(&read, size, given);
	*given = PyBytes_FromStringAndSize(NULL, 0);
	return read_close(&read, *given == NULL ? STEP_FAILED : STEP_DONE);
}

enum step step_read(StreamCall *self, PyObject **given)
{
	Py_ssize_t size = read_size(self), kept;
	struct read read;
	int ended;

	if (unlikely(size < 0 || !read_open(self, &read)))
		return STEP_DELEGATE;
	kept = PyByteArray_GET_SIZE(read.buffer);
	if (unlikely(size == 0)) {
		*given = PyBytes_FromStringAndSize(NULL, 0);
		return read_close(&read, *given == NULL ? STEP_FAILED : STEP_DONE);
	}
	/* It waits once: somebody else may have taken what has come. */
	if (kept == 0 && self->state == CALL_NEW) {
		ended = read_ended(&read);
		if (likely(ended == 0))
			return read_wait(&read, "read", given);
		if (unlikely(ended < 0))
			return read_close(&read, STEP_DELEGATE);
	}
	return read_done(&read, size < kept ? size : kept, given);
}
