/*
 * TLS records of a connection: how OpenSSL's object gets BIOs of ours, and the Python type
 * that TLSProtocol is made of.  The attributes of asyncio's SSLProtocol that C looks at
 * are its members, under asyncio's names, so that there is one truth.
 */
#include "records.h"

#include <structmember.h>

PyTypeObject *RecordsType;

/* ---- the beginning and the end of a connection ---------------------------------------------- */

PyDoc_STRVAR(records_open_doc,
"_open_records($self, socket, incoming, outgoing, /)\n--\n\n"
"Put BIOs of ours in the place of the MemoryBIOs of an _ssl._SSLSocket.\n\n"
"Gives what stands for the two MemoryBIOs from then on, or None when OpenSSL's object is\n"
"not where it is expected.");

static PyObject *records_open(Records *self, PyObject *const *args, Py_ssize_t nargs)
{
	BIO *bios[2] = {NULL, NULL};
	SSL *ssl;

	if (nargs != 3) {
		PyErr_SetString(PyExc_TypeError, "_open_records() takes exactly 3 arguments");
		return NULL;
	}
	if (self->ssl != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "_open_records() was called before");
		return NULL;
	}
	ssl = openssl_inside(args[0], args[1], args[2]);
	if (ssl == NULL)
		Py_RETURN_NONE;
	self->incoming = ciphertext_new();
	self->outgoing = self->incoming == NULL ? NULL : ciphertext_new();
	if (self->outgoing != NULL)
		bios[0] = ciphertext_bio(self->incoming);
	if (bios[0] != NULL)
		bios[1] = ciphertext_bio(self->outgoing);
	if (bios[1] == NULL) {
		if (bios[0] != NULL)
			openssl.BIO_free(bios[0]);
		Py_CLEAR(self->incoming);
		Py_CLEAR(self->outgoing);
		return NULL;
	}
	/* It takes both, and lets go of those it had. */
	openssl.SSL_set_bio(ssl, bios[0], bios[1]);
	self->socket = Py_NewRef(args[0]);
	self->ssl = ssl;
	return PyTuple_Pack(2, self->incoming, self->outgoing);
}

PyDoc_STRVAR(records_leave_doc,
"_leave_records($self, /)\n--\n\n"
"From now on all is done by Python's own calls, through the same memory.");

static PyObject *records_leave(Records *self, PyObject *Py_UNUSED(ignored))
{
	self->ssl = NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(records_attach_doc,
"_attach($self, transport, /)\n--\n\n"
"connection_made(): what a stream of ours receives is decrypted on the way.");

static PyObject *records_attach(Records *self, PyObject *transport)
{
	if (self->ssl != NULL && PyObject_TypeCheck(transport, StreamType) &&
	    ((Stream *)transport)->base.protocol == (PyObject *)self) {
		self->stream = (Stream *)transport;
		self->stream->layer = &self->layer;
	}
	Py_RETURN_NONE;
}

/* The stream may be another's already, or gone: then it has no layer of ours. */
static void records_let_go(Records *self)
{
	Stream *stream = records_stream(self);

	if (stream != NULL && stream->layer == &self->layer)
		stream->layer = NULL;
	self->stream = NULL;
	records_drop_pieces(self);
}

static PyObject *records_detach(Records *self, PyObject *Py_UNUSED(ignored))
{
	records_let_go(self);
	Py_RETURN_NONE;
}

/* ---- memory --------------------------------------------------------------------------------- */

static PyObject *records_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                             PyObject *Py_UNUSED(kwargs))
{
	Records *self = (Records *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->layer.received = records_received;
	self->layer.seal = records_seal;
	self->writes_freely = true;
	return (PyObject *)self;
}

static int records_traverse(Records *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->state);
	Py_VISIT(self->transport);
	Py_VISIT(self->sslobj);
	Py_VISIT(self->app_protocol);
	Py_VISIT(self->app_get_buffer);
	Py_VISIT(self->app_buffer_updated);
	Py_VISIT(self->socket);
	return 0;
}

static int records_clear(Records *self)
{
	records_let_go(self);
	self->ssl = NULL;
	Py_CLEAR(self->socket);
	Py_CLEAR(self->incoming);
	Py_CLEAR(self->outgoing);
	Py_CLEAR(self->state);
	Py_CLEAR(self->transport);
	Py_CLEAR(self->sslobj);
	Py_CLEAR(self->app_protocol);
	Py_CLEAR(self->app_get_buffer);
	Py_CLEAR(self->app_buffer_updated);
	return 0;
}

static void records_dealloc(Records *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	records_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

/* ---- the type ------------------------------------------------------------------------------- */

static PyMethodDef records_methods[] = {
	{"_open_records", FASTCALL(records_open), METH_FASTCALL, records_open_doc},
	{"_leave_records", (PyCFunction)records_leave, METH_NOARGS, records_leave_doc},
	{"_attach", (PyCFunction)records_attach, METH_O, records_attach_doc},
	{"_detach", (PyCFunction)records_detach, METH_NOARGS,
	 "_detach($self, /)\n--\n\nconnection_lost(): what was not sent is dropped."},
	{"_read_records", (PyCFunction)records_read_method, METH_NOARGS,
	 "_read_records($self, /)\n--\n\nGive the protocol what can be decrypted.\n\n"
	 "False: that is for Python's own calls.\n"
	 "None: it has ended, or failed, as these will say."},
	{"_seal", (PyCFunction)records_seal_method, METH_NOARGS,
	 "_seal($self, /)\n--\n\n"
	 "Encrypt what was written in this turn, and give it to the stream."},
	{NULL, NULL, 0, NULL},
};

#define MEMBER(name, type, field) {name, type, offsetof(Records, field), 0, NULL}
static PyMemberDef records_members[] = {
	MEMBER("_state", T_OBJECT_EX, state),
	MEMBER("_transport", T_OBJECT_EX, transport),
	MEMBER("_sslobj", T_OBJECT_EX, sslobj),
	MEMBER("_app_protocol", T_OBJECT_EX, app_protocol),
	MEMBER("_app_protocol_get_buffer", T_OBJECT_EX, app_get_buffer),
	MEMBER("_app_protocol_buffer_updated", T_OBJECT_EX, app_buffer_updated),
	MEMBER("_write_buffer_size", T_PYSSIZET, write_buffer_size),
	MEMBER("_app_protocol_is_buffer", T_BOOL, app_is_buffer),
	MEMBER("_app_reading_paused", T_BOOL, app_reading_paused),
	MEMBER("_app_writing_paused", T_BOOL, app_writing_paused),
	MEMBER("_ssl_reading_paused", T_BOOL, ssl_reading_paused),
	MEMBER("_ssl_writing_paused", T_BOOL, ssl_writing_paused),
	MEMBER("_writes_freely", T_BOOL, writes_freely),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot records_slots[] = {
	{Py_tp_doc, "The records of a TLS connection; the hot half of TLSProtocol."},
	{Py_tp_new, records_new},
	{Py_tp_dealloc, records_dealloc},
	{Py_tp_traverse, records_traverse},
	{Py_tp_clear, records_clear},
	{Py_tp_methods, records_methods},
	{Py_tp_members, records_members},
	{0, NULL},
};

static PyType_Spec records_spec = {
	.name = "uring_loop._core.Records",
	.basicsize = sizeof(Records),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = records_slots,
};

int records_init_types(PyObject *module)
{
	RecordsType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &records_spec, NULL);
	if (RecordsType == NULL || PyModule_AddType(module, RecordsType) < 0)
		return -1;
	return ciphertext_init_type(module);
}
