/*
 * The Python type of the stream transport: its methods and attributes.  What
 * Python may write more slowly (get_extra_info, repr, the limits) is in
 * uring_loop/streams.py.
 */
#include "stream.h"

#include <structmember.h>

PyTypeObject *StreamType;

static PyObject *stream_close_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_close(&self->base) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_abort_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_force_close(&self->base, Py_None) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_force_close_method(Stream *self, PyObject *exception)
{
	if (transport_force_close(&self->base, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* asyncio's own helpers (SSLProtocol) call it on the transport below them. */
static PyObject *stream_fatal_error_method(Stream *self, PyObject *args)
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

static PyObject *stream_call_connection_lost_method(Stream *self, PyObject *exception)
{
	if (self->base.state == TRANSPORT_LOST &&
	    transport_call_connection_lost(&self->base, exception) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_abandon_method(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state == TRANSPORT_JOINING)
		transport_abandon(&self->base);
	Py_RETURN_NONE;
}

static PyObject *stream_set_protocol_method(Stream *self, PyObject *protocol)
{
	if (self->base.kind->set_protocol(&self->base, protocol) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_get_protocol(Stream *self, PyObject *Py_UNUSED(ignored))
{
	return Py_NewRef(self->base.protocol == NULL ? Py_None : self->base.protocol);
}

static PyObject *stream_is_closing(Stream *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(self->base.state != TRANSPORT_OPEN);
}

static PyObject *stream_can_write_eof(Stream *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
	Py_RETURN_TRUE;
}

/* The limits are checked in streams.py. */
static PyObject *stream_set_limits(Stream *self, PyObject *args)
{
	Py_ssize_t high, low;

	if (!PyArg_ParseTuple(args, "nn:_set_limits", &high, &low))
		return NULL;
	self->base.high_water = (size_t)high;
	self->base.low_water = (size_t)low;
	if (self->base.state < TRANSPORT_LOST && stream_maybe_pause_protocol(&self->base) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *stream_make_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	if (self->empty_waiter != NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
		return NULL;
	}
	if (self->base.loop == NULL) {
		PyErr_SetString(PyExc_RuntimeError, "Transport is closed");
		return NULL;
	}
	if (stream_catch_up(&self->base) < 0)
		return NULL;
	self->empty_waiter = PyObject_CallMethodNoArgs((PyObject *)self->base.loop,
	                                               names.create_future);
	if (self->empty_waiter == NULL)
		return NULL;
	if (self->chunk_count == 0 && !self->base.protocol_paused &&
	    stream_settle_empty_waiter(self) < 0)
		return NULL;
	return Py_NewRef(self->empty_waiter);
}

static PyObject *stream_reset_empty_waiter(Stream *self, PyObject *Py_UNUSED(ignored))
{
	Py_CLEAR(self->empty_waiter);
	Py_RETURN_NONE;
}

/*
 * The queue is empty, and sendfile writes to the descriptor itself: it stays
 * open until it is given back, and whoever borrows it hears from the future
 * when the connection is lost.
 */
static PyObject *stream_lend_descriptor(Stream *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *loss;

	if (self->base.state >= TRANSPORT_LOST) {
		PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
		return NULL;
	}
	loss = PyObject_CallMethodNoArgs((PyObject *)self->base.loop, names.create_future);
	if (loss == NULL)
		return NULL;
	self->lent = true;
	Py_XSETREF(self->empty_waiter, loss);
	return Py_NewRef(loss);
}

static PyObject *stream_return_descriptor(Stream *self, PyObject *Py_UNUSED(ignored))
{
	self->lent = false;
	Py_CLEAR(self->empty_waiter);
	if (self->base.state == TRANSPORT_JOINING)
		transport_join(&self->base);
	Py_RETURN_NONE;
}

/* The socket object, made when first asked for. */
static PyObject *stream_get_sock(Stream *self, void *Py_UNUSED(closure))
{
	if (self->base.sock == NULL) {
		PyObject *fd;

		if (self->base.fd < 0 || self->base.fd_closed ||
		    self->base.state == TRANSPORT_CLOSED)
			Py_RETURN_NONE;
		fd = PyLong_FromLong(self->base.fd);
		if (fd == NULL)
			return NULL;
		self->base.sock = PyObject_CallOneArg(helpers.make_socket, fd);
		Py_DECREF(fd);
		if (self->base.sock == NULL)
			return NULL;
	}
	return Py_NewRef(self->base.sock);
}

static PyObject *stream_get_state(Stream *self, void *Py_UNUSED(closure))
{
	static const char *const states[] = {"open", "closing", "lost", "joining", "closed"};

	return PyUnicode_FromString(states[self->base.state]);
}

static PyObject *stream_get_protocol_attribute(Stream *self, void *Py_UNUSED(closure))
{
	return stream_get_protocol(self, NULL);
}

static PyObject *stream_get_loop(Stream *self, void *Py_UNUSED(closure))
{
	if (self->base.loop == NULL || self->base.state >= TRANSPORT_JOINING)
		Py_RETURN_NONE;
	return Py_NewRef((PyObject *)self->base.loop);
}

static PyObject *stream_get_read_polling(Stream *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->base.receive.link != NULL && !self->base.paused);
}

static PyObject *stream_get_write_polling(Stream *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->in_flight > 0);
}

PyDoc_STRVAR(stream_write_doc,
"write($self, data, /)\n--\n\n"
"Queue bytes for sending; never blocks.  What is written in one turn of the\n"
"loop leaves in one system call.\n\n"
"TypeError for what is not bytes-like; RuntimeError after write_eof().\n\n"
"Source: asyncio.WriteTransport.write.");
PyDoc_STRVAR(stream_writelines_doc,
"writelines($self, list_of_data, /)\n--\n\n"
"write() each item, without joining them.\n\nSource: asyncio.WriteTransport.writelines.");

static PyMethodDef stream_methods[] = {
	{"write", (PyCFunction)stream_write, METH_O, stream_write_doc},
	{"writelines", (PyCFunction)stream_writelines, METH_O, stream_writelines_doc},
	{"write_eof", (PyCFunction)stream_write_eof, METH_NOARGS,
	 "write_eof()\n--\n\nShut down the writing side when what is queued has left."},
	{"can_write_eof", (PyCFunction)stream_can_write_eof, METH_NOARGS,
	 "can_write_eof()\n--\n\nTrue."},
	{"get_write_buffer_size", (PyCFunction)stream_get_write_buffer_size, METH_NOARGS,
	 "get_write_buffer_size()\n--\n\nBytes that the kernel has not accepted yet."},
	{"pause_reading", (PyCFunction)stream_pause_reading, METH_NOARGS,
	 "pause_reading()\n--\n\nNo data_received() until resume_reading(); no byte is lost."},
	{"resume_reading", (PyCFunction)stream_resume_reading, METH_NOARGS,
	 "resume_reading()\n--\n\nGo on after pause_reading()."},
	{"is_reading", (PyCFunction)stream_is_reading, METH_NOARGS,
	 "is_reading()\n--\n\nWhether the protocol may get data."},
	{"close", (PyCFunction)stream_close_method, METH_NOARGS,
	 "close()\n--\n\nSend what is queued, then close; connection_lost(None) follows."},
	{"abort", (PyCFunction)stream_abort_method, METH_NOARGS,
	 "abort()\n--\n\nClose at once; what is queued is dropped."},
	{"is_closing", (PyCFunction)stream_is_closing, METH_NOARGS,
	 "is_closing()\n--\n\nWhether the transport is closing or closed."},
	{"set_protocol", (PyCFunction)stream_set_protocol_method, METH_O,
	 "set_protocol($self, protocol, /)\n--\n\nGive what comes next to another protocol."},
	{"get_protocol", (PyCFunction)stream_get_protocol, METH_NOARGS,
	 "get_protocol()\n--\n\nThe current protocol."},
	{"_force_close", (PyCFunction)stream_force_close_method, METH_O, NULL},
	{"_fatal_error", (PyCFunction)stream_fatal_error_method, METH_VARARGS, NULL},
	{"_call_connection_lost", (PyCFunction)stream_call_connection_lost_method, METH_O, NULL},
	{"_abandon", (PyCFunction)stream_abandon_method, METH_NOARGS, NULL},
	{"_start_reading", (PyCFunction)stream_start_reading_method, METH_NOARGS, NULL},
	{"_deliver_kept", (PyCFunction)stream_deliver_kept_method, METH_NOARGS, NULL},
	{"_set_limits", (PyCFunction)stream_set_limits, METH_VARARGS, NULL},
	{"_make_empty_waiter", (PyCFunction)stream_make_empty_waiter, METH_NOARGS, NULL},
	{"_reset_empty_waiter", (PyCFunction)stream_reset_empty_waiter, METH_NOARGS, NULL},
	{"_lend_descriptor", (PyCFunction)stream_lend_descriptor, METH_NOARGS, NULL},
	{"_return_descriptor", (PyCFunction)stream_return_descriptor, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getters[] = {
	{"_sock", (getter)stream_get_sock, NULL, NULL, NULL},
	{"_state", (getter)stream_get_state, NULL, NULL, NULL},
	{"_protocol", (getter)stream_get_protocol_attribute, NULL, NULL, NULL},
	{"_loop", (getter)stream_get_loop, NULL, NULL, NULL},
	{"_read_polling", (getter)stream_get_read_polling, NULL, NULL, NULL},
	{"_write_polling", (getter)stream_get_write_polling, NULL, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
	{"__weaklistoffset__", T_PYSSIZET, offsetof(Stream, base.weakrefs), READONLY, NULL},
	{"_fd", T_INT, offsetof(Stream, base.fd), READONLY, NULL},
	{"_raw_peername", T_OBJECT, offsetof(Stream, base.peername), READONLY, NULL},
	{"_raw_sockname", T_OBJECT, offsetof(Stream, base.sockname), READONLY, NULL},
	{"_high_water", T_PYSSIZET, offsetof(Stream, base.high_water), READONLY, NULL},
	{"_low_water", T_PYSSIZET, offsetof(Stream, base.low_water), READONLY, NULL},
	{"_queued_bytes", T_PYSSIZET, offsetof(Stream, base.queued_bytes), READONLY, NULL},
	{"_conn_lost", T_UINT, offsetof(Stream, base.losses), READONLY, NULL},
	{"_eof", T_BOOL, offsetof(Stream, eof), READONLY, NULL},
	{"_paused", T_BOOL, offsetof(Stream, base.paused), READONLY, NULL},
	{"_protocol_paused", T_BOOL, offsetof(Stream, base.protocol_paused), READONLY, NULL},
	{"_empty_waiter", T_OBJECT, offsetof(Stream, empty_waiter), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
	{Py_tp_doc, "A connected stream socket; the hot half of StreamTransport."},
	{Py_tp_new, stream_new},
	{Py_tp_init, stream_init},
	{Py_tp_finalize, transport_finalize},
	{Py_tp_dealloc, stream_dealloc},
	{Py_tp_traverse, stream_traverse},
	{Py_tp_clear, stream_clear},
	{Py_tp_methods, stream_methods},
	{Py_tp_getset, stream_getters},
	{Py_tp_members, stream_members},
	{0, NULL},
};

static PyType_Spec stream_spec = {
	.name = "uring_loop._core.Stream",
	.basicsize = sizeof(Stream),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = stream_slots,
};

int stream_init_types(PyObject *module)
{
	PyObject *transports = PyImport_ImportModule("asyncio.transports");
	PyObject *base = NULL, *bases;

	if (transports != NULL)
		base = PyObject_GetAttrString(transports, "Transport");
	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* asyncio.Transport's instances consist of one slot, _extra: ours begin with it. */
	if (((PyTypeObject *)base)->tp_basicsize != offsetof(Stream, base.kind)) {
		Py_DECREF(base);
		PyErr_SetString(PyExc_ImportError,
		                "asyncio.Transport of this Python has an unknown layout");
		return -1;
	}
	bases = PyTuple_Pack(1, base);
	Py_DECREF(base);
	if (bases == NULL)
		return -1;
	StreamType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec, bases);
	Py_DECREF(bases);
	if (StreamType == NULL)
		return -1;
	return PyModule_AddType(module, StreamType);
}
