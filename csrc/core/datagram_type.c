/*
 * The Python type of the datagram transport: its methods and attributes.  What
 * Python may write more slowly (get_extra_info, repr, the limits) is in
 * uring_loop/datagrams.py.
 */
#include "datagram.h"

#include <structmember.h>

static PyTypeObject *DatagramType;

static PyObject *datagram_close_method(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_close(&self->base) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_abort_method(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_force_close(&self->base, Py_None) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_force_close_method(Datagram *self, PyObject *exception)
{
	if (transport_force_close(&self->base, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_fatal_error_method(Datagram *self, PyObject *args)
{
	const char *message = "Fatal error on transport";
	PyObject *exception;

	if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exception, &message))
		return NULL;
	if (self->base.state < TRANSPORT_JOINING &&
	    transport_report(&self->base, exception, message) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_call_connection_lost_method(Datagram *self, PyObject *exception)
{
	if (self->base.state == TRANSPORT_LOST &&
	    transport_call_connection_lost(&self->base, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_abandon_method(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state == TRANSPORT_JOINING)
		transport_abandon(&self->base);
	Py_RETURN_NONE;
}

static PyObject *datagram_set_protocol_method(Datagram *self, PyObject *protocol)
{
	if (self->base.kind->set_protocol(&self->base, protocol) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_get_protocol(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	return Py_NewRef(self->base.protocol == NULL ? Py_None : self->base.protocol);
}

static PyObject *datagram_is_closing(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->base.state != TRANSPORT_OPEN);
}

static PyObject *datagram_get_write_buffer_size(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	return PyLong_FromSize_t(self->base.queued_bytes);
}

/* The limits are checked in Python. */
static PyObject *datagram_set_limits(Datagram *self, PyObject *args)
{
	Py_ssize_t high, low;

	if (!PyArg_ParseTuple(args, "nn:_set_limits", &high, &low))
		return NULL;
	self->base.high_water = (size_t)high;
	self->base.low_water = (size_t)low;
	if (self->base.state < TRANSPORT_LOST && datagram_maybe_pause_protocol(&self->base) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *datagram_get_state(Datagram *self, void *Py_UNUSED(closure))
{
	static const char *const states[] = {"open", "closing", "lost", "joining", "closed"};

	return PyUnicode_FromString(states[self->base.state]);
}

static PyObject *datagram_get_protocol_attribute(Datagram *self, void *Py_UNUSED(closure))
{
	return datagram_get_protocol(self, NULL);
}

static PyObject *datagram_get_loop(Datagram *self, void *Py_UNUSED(closure))
{
	if (self->base.loop == NULL || self->base.state >= TRANSPORT_JOINING)
		Py_RETURN_NONE;
	return Py_NewRef((PyObject *)self->base.loop);
}

static PyObject *datagram_get_read_polling(Datagram *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->base.receive.link != NULL && !self->base.paused);
}

static PyObject *datagram_get_write_polling(Datagram *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->base.send.link != NULL);
}

PyDoc_STRVAR(datagram_sendto_doc,
"sendto($self, data, addr=None)\n--\n\n"
"Send one datagram at once, or queue it when the socket is full; never blocks.\n\n"
"addr: where to; None on a socket with a peer.  What the network says goes to\n"
"the protocol's error_received().  TypeError for data that is not bytes-like,\n"
"ValueError for another address than remote_addr.\n\n"
"Source: asyncio.DatagramTransport.sendto.");

static PyMethodDef datagram_methods[] = {
	{"sendto", FASTCALL(datagram_sendto), METH_FASTCALL | METH_KEYWORDS, datagram_sendto_doc},
	{"get_write_buffer_size", (PyCFunction)datagram_get_write_buffer_size, METH_NOARGS,
	 "get_write_buffer_size()\n--\n\nBytes of the datagrams that wait for room."},
	{"pause_reading", (PyCFunction)datagram_pause_reading, METH_NOARGS,
	 "pause_reading()\n--\n\nNo datagram_received() until resume_reading()."},
	{"resume_reading", (PyCFunction)datagram_resume_reading, METH_NOARGS,
	 "resume_reading()\n--\n\nGo on after pause_reading()."},
	{"is_reading", (PyCFunction)datagram_is_reading, METH_NOARGS,
	 "is_reading()\n--\n\nWhether the protocol may get datagrams."},
	{"close", (PyCFunction)datagram_close_method, METH_NOARGS,
	 "close()\n--\n\nSend what is queued, then close; connection_lost(None) follows."},
	{"abort", (PyCFunction)datagram_abort_method, METH_NOARGS,
	 "abort()\n--\n\nClose at once; what is queued is dropped."},
	{"is_closing", (PyCFunction)datagram_is_closing, METH_NOARGS,
	 "is_closing()\n--\n\nWhether the transport is closing or closed."},
	{"set_protocol", (PyCFunction)datagram_set_protocol_method, METH_O,
	 "set_protocol($self, protocol, /)\n--\n\nGive what comes next to another protocol."},
	{"get_protocol", (PyCFunction)datagram_get_protocol, METH_NOARGS,
	 "get_protocol()\n--\n\nThe current protocol."},
	{"_force_close", (PyCFunction)datagram_force_close_method, METH_O, NULL},
	{"_fatal_error", (PyCFunction)datagram_fatal_error_method, METH_VARARGS, NULL},
	{"_call_connection_lost", (PyCFunction)datagram_call_connection_lost_method, METH_O, NULL},
	{"_abandon", (PyCFunction)datagram_abandon_method, METH_NOARGS, NULL},
	{"_start_reading", (PyCFunction)datagram_start_reading_method, METH_NOARGS, NULL},
	{"_deliver_kept", (PyCFunction)datagram_deliver_kept_method, METH_NOARGS, NULL},
	{"_set_limits", (PyCFunction)datagram_set_limits, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef datagram_getters[] = {
	{"_state", (getter)datagram_get_state, NULL, NULL, NULL},
	{"_protocol", (getter)datagram_get_protocol_attribute, NULL, NULL, NULL},
	{"_loop", (getter)datagram_get_loop, NULL, NULL, NULL},
	{"_read_polling", (getter)datagram_get_read_polling, NULL, NULL, NULL},
	{"_write_polling", (getter)datagram_get_write_polling, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef datagram_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(Datagram, base.weakrefs), READONLY, NULL},
	{"_sock", T_OBJECT, offsetof(Datagram, base.sock), READONLY, NULL},
	{"_fd", T_INT, offsetof(Datagram, base.fd), READONLY, NULL},
	{"_address", T_OBJECT, offsetof(Datagram, address), READONLY, NULL},
	{"_raw_peername", T_OBJECT, offsetof(Datagram, base.peername), READONLY, NULL},
	{"_raw_sockname", T_OBJECT, offsetof(Datagram, base.sockname), READONLY, NULL},
	{"_high_water", T_PYSSIZET, offsetof(Datagram, base.high_water), READONLY, NULL},
	{"_low_water", T_PYSSIZET, offsetof(Datagram, base.low_water), READONLY, NULL},
	{"_queued_bytes", T_PYSSIZET, offsetof(Datagram, base.queued_bytes), READONLY, NULL},
	{"_conn_lost", T_UINT, offsetof(Datagram, base.losses), READONLY, NULL},
	{"_paused", T_BOOL, offsetof(Datagram, base.paused), READONLY, NULL},
	{"_protocol_paused", T_BOOL, offsetof(Datagram, base.protocol_paused), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
	{Py_tp_doc, "A datagram socket; the hot half of DatagramTransport."},
	{Py_tp_new, datagram_new},
	{Py_tp_init, datagram_init},
	{Py_tp_finalize, transport_finalize},
	{Py_tp_dealloc, datagram_dealloc},
	{Py_tp_traverse, datagram_traverse},
	{Py_tp_clear, datagram_clear},
	{Py_tp_methods, datagram_methods},
	{Py_tp_getset, datagram_getters},
	{Py_tp_members, datagram_members},
	{0, NULL},
};

static PyType_Spec datagram_spec = {
	.name = "uring_loop._core.Datagram",
	.basicsize = sizeof(Datagram),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = datagram_slots,
};

int datagram_init_types(PyObject *module)
{
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *stream, *datagram, *bases = NULL;
	PyTypeObject *base;

	if (transports == NULL)
		return -1;
	/* asyncio's own is both, though a datagram transport has no use for write(). */
	stream = PyObject_GetAttrString(transports, "Transport");
	datagram = PyObject_GetAttrString(transports, "DatagramTransport");
	Py_DECREF(transports);
	if (stream != NULL && datagram != NULL)
		bases = PyTuple_Pack(2, stream, datagram);
	Py_XDECREF(stream);
	Py_XDECREF(datagram);
	if (bases == NULL)
		return -1;
	/* Their instances consist of one slot, _extra: ours begin with it. */
	base = (PyTypeObject *)PyTuple_GET_ITEM(bases, 0);
	if (base->tp_basicsize != offsetof(Datagram, base.kind)) {
		Py_DECREF(bases);
		PyErr_SetString(PyExc_ImportError,
		                "asyncio.Transport of this Python has an unknown layout");
		return -1;
	}
	DatagramType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &datagram_spec, bases);
	Py_DECREF(bases);
	if (DatagramType == NULL)
		return -1;
	return PyModule_AddType(module, DatagramType);
}
