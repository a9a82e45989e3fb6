/*
 * ClientList: the open transports of a server, in the order in which they came.
 *
 * Borrowed pointers, linked through the transports: a transport that everybody
 * has abandoned must still be found out.  Each enters when it is made and leaves
 * when its connection is lost.
 */
#include "clients.h"
#include "transport.h"

#include <structmember.h>

static PyTypeObject *ClientListType;

struct ClientList {
	PyObject_HEAD struct transport *first, *last; /* borrowed */
	char closed;                    /* the server takes no more */
};

int client_enter(struct transport *self, PyObject *server)
{
	ClientList *list = (ClientList *)server;

	if (!PyObject_TypeCheck(server, ClientListType)) {
		PyErr_Format(PyExc_TypeError, "server must be a Server of this loop, not %s",
		             Py_TYPE(server)->tp_name);
		return -1;
	}
	/* As asyncio's Server._attach(). */
	if (list->closed) {
		PyErr_SetString(PyExc_AssertionError,
		                "the server was closed before its connection was opened");
		return -1;
	}
	self->server = (ClientList *)Py_NewRef(server);
	self->client_previous = list->last;
	if (list->last != NULL)
		list->last->client_next = self;
	else
		list->first = self;
	list->last = self;
	return 0;
}

/* The server that it has left, which is the caller's to release, or NULL. */
static ClientList *client_unlink(struct transport *self)
{
	ClientList *list = self->server;
	struct transport *next = self->client_next, *previous = self->client_previous;

	if (list == NULL)
		return NULL;
	*(previous != NULL ? &previous->client_next : &list->first) = next;
	*(next != NULL ? &next->client_previous : &list->last) = previous;
	self->client_next = self->client_previous = NULL;
	self->server = NULL;
	return list;
}

void client_leave(struct transport *self)
{
	ClientList *list = client_unlink(self);

	if (list == NULL)
		return;
	/* The last one may be waited for. */
	if (list->closed && list->first == NULL &&
	    call_method_and_drop((PyObject *)list, names._detach, NULL) < 0)
		PyErr_WriteUnraisable((PyObject *)list);
	Py_DECREF(list);
}

void client_forget(struct transport *self)
{
	Py_XDECREF(client_unlink(self));
}

static PyObject *clients_open(ClientList *self, void *Py_UNUSED(closure))
{
	PyObject *transports = PyList_New(0);
	struct transport *each = self->first;

	/* Appending runs nobody's code, so that the links stay as they are.  Some may be dying. */
	for (; transports != NULL && each != NULL; each = each->client_next) {
		if (Py_REFCNT(each) > 0 && PyList_Append(transports, (PyObject *)each) < 0)
			Py_CLEAR(transports);
	}
	return transports;
}

static void clients_dealloc(ClientList *self)
{
	PyTypeObject *type = Py_TYPE(self);

	/* Each transport in it has a reference to us. */
	assert(self->first == NULL);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyGetSetDef clients_getters[] = {
	{"_clients", (getter)clients_open, NULL, "A list of the open transports.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef clients_members[] = {
	{"_clients_closed", T_BOOL, offsetof(ClientList, closed), 0,
	 "Whether a connection that comes now is refused, and _detach() called with the last."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot clients_slots[] = {
	{Py_tp_doc, "The base class of Server: what the core knows of its connections."},
	{Py_tp_dealloc, clients_dealloc},
	{Py_tp_getset, clients_getters},
	{Py_tp_members, clients_members},
	{0, NULL},
};

static PyType_Spec clients_spec = {
	.name = "uring_loop._core.ClientList",
	.basicsize = sizeof(ClientList),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = clients_slots,
};

int clients_init_types(PyObject *module)
{
	ClientListType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &clients_spec, NULL);
	if (ClientListType == NULL)
		return -1;
	return PyModule_AddType(module, ClientListType);
}
