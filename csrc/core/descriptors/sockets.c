/*
 * Waiting for plain sockets: what sock_recv() and its family stand on.
 *
 * The system call is tried first.  Where it would block, a SocketWait stands in
 * the queue of its socket and direction, and the coroutine awaits it.  The
 * first in a queue has a poll operation in the driver, or was woken by one;
 * the others wait for it to leave.  Nothing is received before the waiting
 * task runs again: a byte that arrives for a task that was cancelled stays in
 * the kernel.
 *
 * The queues are found by descriptor.  A socket may be closed under those who
 * wait for it and its number be used again: then the new socket's queue takes
 * the place in the table, and the old one lives on in its own links.
 */
#include "sockets.h"
#include "../base/checks.h"
#include "../base/fd_array.h"
#include "../base/process.h"
#include "../base/scratch.h"
#include "../callbacks/schedule.h"
#include "../loop.h"
#include "../operations/operation.h"
#include "../operations/threads.h"
#include "../transports/owners.h"

#include <errno.h>
#include <poll.h>

PyTypeObject *SocketWaitType;

/* Larger receives go through the socket object: copying would cost more than it saves. */
#define RECV_MAX SCRATCH_BYTES
/* Up to here bytes objects are received into directly. */
#define RECV_IN_PLACE 2048
/* From here on sending is worth letting other threads run. */
#define SEND_WITHOUT_GIL (32 * 1024)

typedef struct SocketWait {
	PyObject_HEAD
	struct operation poll;             /* the poll operation of the first in a queue */
	Loop *loop;                   /* owned */
	PyObject *sock;               /* owned */
	PyObject *future;             /* owned: done when it is worth another try */
	struct SocketWait *next;      /* borrowed; who waits behind */
	struct SocketWait *previous;  /* borrowed */
	int fd;
	bool write;
	bool queued;
} SocketWait;

struct socket_queue {
	SocketWait *first;            /* borrowed: a wait leaves before it is freed */
	SocketWait *last;
};

struct socket_queues {
	struct socket_queue side[2];  /* readers, writers */
};

/* ---- sockets -------------------------------------------------------------------- */

/* The socket's descriptor, -1 when closed, or -2 with an exception. */
static int socket_fd(PyObject *sock)
{
	PyObject *number = PyObject_CallMethodNoArgs(sock, names.fileno);
	long fd;

	if (unlikely(number == NULL))
		return -2;
	fd = PyLong_AsLong(number);
	Py_DECREF(number);
	if (unlikely(fd == -1 && PyErr_Occurred()))
		return -2;
	if (unlikely(fd < 0 || fd > INT_MAX))
		return -1;
	return (int)fd;
}

static bool socket_class_has_own(PyTypeObject *type, PyObject *name)
{
	PyObject *found = PyObject_GetAttr((PyObject *)type, name);
	PyObject *own = PyObject_GetAttr((PyObject *)type->tp_base, name);
	bool same = found != NULL && found == own;

	PyErr_Clear();
	Py_XDECREF(found);
	Py_XDECREF(own);
	return same;
}

/* Whether nobody has put another recv() or send() on socket.socket. */
__attribute__((cold, noinline))
static bool socket_class_is_plain(PyTypeObject *type)
{
	bool plain = socket_class_has_own(type, names.recv) &&
	             socket_class_has_own(type, names.send) &&
	             socket_class_has_own(type, names.fileno);

	process.plain_socket_version = plain && type->tp_version_tag != 0 ? type->tp_version_tag
	                                                   : VERSION_UNKNOWN;
	return plain;
}

/* Whether no method of the socket object has to be called: its class may differ, or debug mode. */
static bool socket_is_plain(const Loop *loop, PyObject *sock)
{
	PyTypeObject *type = Py_TYPE(sock);

	if (unlikely((PyObject *)type != helpers.socket_class || loop->debug))
		return false;
	return likely(type->tp_version_tag == process.plain_socket_version) ||
	       socket_class_is_plain(type);
}

/* Up to `size` bytes; Py_None when it would block. */
static PyObject *receive(Loop *loop, int fd, Py_ssize_t size)
{
	PyObject *data = NULL;
	char *buffer;
	ssize_t count;

	if (size <= RECV_IN_PLACE) {
		data = PyBytes_FromStringAndSize(NULL, size);
		if (data == NULL)
			return NULL;
		buffer = PyBytes_AS_STRING(data);
	} else if ((buffer = scratch_received(loop)) == NULL) {
		return NULL;
	}
	do {
		count = recv(fd, buffer, (size_t)size, MSG_DONTWAIT);
	} while (count < 0 && errno == EINTR); /* a signal's handler may close the socket: later */
	if (count < 0) {
		Py_XDECREF(data);
		if (errno == EAGAIN)
			Py_RETURN_NONE;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	if (data == NULL)
		return PyBytes_FromStringAndSize(buffer, count);
	if (count != size)
		_PyBytes_Resize(&data, count);
	return data;
}

/* ---- queues --------------------------------------------------------------------- */

/* NULL when nobody has ever waited for so large a descriptor. */
static struct socket_queue *queue_of(const Loop *loop, int fd, bool write)
{
	struct socket_queues *queues =
		fd_array_at(&loop->socket_waits, sizeof(struct socket_queues), fd);

	return queues == NULL ? NULL : &queues->side[write];
}

static bool somebody_waits(const Loop *loop, PyObject *sock, int fd, bool write)
{
	const struct socket_queue *queue = queue_of(loop, fd, write);

	return queue != NULL && queue->first != NULL && queue->first->sock == sock;
}

static void queue_append(SocketWait *self)
{
	struct socket_queue *queue = queue_of(self->loop, self->fd, self->write);

	if (queue->first != NULL && queue->first->sock != self->sock)
		queue->first = queue->last = NULL;
	self->previous = queue->last;
	if (queue->last != NULL)
		queue->last->next = self;
	else
		queue->first = self;
	queue->last = self;
	self->queued = true;
}

static void queue_remove(SocketWait *self)
{
	struct socket_queue *queue = queue_of(self->loop, self->fd, self->write);

	if (self->previous != NULL)
		self->previous->next = self->next;
	if (self->next != NULL)
		self->next->previous = self->previous;
	if (queue->first == self)
		queue->first = self->next;
	if (queue->last == self)
		queue->last = self->previous;
	self->next = self->previous = NULL;
	self->queued = false;
}

/* ---- one wait ------------------------------------------------------------------- */

/* The future, if the waiting task was not cancelled meanwhile, gets what is set or None. */
static int wait_wake(SocketWait *self)
{
	PyObject *exception = PyErr_GetRaisedException();
	PyObject *done = PyObject_CallMethodNoArgs(self->future, names.done);
	PyObject *answer = NULL;

	if (done == Py_False)
		answer = exception != NULL
		                 ? PyObject_CallMethodOneArg(self->future, names.set_exception,
		                                             exception)
		                 : PyObject_CallMethodOneArg(self->future, names.set_result,
		                                             Py_None);
	else if (done != NULL)
		answer = Py_NewRef(Py_None);
	Py_XDECREF(exception);
	Py_XDECREF(done);
	Py_XDECREF(answer);
	return answer == NULL ? -1 : 0;
}

static int wait_completed(Loop *loop, struct operation *operation,
                          const struct ul_completion *completion)
{
	SocketWait *self = container_of(operation, SocketWait, poll);
	int status = 0;

	Py_INCREF(self);
	operation_drop(operation);
	if (self->queued && self->future != NULL && !loop->closed) {
		if (unlikely(completion->result < 0))
			exception_set_errno(-completion->result);
		status = wait_wake(self);
		if (unlikely(status < 0 && !exception_ends_loop())) {
			PyErr_WriteUnraisable((PyObject *)self);
			status = 0;
		}
	}
	Py_DECREF(self);
	return status;
}

/* Have the future done when the socket is ready; -1 with an exception. */
static int wait_arm(SocketWait *self)
{
	Loop *loop = self->loop;
	PyObject *args[2] = {NULL, Py_None};
	int fd, status;

	/* The socket may have been closed since, and its number be another's. */
	fd = socket_fd(self->sock);
	/* fileno() is the caller's, and may have closed the loop, or left the queue. */
	if (fd == -2 || loop_check_closed(loop) < 0 || loop_check_thread(loop) < 0)
		return -1;
	/* In flight still: somebody else has set the future of the wait before. */
	if (unlikely(!self->queued || self->poll.link != NULL))
		return 0;
	status = fd != self->fd
	                 ? -EBADF
	                 : loop->table->poll(loop->driver, &self->poll, fd,
	                                     self->write ? POLLOUT : POLLIN, &self->poll.token);
	if (likely(status == -EINPROGRESS)) {
		operation_hold(loop, &self->poll);
		return 0;
	}
	if (status < 0) {
		exception_set_errno(-status);
		return -1;
	}
	/* Ready already; but whoever tries again and again must not stop the loop's turns. */
	args[0] = Py_NewRef(self->future);
	status = loop_queue_soon(loop, helpers.set_result, args, 2);
	Py_DECREF(args[0]);
	return status;
}

/* The first in its queue from now on. */
static void wait_arm_next(SocketWait *self)
{
	if (wait_arm(self) < 0 && wait_wake(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
}

/* In the loop's thread, for another that has left. */
static PyObject *wait_rearm_method(SocketWait *self, PyObject *Py_UNUSED(ignored))
{
	if (self->queued && self->previous == NULL)
		wait_arm_next(self);
	Py_RETURN_NONE;
}

static void wait_leave(SocketWait *self)
{
	SocketWait *next = self->previous == NULL ? self->next : NULL;
	Loop *loop = self->loop;

	if (!self->queued)
		return;
	queue_remove(self);
	if (loop->closed || loop->table == NULL)
		return;
	if (self->poll.link != NULL)
		operation_cancel(loop, &self->poll);
	if (likely(next == NULL))
		return;
	Py_INCREF(next);
	if (likely(!loop_is_elsewhere(loop)))
		wait_arm_next(next);
	else if (loop_leave_call(loop, (PyObject *)next, names._rearm, NULL) < 0)
		PyErr_WriteUnraisable((PyObject *)next);
	Py_DECREF(next);
}

/* Wait once more, before all others. */
static int wait_again(SocketWait *self)
{
	PyObject *future;

	if (loop_check_closed(self->loop) < 0)
		return -1;
	future = PyObject_CallMethodNoArgs((PyObject *)self->loop, names.create_future);
	if (future == NULL)
		return -1;
	Py_XSETREF(self->future, future);
	return wait_arm(self);
}

/* RuntimeError when a transport of the loop owns the descriptor. */
static int check_owner(Loop *loop, int fd)
{
	PyObject *args[2] = {(PyObject *)loop, NULL};
	int status;

	if (likely(descriptor_owner(loop, fd) == NULL))
		return 0;
	args[1] = PyLong_FromLong(fd);
	if (args[1] == NULL)
		return -1;
	status = call_and_drop(helpers.check_descriptor, args, 2);
	Py_DECREF(args[1]);
	return status;
}

static SocketWait *wait_new(Loop *loop, PyObject *sock, int fd, bool write)
{
	SocketWait *self;
	bool first;

	if (unlikely(fd < 0)) {
		exception_set_errno(EBADF);
		return NULL;
	}
	if (loop_check_closed(loop) < 0 || loop_check_thread(loop) < 0 ||
	    check_owner(loop, fd) < 0 ||
	    fd_array_reserve(&loop->socket_waits, sizeof(struct socket_queues), fd) < 0)
		return NULL;
	self = PyObject_GC_New(SocketWait, SocketWaitType);
	if (self == NULL)
		return NULL;
	memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
	self->poll.completed = wait_completed;
	self->poll.holder = (PyObject *)self;
	self->loop = (Loop *)Py_NewRef(loop);
	self->sock = Py_NewRef(sock);
	self->fd = fd;
	self->write = write;
	PyObject_GC_Track(self);
	self->future = PyObject_CallMethodNoArgs((PyObject *)loop, names.create_future);
	if (self->future == NULL) {
		Py_DECREF(self);
		return NULL;
	}
	first = !somebody_waits(loop, sock, fd, write);
	queue_append(self);
	if (first && wait_arm(self) < 0) {
		Py_DECREF(self);
		return NULL;
	}
	return self;
}

PyDoc_STRVAR(wait_recv_doc,
"recv($self, nbytes, /)\n--\n\n"
"After the wait: up to `nbytes` bytes, and leave; None when there is to wait again.");

static PyObject *wait_recv(SocketWait *self, PyObject *nbytes)
{
	Py_ssize_t size = PyLong_AsSsize_t(nbytes);
	PyObject *data;
	int fd;

	if (size == -1 && PyErr_Occurred())
		return NULL;
	if (size < 0 || size > RECV_MAX) {
		PyErr_SetString(PyExc_ValueError, "recv() takes the size of _sock_receive()");
		return NULL;
	}
	fd = socket_fd(self->sock);
	if (fd == -2)
		return NULL;
	data = receive(self->loop, fd, size);
	if (likely(data != NULL && data != Py_None))
		wait_leave(self);
	else if (data == Py_None && wait_again(self) < 0)
		Py_CLEAR(data);
	return data;
}

PyDoc_STRVAR(wait_again_doc, "again($self, /)\n--\n\n"
"The call blocked again: wait, before all others.");

static PyObject *wait_again_method(SocketWait *self, PyObject *Py_UNUSED(ignored))
{
	if (wait_again(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_leave_doc,
"leave($self, /)\n--\n\nWait no more; the next in the queue may try.  A second call does nothing.");

static PyObject *wait_leave_method(SocketWait *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *exception = PyErr_GetRaisedException();

	wait_leave(self);
	PyErr_SetRaisedException(exception);
	Py_RETURN_NONE;
}

static PyObject *wait_await(SocketWait *self)
{
	/* The cycle collector has emptied it, and a __del__ has found it. */
	if (unlikely(self->future == NULL)) {
		PyErr_SetString(PyExc_RuntimeError, "nobody waits any more");
		return NULL;
	}
	return PyObject_GetIter(self->future);
}

static int wait_traverse(SocketWait *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->sock);
	Py_VISIT(self->future);
	return 0;
}

static int wait_clear(SocketWait *self)
{
	Py_CLEAR(self->future);
	return 0;
}

static void wait_dealloc(SocketWait *self)
{
	PyTypeObject *type = Py_TYPE(self);
	PyObject *exception = PyErr_GetRaisedException();

	assert(self->poll.link == NULL);
	PyObject_GC_UnTrack(self);
	wait_leave(self);
	Py_CLEAR(self->future);
	Py_CLEAR(self->sock);
	Py_CLEAR(self->loop);
	PyErr_SetRaisedException(exception);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

/* ---- the loop's methods --------------------------------------------------------- */

/* The same, for a use that finds in the kernel what a transport of the socket has queued. */
static int socket_fd_for_use(Loop *self, PyObject *sock)
{
	int fd = socket_fd(sock), handed = descriptor_catch_up(self, fd);

	if (likely(handed == 0))
		return fd;
	/* The send may have run anything. */
	return handed < 0 ? -2 : socket_fd(sock);
}

PyDoc_STRVAR(sock_receive_doc,
"_sock_receive($self, sock, nbytes, /)\n--\n\n"
"What recv() gives, a SocketWait where it would block or others wait, or None: ask the\n"
"socket object itself.");

static PyObject *sock_receive(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	Py_ssize_t size;
	PyObject *data;
	int fd;

	if (nargs != 2) {
		PyErr_SetString(PyExc_TypeError, "_sock_receive() takes sock and nbytes");
		return NULL;
	}
	/* Another thread's sock_recv() must not mix its bytes with those of the loop's. */
	if (!socket_is_plain(self, args[0]) || !PyLong_CheckExact(args[1]) ||
	    unlikely(self->scratch.receiving))
		Py_RETURN_NONE;
	size = PyLong_AsSsize_t(args[1]);
	if (size == -1 && PyErr_Occurred())
		PyErr_Clear();
	if (size <= 0 || size > RECV_MAX)
		Py_RETURN_NONE;
	fd = socket_fd_for_use(self, args[0]);
	if (fd == -2)
		return NULL;
	if (unlikely(fd >= 0 && somebody_waits(self, args[0], fd, false)))
		return (PyObject *)wait_new(self, args[0], fd, false);
	data = receive(self, fd, size);
	if (data == Py_None) {
		Py_DECREF(data);
		return (PyObject *)wait_new(self, args[0], fd, false);
	}
	return data;
}

PyDoc_STRVAR(sock_send_doc,
"_sock_send($self, sock, data, /)\n--\n\n"
"None when all of `data` was sent, else how much of it; False: ask the socket object itself.");

static PyObject *sock_send(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	Py_buffer data;
	ssize_t sent;
	bool whole;
	int fd, error;

	if (nargs != 2) {
		PyErr_SetString(PyExc_TypeError, "_sock_send() takes sock and data");
		return NULL;
	}
	if (!socket_is_plain(self, args[0]))
		Py_RETURN_FALSE;
	/* The buffer may be of Python's making, and close the socket: its number comes after. */
	if (PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
		return NULL;
	fd = socket_fd_for_use(self, args[0]);
	if (fd == -2) {
		PyBuffer_Release(&data);
		return NULL;
	}
	if (unlikely(fd >= 0 && somebody_waits(self, args[0], fd, true))) {
		PyBuffer_Release(&data);
		return PyLong_FromLong(0);
	}
	do {
		if (data.len < SEND_WITHOUT_GIL) {
			sent = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		} else {
			Py_BEGIN_ALLOW_THREADS
			sent = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
			Py_END_ALLOW_THREADS
		}
	} while (sent < 0 && errno == EINTR); /* a signal's handler may close the socket: later */
	error = errno;
	whole = sent == data.len;
	PyBuffer_Release(&data);
	if (likely(whole))
		Py_RETURN_NONE;
	if (sent >= 0)
		return PyLong_FromSsize_t(sent);
	if (error == EAGAIN)
		return PyLong_FromLong(0);
	exception_set_errno(error);
	return NULL;
}

static bool socket_arguments(Loop *self, PyObject *const *args, Py_ssize_t nargs, int *fd,
                             bool *write)
{
	if (nargs != 2 || !PyBool_Check(args[1])) {
		PyErr_SetString(PyExc_TypeError, "a socket and a direction are required");
		return false;
	}
	*write = args[1] == Py_True;
	*fd = socket_fd_for_use(self, args[0]);
	return *fd != -2;
}

PyDoc_STRVAR(sock_is_waited_doc,
"_sock_is_waited($self, sock, write, /)\n--\n\nWhether somebody waits in that direction.");

static PyObject *sock_is_waited(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	bool write;
	int fd;

	if (!socket_arguments(self, args, nargs, &fd, &write))
		return NULL;
	return PyBool_FromLong(fd >= 0 && somebody_waits(self, args[0], fd, write));
}

PyDoc_STRVAR(sock_wait_doc,
"_sock_wait($self, sock, write, /)\n--\n\n"
"A SocketWait, behind those who wait already: await it, then try, then again() or leave().");

static PyObject *sock_wait(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	bool write;
	int fd;

	if (!socket_arguments(self, args, nargs, &fd, &write))
		return NULL;
	return (PyObject *)wait_new(self, args[0], fd, write);
}

PyMethodDef socket_methods[] = {
	{"_sock_receive", FASTCALL(sock_receive), METH_FASTCALL, sock_receive_doc},
	{"_sock_send", FASTCALL(sock_send), METH_FASTCALL, sock_send_doc},
	{"_sock_is_waited", FASTCALL(sock_is_waited), METH_FASTCALL, sock_is_waited_doc},
	{"_sock_wait", FASTCALL(sock_wait), METH_FASTCALL, sock_wait_doc},
	{NULL, NULL, 0, NULL},
};

static PyMethodDef wait_methods[] = {
	{"recv", (PyCFunction)wait_recv, METH_O, wait_recv_doc},
	{"again", (PyCFunction)wait_again_method, METH_NOARGS, wait_again_doc},
	{"leave", (PyCFunction)wait_leave_method, METH_NOARGS, wait_leave_doc},
	{"_rearm", (PyCFunction)wait_rearm_method, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot wait_slots[] = {
	{Py_tp_doc, "A place in the queue for a socket.  Await it, then try."},
	{Py_tp_dealloc, wait_dealloc},
	{Py_tp_traverse, wait_traverse},
	{Py_tp_clear, wait_clear},
	{Py_tp_methods, wait_methods},
	{Py_am_await, wait_await},
	{0, NULL},
};

static PyType_Spec wait_spec = {
	.name = "uring_loop._core.SocketWait",
	.basicsize = sizeof(SocketWait),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = wait_slots,
};

int sockets_init_types(PyObject *module)
{
	SocketWaitType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &wait_spec, NULL);
	if (SocketWaitType == NULL)
		return -1;
	return PyModule_AddType(module, SocketWaitType);
}
