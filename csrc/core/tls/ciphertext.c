/* Ciphertext on its way between a socket and OpenSSL: memory with a BIO at its side. */
#include "ciphertext.h"

#include <limits.h>
#include <string.h>

static PyTypeObject *CiphertextType;

/* ---- the memory ----------------------------------------------------------------------------- */

/* The GIL may not be held. */
static void ciphertext_release(struct ciphertext *self)
{
	if (atomic_fetch_sub(&self->references, 1) > 1)
		return;
	PyMem_RawFree(self->data);
	PyMem_RawFree(self);
}

/* Forget what is empty: an idle connection keeps no memory. */
static void ciphertext_settle(struct ciphertext *self)
{
	if (self->begin < self->end)
		return;
	PyMem_RawFree(self->data);
	self->data = NULL;
	self->begin = self->end = self->capacity = 0;
}

/* 0, or -1 without memory. */
static int ciphertext_append(struct ciphertext *self, const char *data, size_t size)
{
	if (self->capacity - self->end < size) {
		size_t used = self->end - self->begin;

		if (self->begin > 0)
			memmove(self->data, self->data + self->begin, used);
		self->begin = 0;
		self->end = used;
		if (self->capacity - used < size) {
			size_t capacity = used + size > 2 * used ? used + size : 2 * used;
			char *grown = PyMem_RawRealloc(self->data, capacity);

			if (grown == NULL)
				return -1;
			self->data = grown;
			self->capacity = capacity;
		}
	}
	memcpy(self->data + self->end, data, size);
	self->end += size;
	return 0;
}

/* As many as there are, at most `size`. */
static size_t ciphertext_get(struct ciphertext *self, char *data, size_t size)
{
	size_t kept = self->end - self->begin, shown;

	if (kept > size)
		kept = size;
	if (kept > 0) {
		memcpy(data, self->data + self->begin, kept);
		self->begin += kept;
		ciphertext_settle(self);
	}
	shown = size - kept < self->window_size ? size - kept : self->window_size;
	if (shown > 0) {
		memcpy(data + kept, self->window, shown);
		self->window += shown;
		self->window_size -= shown;
	}
	return kept + shown;
}

int ciphertext_absorb(struct ciphertext *self)
{
	int status = 0;

	if (self->window_size > 0 &&
	    (status = ciphertext_append(self, self->window, self->window_size)) < 0)
		PyErr_NoMemory();
	self->window = NULL;
	self->window_size = 0;
	return status;
}

PyObject *ciphertext_take(struct ciphertext *self)
{
	PyObject *bytes = PyBytes_FromStringAndSize(self->data + self->begin,
	                                            (Py_ssize_t)(self->end - self->begin));

	if (bytes != NULL) {
		self->begin = self->end;
		ciphertext_settle(self);
	}
	return bytes;
}

/* ---- for OpenSSL, with or without the GIL --------------------------------------------------- */

static int bio_read(BIO *bio, char *data, int size)
{
	struct ciphertext *self = openssl.BIO_get_data(bio);
	size_t got = size > 0 ? ciphertext_get(self, data, (size_t)size) : 0;

	openssl.BIO_clear_flags(bio, OPENSSL_BIO_STATE);
	if (got > 0)
		return (int)got;
	/* Empty is not ended: a socket's end is told to asyncio's protocol, not to OpenSSL. */
	openssl.BIO_set_flags(bio, OPENSSL_BIO_RETRY_READ);
	return -1;
}

static int bio_write(BIO *bio, const char *data, int size)
{
	struct ciphertext *self = openssl.BIO_get_data(bio);

	openssl.BIO_clear_flags(bio, OPENSSL_BIO_STATE);
	if (size <= 0)
		return size;
	/* In order: once something went beside the room, the rest follows it. */
	if (self->end == self->begin && self->room_size - self->room_used >= (size_t)size) {
		memcpy(self->room + self->room_used, data, (size_t)size);
		self->room_used += (size_t)size;
		return size;
	}
	if (unlikely(ciphertext_append(self, data, (size_t)size) < 0)) {
		openssl_tell_no_memory();
		return -1;
	}
	return size;
}

static long bio_ctrl(BIO *bio, int command, long Py_UNUSED(number), void *Py_UNUSED(pointer))
{
	const struct ciphertext *self = openssl.BIO_get_data(bio);

	if (command == OPENSSL_BIO_CTRL_FLUSH)
		return 1;
	return command == OPENSSL_BIO_CTRL_PENDING ? (long)ciphertext_pending(self) : 0;
}

static int bio_destroy(BIO *bio)
{
	struct ciphertext *self = openssl.BIO_get_data(bio);

	if (self != NULL)
		ciphertext_release(self);
	openssl.BIO_set_data(bio, NULL);
	return 1;
}

/* Made once, kept by the process; NULL without memory. */
static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;
	int index;

	if (method != NULL)
		return method;
	index = openssl.BIO_get_new_index();
	if (index == -1)
		return NULL;
	method = openssl.BIO_meth_new(index | OPENSSL_BIO_SOURCE_SINK, "uring_loop ciphertext");
	if (method != NULL) {
		openssl.BIO_meth_set_read(method, bio_read);
		openssl.BIO_meth_set_write(method, bio_write);
		openssl.BIO_meth_set_ctrl(method, bio_ctrl);
		openssl.BIO_meth_set_destroy(method, bio_destroy);
	}
	return method;
}

BIO *ciphertext_bio(Ciphertext *self)
{
	const BIO_METHOD *method = bio_method();
	BIO *bio = method == NULL ? NULL : openssl.BIO_new(method);

	if (bio == NULL) {
		PyErr_NoMemory();
		return NULL;
	}
	atomic_fetch_add(&self->memory->references, 1);
	openssl.BIO_set_data(bio, self->memory);
	openssl.BIO_set_init(bio, 1);
	return bio;
}

/* ---- for asyncio: a MemoryBIO's methods ----------------------------------------------------- */

Ciphertext *ciphertext_new(void)
{
	Ciphertext *self = PyObject_New(Ciphertext, CiphertextType);

	if (self == NULL)
		return NULL;
	self->memory = PyMem_RawCalloc(1, sizeof(*self->memory));
	if (self->memory == NULL) {
		Py_DECREF(self);
		PyErr_NoMemory();
		return NULL;
	}
	atomic_init(&self->memory->references, 1);
	return self;
}

static void ciphertext_dealloc(Ciphertext *self)
{
	PyTypeObject *type = Py_TYPE(self);

	if (self->memory != NULL)
		ciphertext_release(self->memory);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyObject *ciphertext_read_method(Ciphertext *self, PyObject *args)
{
	Py_ssize_t size = -1;
	size_t pending = ciphertext_pending(self->memory);
	PyObject *bytes;

	if (!PyArg_ParseTuple(args, "|n:read", &size))
		return NULL;
	if (size < 0 || (size_t)size > pending)
		size = (Py_ssize_t)pending;
	bytes = PyBytes_FromStringAndSize(NULL, size);
	if (bytes != NULL)
		ciphertext_get(self->memory, PyBytes_AS_STRING(bytes), (size_t)size);
	return bytes;
}

static PyObject *ciphertext_write_method(Ciphertext *self, PyObject *data)
{
	Py_buffer view;
	Py_ssize_t size;
	int status;

	if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	size = view.len;
	status = ciphertext_absorb(self->memory);
	if (status == 0 && size > 0 &&
	    (status = ciphertext_append(self->memory, view.buf, (size_t)size)) < 0)
		PyErr_NoMemory();
	PyBuffer_Release(&view);
	return status < 0 ? NULL : PyLong_FromSsize_t(size);
}

static PyObject *ciphertext_get_pending(Ciphertext *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(ciphertext_pending(self->memory));
}

static PyMethodDef ciphertext_methods[] = {
	{"read", (PyCFunction)ciphertext_read_method, METH_VARARGS,
	 "read($self, size=-1, /)\n--\n\nAt most `size` bytes, or all, which are gone then."},
	{"write", (PyCFunction)ciphertext_write_method, METH_O,
	 "write($self, data, /)\n--\n\nAppend; gives the number of bytes."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef ciphertext_getters[] = {
	{"pending", (getter)ciphertext_get_pending, NULL, "The bytes that read() would give.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot ciphertext_slots[] = {
	{Py_tp_doc, "What was received and not decrypted, or encrypted and not sent."},
	{Py_tp_dealloc, ciphertext_dealloc},
	{Py_tp_methods, ciphertext_methods},
	{Py_tp_getset, ciphertext_getters},
	{0, NULL},
};

static PyType_Spec ciphertext_spec = {
	.name = "uring_loop._core.Ciphertext",
	.basicsize = sizeof(Ciphertext),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = ciphertext_slots,
};

int ciphertext_init_type(PyObject *module)
{
	CiphertextType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ciphertext_spec, NULL);
	return CiphertextType == NULL ? -1 : PyModule_AddType(module, CiphertextType);
}
