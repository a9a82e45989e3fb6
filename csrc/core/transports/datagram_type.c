/*
 * The Python type of the datagram transport: what it has beyond its base class.
 * What Python may write more slowly (get_extra_info, repr, the limits) is in
 * uring_loop/transports.py.
 */
#include "datagram.h"

#include <structmember.h>

static PyTypeObject *DatagramType;

PyDoc_STRVAR(datagram_sendto_doc,
"sendto($self, data, addr=None)\n--\n\n"
"Send one datagram at once, or queue it when the socket is full; never blocks.\n\n"
"addr: where to; None on a socket with a peer.  What the network says goes to\n"
"the protocol's error_received().  TypeError for data that is not bytes-like,\n"
"ValueError for another address than remote_addr.\n\n"
"Source: asyncio.DatagramTransport.sendto.");

static PyMethodDef datagram_methods[] = {
	{"sendto", FASTCALL(datagram_sendto), METH_FASTCALL | METH_KEYWORDS, datagram_sendto_doc},
	{"_deliver_kept", (PyCFunction)datagram_deliver_kept_method, METH_NOARGS, NULL},
	{"_wait_for_room", (PyCFunction)datagram_wait_for_room, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef datagram_members[] = {
	{"_sock", T_OBJECT, offsetof(Datagram, base.sock), READONLY, NULL},
	{"_address", T_OBJECT, offsetof(Datagram, address), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
	{Py_tp_doc, "A datagram socket; the hot half of DatagramTransport."},
	{Py_tp_new, datagram_new},
	{Py_tp_init, datagram_init},
	{Py_tp_dealloc, datagram_dealloc},
	{Py_tp_traverse, datagram_traverse},
	{Py_tp_clear, datagram_clear},
	{Py_tp_methods, datagram_methods},
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
	PyObject *base = NULL, *bases;

	if (transports != NULL)
		base = PyObject_GetAttrString(transports, "DatagramTransport");
	Py_XDECREF(transports);
	if (base == NULL)
		return -1;
	/* asyncio's own is both, though a datagram transport has no use for write(). */
	bases = PyTuple_Pack(2, (PyObject *)TransportType, base);
	Py_DECREF(base);
	if (bases == NULL)
		return -1;
	DatagramType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &datagram_spec, bases);
	Py_DECREF(bases);
	return DatagramType == NULL ? -1 : PyModule_AddType(module, DatagramType);
}
