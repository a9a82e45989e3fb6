/*
 * What is received, decrypted straight into what the protocol gets: bytes that hold all
 * records that came together, or the buffers of a BufferedProtocol.
 */
#include "records.h"
#include "../base/checks.h"
#include "../streams/protocol.h"

#include <limits.h>

PyObject *state_wrapped, *state_flushing;

/* How a read ended, other than by an exception (-1). */
enum {
	READ_ALL,             /* what is left is not a record yet */
	READ_REFUSED,         /* an error or an end: Python's call will say which */
};

/* As much as there is, of one record; READ_ALL or READ_REFUSED when there is nothing. */
static int records_decrypt(Records *self, char *data, size_t size, int *got)
{
	int error;

	*got = openssl.SSL_read(self->ssl, data, size < INT_MAX ? (int)size : INT_MAX);
	if (likely(*got > 0))
		return READ_ALL;
	error = openssl.SSL_get_error(self->ssl, *got);
	*got = 0;
	if (unlikely(error != OPENSSL_ERROR_WANT_READ))
		return READ_REFUSED;
	self->begun = openssl.SSL_has_pending(self->ssl);
	return READ_ALL;
}

/* Nothing can be decrypted any more, for it reads no further than to a record's end. */
static bool records_are_read(Records *self)
{
	if (ciphertext_pending(self->incoming->memory) > 0 || openssl.SSL_pending(self->ssl) > 0)
		return false;
	self->begun = false;
	return true;
}

static int records_call_data_received(Records *self, PyObject *bytes)
{
	PyObject *protocol = Py_NewRef(self->app_protocol);
	int status = protocol_deliver(protocol, bytes);

	Py_DECREF(protocol);
	return status;
}

static int records_read_bytes(Records *self)
{
	size_t size = ciphertext_pending(self->incoming->memory) +
	              (size_t)openssl.SSL_pending(self->ssl) + (self->begun ? RECORD_BYTES : 0);
	size_t filled = 0;
	PyObject *bytes;
	int how, got, status = 0;

	if (size == 0)
		return READ_ALL;
	/* Plain text is shorter than what it came in. */
	bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (unlikely(bytes == NULL))
		return -1;
	for (;;) {
		how = records_decrypt(self, PyBytes_AS_STRING(bytes) + filled, size - filled, &got);
		filled += (size_t)got;
		if (unlikely(got == 0) || records_are_read(self))
			break;
		if (unlikely(filled == size)) {
			size += RECORD_BYTES + ciphertext_pending(self->incoming->memory);
			if (_PyBytes_Resize(&bytes, (Py_ssize_t)size) < 0)
				return -1;
		}
	}
	if (filled > 0) {
		if (filled != size && unlikely(_PyBytes_Resize(&bytes, (Py_ssize_t)filled) < 0))
			return -1;
		status = records_call_data_received(self, bytes);
	}
	Py_DECREF(bytes);
	return unlikely(status < 0) ? -1 : how;
}

/* The protocol's next buffer, which the caller releases; 0 or -1. */
static int records_get_buffer(Records *self, Py_buffer *view)
{
	PyObject *hint = PyLong_FromSize_t(ciphertext_pending(self->incoming->memory));
	PyObject *buffer = hint == NULL ? NULL : PyObject_CallOneArg(self->app_get_buffer, hint);
	int status = buffer == NULL ? -1 : PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);

	Py_XDECREF(hint);
	Py_XDECREF(buffer);
	if (likely(status == 0) && unlikely(view->len == 0)) {
		PyBuffer_Release(view);
		PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
		status = -1;
	}
	return status;
}

static int records_call_buffer_updated(Records *self, size_t filled)
{
	PyObject *count = PyLong_FromSize_t(filled);
	int status = count == NULL ? -1 : call_and_drop(self->app_buffer_updated, &count, 1);

	Py_XDECREF(count);
	return status;
}

static bool records_wants_data(const Records *self)
{
	return (self->state == state_wrapped || self->state == state_flushing) &&
	       !self->app_reading_paused;
}

static int records_read_to_buffers(Records *self)
{
	for (;;) {
		size_t filled = 0;
		bool more = true;
		int how = READ_ALL, got;
		Py_buffer view;

		if (unlikely(records_get_buffer(self, &view) < 0))
			return -1;
		while (more && filled < (size_t)view.len) {
			how = records_decrypt(self, (char *)view.buf + filled,
			                      (size_t)view.len - filled, &got);
			filled += (size_t)got;
			more = got > 0 && !records_are_read(self);
		}
		PyBuffer_Release(&view);
		if (filled > 0 && unlikely(records_call_buffer_updated(self, filled) < 0))
			return -1;
		if (!more || !records_wants_data(self))
			return how;
		if (unlikely(!self->app_is_buffer))
			return records_read_bytes(self);
	}
}

static int records_read(Records *self)
{
	return self->app_is_buffer ? records_read_to_buffers(self) : records_read_bytes(self);
}

/*
 * What follows when all was read.  _do_read() of asyncio's goes through it each time; here
 * it is called when there is something: an answer of OpenSSL's own, or a limit.
 */
static int records_after_read(Records *self)
{
	if (likely(ciphertext_pending(self->outgoing->memory) == 0 &&
	           ciphertext_pending(self->incoming->memory) == 0 &&
	           self->write_buffer_size == 0 && self->writes_freely &&
	           !self->app_writing_paused && !self->ssl_reading_paused))
		return 0;
	return call_method_and_drop((PyObject *)self, names._after_read, NULL);
}

int records_failed(Records *self)
{
	PyObject *args[3] = {(PyObject *)self, NULL, NULL}, *result = NULL;

	if (!PyErr_ExceptionMatches(PyExc_Exception))
		return -1;
	args[1] = PyErr_GetRaisedException();
	args[2] = PyUnicode_FromString("Fatal error on SSL protocol");
	if (args[2] != NULL)
		result = PyObject_VectorcallMethod(names._fatal_error, args, 3, NULL);
	Py_DECREF(args[1]);
	Py_XDECREF(args[2]);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

/* Keeps a failing status, and its exception. */
static int records_absorb(Records *self, int status)
{
	PyObject *exception;

	if (likely(self->incoming->memory->window_size == 0))
		return status;
	exception = PyErr_GetRaisedException();
	if (ciphertext_absorb(self->incoming->memory) < 0 && exception == NULL)
		return records_failed(self);
	if (exception != NULL)
		PyErr_SetRaisedException(exception);
	return status;
}

int records_received(struct stream_layer *layer, const char *data, size_t size)
{
	Records *self = container_of(layer, Records, layer);
	struct ciphertext *incoming = self->incoming->memory;
	int status;

	/* The protocol may end the connection. */
	Py_INCREF(self);
	incoming->window = data;
	incoming->window_size = size;
	if (likely(self->state == state_wrapped && !self->app_reading_paused)) {
		status = records_read(self);
		if (likely(status == READ_ALL))
			status = records_absorb(self, 0) < 0 ? -1 : records_after_read(self);
		else if (status == READ_REFUSED) {
			self->refused = true;
			status = call_method_and_drop((PyObject *)self, names._do_read, NULL);
		}
		if (unlikely(status < 0))
			status = records_failed(self);
	} else {
		status = call_method_and_drop((PyObject *)self, names._go_on, NULL);
	}
	status = records_absorb(self, status);
	Py_DECREF(self);
	return status;
}

PyObject *records_read_method(Records *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (self->ssl == NULL || self->refused) {
		self->refused = false;
		Py_RETURN_FALSE;
	}
	status = records_read(self);
	if (status < 0)
		return NULL;
	return PyBool_FromLong(status == READ_ALL);
}
