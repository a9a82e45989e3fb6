/* What C does with a reader of ours: by the attributes that asyncio's code uses. */
#ifndef UL_READER_H
#define UL_READER_H

#include "classes.h"

/*
 * Appends to the buffer, wakes who waits, pauses a transport of which more is kept than
 * the limit says: feed_data().  1; 0: nothing was done, for asyncio's own to do; -1.
 */
int reader_feed(PyObject *attributes, const char *data, size_t size);

/* The buffer, borrowed, or NULL without an exception: it is none of asyncio's. */
static inline PyObject *reader_buffer(PyObject *attributes)
{
	PyObject *buffer = reader_attribute(attributes, _buffer);

	return likely(buffer != NULL && PyByteArray_CheckExact(buffer)) ? buffer : NULL;
}

/* The limit, or -1 without an exception: it is none. */
Py_ssize_t reader_limit(PyObject *attributes);

/* Takes `size` bytes out of the buffer: owned bytes, or NULL with an exception. */
PyObject *reader_take(PyObject *buffer, Py_ssize_t size);
/* Drops the first `size` bytes of the buffer; 0 or -1. */
int reader_drop(PyObject *buffer, Py_ssize_t size);
/* Resumes a transport of which no more than the limit is kept; 0 or -1. */
int reader_maybe_resume(PyObject *attributes);

/*
 * A waiter for data, of which `function` is told if another waits: an owned future, or
 * NULL with an exception; without: nothing was done, for asyncio's own to do.  A paused
 * transport is resumed.
 */
PyObject *reader_wait(PyObject *attributes, const char *function);
/* Nobody waits any more; keeps the exception that is set. */
void reader_waited(PyObject *attributes);

#endif
