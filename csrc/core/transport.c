/*
 * What both transports do in the course of their lives, from connection_made()
 * to the closed descriptor.
 */
#include "transport.h"

/* ---- contexts and errors --------------------------------------------------------- */

int context_enter(PyObject *context)
{
	return context == NULL ? 0 : PyContext_Enter(context);
}

void context_exit(PyObject *context)
{
	PyObject *exception;

	if (context == NULL)
		return;
	if (likely(!PyErr_Occurred())) {
		if (PyContext_Exit(context) < 0)
			PyErr_WriteUnraisable(context);
		return;
	}
	exception = PyErr_GetRaisedException();
	if (PyContext_Exit(context) < 0)
		PyErr_WriteUnraisable(context);
	PyErr_SetRaisedException(exception);
}

void transport_log(struct transport *self, const char *message)
{
	PyObject *args[2] = {(PyObject *)self, NULL};

	if (likely(!self->loop->debug))
		return;
	args[1] = PyUnicode_FromString(message);
	if (args[1] == NULL || call_and_drop(helpers.transport_event, args, 2) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	Py_XDECREF(args[1]);
}

/* ---- the end ------------------------------------------------------------------------ */

bool transport_detach_socket(PyObject *sock, int fd)
{
	PyObject *result = PyObject_CallMethodNoArgs(sock, names.detach);
	bool ours;

	if (result == NULL) {
		/* A socket-like object without detach(): it closes itself. */
		PyErr_Clear();
		result = PyObject_CallMethodNoArgs(sock, names.close);
		if (result == NULL)
			PyErr_WriteUnraisable(sock);
		Py_XDECREF(result);
		return false;
	}
	ours = PyLong_Check(result) && PyLong_AsLong(result) == fd;
	Py_DECREF(result);
	return ours;
}

/* ---- the beginning -------------------------------------------------------------------- */

PyObject *transport_read_name(int fd, int (*function)(int, struct sockaddr *, socklen_t *),
                              int *family)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (function(fd, (struct sockaddr *)&address, &size) < 0)
		return NULL;
	if (size > sizeof(address))
		size = sizeof(address);
	*family = address.ss_family;
	return PyBytes_FromStringAndSize((char *)&address, size);
}
