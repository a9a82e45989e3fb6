/*
 * Which transport owns a descriptor: who watches or reads it besides is refused.
 *
 * Borrowed pointers, by descriptor.  A transport enters with transport_open() and
 * leaves before it closes the descriptor or forgets its loop.
 */
#include "owners.h"
#include "../operations/threads.h"
#include "transport.h"

#include <fcntl.h>

/* NULL when no transport has ever had so large a descriptor. */
static struct transport **owner_of(const Loop *loop, int fd)
{
	return fd_array_at(&loop->owners, sizeof(struct transport *), fd);
}

int owner_enter(struct transport *self)
{
	struct fd_array *owners = &self->loop->owners;

	if (unlikely(owner_of(self->loop, self->fd) == NULL)) {
		/* A socket-like object's number that is no descriptor: nobody can watch it. */
		if (fcntl(self->fd, F_GETFD) < 0)
			return 0;
		if (loop_reserve_orphan(self->loop, self->fd) < 0 ||
		    fd_array_reserve(owners, sizeof(struct transport *), self->fd) < 0)
			return -1;
	}
	*owner_of(self->loop, self->fd) = self;
	return 0;
}

void owner_leave(struct transport *self)
{
	struct transport **owner;

	/* The protocol has ended it while it was being opened. */
	if (self->loop == NULL)
		return;
	owner = owner_of(self->loop, self->fd);
	/* Another may own the number by now, when somebody closed it under us. */
	if (owner != NULL && *owner == self)
		*owner = NULL;
}

PyObject *descriptor_owner(const Loop *loop, int fd)
{
	struct transport **owner = owner_of(loop, fd);

	return owner != NULL && *owner != NULL && (*owner)->state == TRANSPORT_OPEN
		       ? (PyObject *)*owner
		       : NULL;
}

int descriptor_catch_up(Loop *loop, int fd)
{
	struct transport **place = owner_of(loop, fd), *owner = place == NULL ? NULL : *place;
	int status;

	if (likely(owner == NULL || owner->kind->catch_up == NULL))
		return 0;
	Py_INCREF(owner);
	status = owner->kind->catch_up(owner);
	Py_DECREF(owner);
	return status < 0 ? -1 : 1;
}

PyDoc_STRVAR(loop_owner_of_doc,
"_owner_of($self, descriptor, /)\n--\n\n"
"The open transport of this loop that owns the descriptor, or None.");

static PyObject *loop_owner_of(Loop *self, PyObject *descriptor)
{
	long fd = PyLong_AsLong(descriptor);
	PyObject *owner = NULL;

	if (fd == -1 && PyErr_Occurred()) {
		/* Too large for a descriptor: whoever uses it is told so by the kernel. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return NULL;
		PyErr_Clear();
	}
	if (fd >= 0 && fd <= INT_MAX)
		owner = descriptor_owner(self, (int)fd);
	return Py_NewRef(owner == NULL ? Py_None : owner);
}

PyMethodDef owner_methods[] = {
	{"_owner_of", (PyCFunction)loop_owner_of, METH_O, loop_owner_of_doc},
	{NULL, NULL, 0, NULL},
};
