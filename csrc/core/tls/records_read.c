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
	READ_ENDED,           /* by close_notify, as Python's call will say */
	/*
	 * By an error, which waits in the thread's queue of OpenSSL for Python's call.  Nobody
	 * else may run before that, for whoever uses OpenSSL would find it there, or clear
	 * it: what was decrypted before is not delivered, as in asyncio.
	 */
	READ_FAILED,
};

/* As much as there is, of one record; READ_ALL or what else it was when there is nothing; -1. */
static int records_decrypt(Records *self, char *data, size_t size, int *got)
{
	int result = openssl.SSL_read(self->ssl, data, size < INT_MAX ? (int)size : INT_MAX);

	*got = result > 0 ? result : 0;
	if (likely(result > 0))
		return READ_ALL;
	/* SSL_get_error() would take what others have left in the queue for ours. */
	if (likely(openssl.SSL_want(self->ssl) == OPENSSL_READING)) {
		if (likely(ciphertext_pending(self->incoming->memory) == 0)) {
			self->begun = openssl.SSL_has_pending(self->ssl);
			return READ_ALL;
		}
		/* It wants what it has not taken: there was no memory to begin. */
		openssl.ERR_clear_error();
		PyErr_NoMemory();
		return -1;
	}
	return openssl.SSL_get_error(self->ssl, result) == OPENSSL_ERROR_ZERO_RETURN
		       ? READ_ENDED
		       : READ_FAILED;
}

static bool records_wants_data(const Records *self)
{
	return (self->state == state_wrapped || self->state == state_flushing) &&
	       !self->app_reading_paused;
}

/*
 * What was written before something is read leaves even if that is the connection's end.
 * 1; 0 when nothing is to be read any more; -1.
 */
static int records_seal_before(Records *self)
{
	if (likely(!self->layer.unsealed))
		return 1;
	return self->layer.seal(&self->layer) < 0 ? -1 : records_wants_data(self);
}

/* Nothing can be decrypted any more, for it reads no further than to a record's end. */
static bool records_are_read(Records *self)
{
	if (ciphertext_pending(self->incoming->memory) > 0 || openssl.SSL_pending(self->ssl) > 0)
		return false;
	self->begun = false;
	return true;
}

/* A new reference to an attribute, which the call that it is for may replace; or NULL. */
static PyObject *records_attribute(PyObject *value, const char *name)
{
	if (unlikely(value == NULL))
		PyErr_SetString(PyExc_AttributeError, name);
	return Py_XNewRef(value);
}

static int records_call_data_received(Records *self, PyObject *bytes)
{
	PyObject *protocol = records_attribute(self->app_protocol, "_app_protocol");
	int status = -1;

	if (likely(protocol != NULL))
		status = protocol_deliver(protocol, bytes);
	Py_XDECREF(protocol);
	return status;
}

static int records_read_bytes(Records *self)
{
	size_t size = ciphertext_pending(self->incoming->memory) +
	              (size_t)openssl.SSL_pending(self->ssl) + (self->begun ? RECORD_BYTES : 0);
	size_t filled = 0;
	PyObject *bytes;
	int how, got, status;

	if (size == 0)
		return READ_ALL;
	status = records_seal_before(self);
	if (unlikely(status <= 0))
		return status < 0 ? -1 : READ_ALL;
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
	if (filled > 0 && likely(how >= 0 && how != READ_FAILED)) {
		if (filled != size && unlikely(_PyBytes_Resize(&bytes, (Py_ssize_t)filled) < 0))
			return -1;
		if (unlikely(records_call_data_received(self, bytes) < 0))
			how = -1;
	}
	Py_DECREF(bytes);
	return how;
}

/* The protocol's next buffer, which the caller releases; 0 or -1. */
static int records_get_buffer(Records *self, Py_buffer *view)
{
	PyObject *hint = PyLong_FromSize_t(ciphertext_pending(self->incoming->memory));
	PyObject *get = records_attribute(self->app_get_buffer, "_app_protocol_get_buffer");
	PyObject *buffer = hint == NULL || get == NULL ? NULL : PyObject_CallOneArg(get, hint);
	int status = buffer == NULL ? -1 : PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);

	Py_XDECREF(hint);
	Py_XDECREF(get);
	/* As the read() of an SSLObject refuses it. */
	if (unlikely(status < 0 && buffer != NULL && PyErr_ExceptionMatches(PyExc_BufferError)))
		PyErr_Format(PyExc_TypeError,
		             "get_buffer() must return a read-write bytes-like object, not %.200s",
		             Py_TYPE(buffer)->tp_name);
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
	PyObject *updated = records_attribute(self->app_buffer_updated,
	                                      "_app_protocol_buffer_updated");
	PyObject *count = updated == NULL ? NULL : PyLong_FromSize_t(filled);
	int status = count == NULL ? -1 : call_and_drop(updated, &count, 1);

	Py_XDECREF(count);
	Py_XDECREF(updated);
	return status;
}

static int records_read_to_buffers(Records *self)
{
	for (;;) {
		size_t filled = 0;
		bool more = true;
		int how = READ_ALL, got, status;
		Py_buffer view;

		if (unlikely(records_get_buffer(self, &view) < 0))
			return -1;
		status = records_seal_before(self);
		if (unlikely(status <= 0)) {
			PyBuffer_Release(&view);
			return status < 0 ? -1 : READ_ALL;
		}
		while (more && filled < (size_t)view.len) {
			how = records_decrypt(self, (char *)view.buf + filled,
			                      (size_t)view.len - filled, &got);
			filled += (size_t)got;
			more = got > 0 && !records_are_read(self);
		}
		PyBuffer_Release(&view);
		if (unlikely(how < 0 || how == READ_FAILED))
			return how;
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
	if (likely(self->ssl != NULL && self->state == state_wrapped &&
	           !self->app_reading_paused)) {
		status = records_read(self);
		if (likely(status == READ_ALL))
			status = records_absorb(self, 0) < 0 ? -1 : records_after_read(self);
		else if (status > 0) {
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

	if (self->ssl == NULL)
		Py_RETURN_FALSE;
	status = self->refused ? READ_ENDED : records_read(self);
	self->refused = false;
	if (status < 0)
		return NULL;
	if (status == READ_ALL)
		Py_RETURN_TRUE;
	Py_RETURN_NONE;
}
