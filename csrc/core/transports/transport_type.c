/*
 * The base class of both transports' Python types: their common methods and
 * attributes.  It has no instances of its own.
 */
#include "calls.h"
#include "transport.h"
#include "transport_read.h"

#include <structmember.h>

PyTypeObject *TransportType;

static PyObject *transport_close_method(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_close(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_abort_method(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_force_close(self, Py_None) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_force_close_method(struct transport *self, PyObject *exception)
{
	if (transport_force_close(self, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* asyncio's own helpers (SSLProtocol) call it on the transport below them. */
static PyObject *transport_fatal_error_method(struct transport *self, PyObject *args)
{
	const char *message = "Fatal error on transport";
	PyObject *exception;

	if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exception, &message))
		return NULL;
	if (self->state < TRANSPORT_JOINING && transport_report(self, exception, message) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_call_connection_lost_method(struct transport *self,
                                                       PyObject *exception)
{
	if (self->state == TRANSPORT_LOST && transport_call_connection_lost(self, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_set_protocol_method(struct transport *self, PyObject *protocol)
{
	if (self->kind->set_protocol(self, protocol) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_get_protocol(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	return Py_NewRef(self->protocol == NULL ? Py_None : self->protocol);
}

static PyObject *transport_is_closing(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->state != TRANSPORT_OPEN);
}

static PyObject *transport_get_write_buffer_size(struct transport *self,
                                                 PyObject *Py_UNUSED(ignored))
{
	Py_ssize_t size = self->kind->backlog != NULL ? self->kind->backlog(self)
	                                              : (Py_ssize_t)self->queued_bytes;

	return size < 0 ? NULL : PyLong_FromSsize_t(size);
}

/* The limits are checked in transports.py. */
static PyObject *transport_set_limits(struct transport *self, PyObject *args)
{
	Py_ssize_t high, low;

	if (!PyArg_ParseTuple(args, "nn:_set_limits", &high, &low))
		return NULL;
	self->high_water = (size_t)high;
	self->low_water = (size_t)low;
	if (self->state < TRANSPORT_LOST && transport_maybe_pause_protocol(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *transport_get_state(struct transport *self, void *Py_UNUSED(closure))
{
	static const char *const states[] = {"open", "closing", "lost", "joining", "closed"};

	return PyUnicode_FromString(states[self->state]);
}

static PyObject *transport_get_protocol_attribute(struct transport *self,
                                                  void *Py_UNUSED(closure))
{
	return transport_get_protocol(self, NULL);
}

static PyObject *transport_get_loop(struct transport *self, void *Py_UNUSED(closure))
{
	if (self->loop == NULL || self->state >= TRANSPORT_JOINING)
		Py_RETURN_NONE;
	return Py_NewRef((PyObject *)self->loop);
}

static PyObject *transport_get_read_polling(struct transport *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->receive.link != NULL && !self->paused);
}

static PyObject *transport_get_write_polling(struct transport *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->send.link != NULL);
}

static PyObject *transport_get_closing(struct transport *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->state != TRANSPORT_OPEN);
}

/* STARTTLS of old: asyncio's protocol is an attribute like any other. */
static int transport_set_protocol_attribute(struct transport *self, PyObject *protocol,
                                            void *Py_UNUSED(closure))
{
	if (protocol == NULL) {
		PyErr_SetString(PyExc_AttributeError, "_protocol cannot be deleted; set it");
		return -1;
	}
	return self->kind->set_protocol(self, protocol);
}

static PyMethodDef transport_methods[] = {
	{"get_write_buffer_size", (PyCFunction)transport_get_write_buffer_size, METH_NOARGS,
	 "get_write_buffer_size($self, /)\n--\n\nBytes that the kernel has not accepted yet."},
	{"pause_reading", (PyCFunction)transport_pause_reading, METH_NOARGS,
	 "pause_reading($self, /)\n--\n\nNothing for the protocol until resume_reading()."},
	{"resume_reading", (PyCFunction)transport_resume_reading, METH_NOARGS,
	 "resume_reading($self, /)\n--\n\nGo on after pause_reading()."},
	{"is_reading", (PyCFunction)transport_is_reading, METH_NOARGS,
	 "is_reading($self, /)\n--\n\nWhether the protocol may get data."},
	{"close", (PyCFunction)transport_close_method, METH_NOARGS,
	 "close($self, /)\n--\n\nSend what is queued, then close; connection_lost(None) follows."},
	{"abort", (PyCFunction)transport_abort_method, METH_NOARGS,
	 "abort($self, /)\n--\n\nClose at once; what is queued is dropped."},
	{"is_closing", (PyCFunction)transport_is_closing, METH_NOARGS,
	 "is_closing($self, /)\n--\n\nWhether the transport is closing or closed."},
	{"set_protocol", (PyCFunction)transport_set_protocol_method, METH_O,
	 "set_protocol($self, protocol, /)\n--\n\nGive what comes next to another protocol."},
	{"get_protocol", (PyCFunction)transport_get_protocol, METH_NOARGS,
	 "get_protocol($self, /)\n--\n\nThe current protocol."},
	{"_force_close", (PyCFunction)transport_force_close_method, METH_O, NULL},
	{"_fatal_error", (PyCFunction)transport_fatal_error_method, METH_VARARGS, NULL},
	{"_call_connection_lost", (PyCFunction)transport_call_connection_lost_method, METH_O,
	 NULL},
	{"_start_reading", (PyCFunction)transport_start_reading, METH_NOARGS, NULL},
	{"_set_limits", (PyCFunction)transport_set_limits, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef transport_getters[] = {
	{"_state", (getter)transport_get_state, NULL, NULL, NULL},
	{"_protocol", (getter)transport_get_protocol_attribute,
	 (setter)transport_set_protocol_attribute, NULL, NULL},
	{"_closing", (getter)transport_get_closing, NULL, NULL, NULL},
	{"_loop", (getter)transport_get_loop, NULL, NULL, NULL},
	{"_read_polling", (getter)transport_get_read_polling, NULL, NULL, NULL},
	{"_write_polling", (getter)transport_get_write_polling, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

#define MEMBER(name, type, field) {name, type, offsetof(struct transport, field), READONLY, NULL}
static PyMemberDef transport_members[] = {
	MEMBER("__weaklistoffset__", T_PYSSIZET, weakrefs),
	MEMBER("_fd", T_INT, fd),
	MEMBER("_sock_fd", T_INT, fd), /* asyncio's name of it */
	MEMBER("_raw_peername", T_OBJECT, peername),
	MEMBER("_raw_sockname", T_OBJECT, sockname),
	MEMBER("_high_water", T_PYSSIZET, high_water),
	MEMBER("_low_water", T_PYSSIZET, low_water),
	MEMBER("_queued_bytes", T_PYSSIZET, queued_bytes),
	MEMBER("_conn_lost", T_UINT, losses),
	MEMBER("_paused", T_BOOL, paused),
	MEMBER("_protocol_paused", T_BOOL, protocol_paused),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot transport_slots[] = {
	{Py_tp_doc, "A socket with a protocol: what streams and datagrams have in common."},
	{Py_tp_finalize, transport_finalize},
	{Py_tp_traverse, transport_traverse},
	{Py_tp_clear, transport_clear},
	{Py_tp_methods, transport_methods},
	{Py_tp_getset, transport_getters},
	{Py_tp_members, transport_members},
	{0, NULL},
};

static PyType_Spec transport_spec = {
	.name = "uring_loop._core.Transport",
	.basicsize = sizeof(struct transport),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
	         Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = transport_slots,
};

int transport_init_types(PyObject *module)
{
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *base = NULL;

	if (transports != NULL)
		base = PyObject_GetAttrString(transports, "Transport");
	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* asyncio.Transport's instances consist of one slot, _extra: ours begin with it. */
	if (((PyTypeObject *)base)->tp_basicsize == offsetof(struct transport, kind))
		TransportType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &transport_spec,
		                                                         base);
	else
		PyErr_SetString(PyExc_ImportError,
		                "asyncio.Transport of this Python has an unknown layout");
	Py_DECREF(base);
	return TransportType == NULL ? -1 : 0;
}
