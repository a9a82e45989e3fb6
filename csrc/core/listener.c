/*
 * Listener: accepted descriptors of a listening socket, for a Python callback.
 *
 *     STOPPED -> ACCEPTING -> (STOPPING | FAILED) -> STOPPED
 *
 * Descriptors that arrive while STOPPING are closed: nobody asked for them.
 */
#include "transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static PyTypeObject *ListenerType;

typedef struct {
	PyObject_HEAD
	Loop *loop;            /* owned */
	PyObject *callback;    /* owned */
	PyObject *context;     /* owned or NULL: each connection runs in a copy of it */
	struct sink accept;
	struct accepted accepted;
	int fd;                /* borrowed from the caller's socket */
	bool wanted;           /* start() was called and stop() was not */
	bool shared;           /* others may accept from the socket too */
} Listener;

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

/* Its connections are bound to the address that it is bound to. */
static bool is_one_address(const struct sockaddr_storage *address)
{
	switch (address->ss_family) {
	case AF_INET:
		return ((const struct sockaddr_in *)address)->sin_addr.s_addr != INADDR_ANY;
	case AF_INET6:
		return !IN6_IS_ADDR_UNSPECIFIED(
			&((const struct sockaddr_in6 *)address)->sin6_addr);
	default:
		return address->ss_family == AF_UNIX;
	}
}

/*
 * Ask once what would otherwise be asked of each connection.  What the caller made
 * and may have given options that we know nothing of is only asked what it is.
 */
static int listener_look(Listener *self)
{
	struct accepted *accepted = &self->accepted;
	int family = socket_option(self->fd, SO_DOMAIN), one = 1;
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (family < 0)
		return 0;
	accepted->family = family;
	accepted->kind = UL_STREAM_OTHER;
	if (socket_option(self->fd, SO_PROTOCOL) == IPPROTO_TCP)
		accepted->kind = UL_STREAM_TCP;
	else if (family == AF_UNIX && socket_option(self->fd, SO_TYPE) == SOCK_STREAM)
		accepted->kind = UL_STREAM_UNIX;
	if (self->shared)
		return 0;
	/* tcp(7) does not say so, but a connection begins with a copy of its listener's. */
	if (accepted->kind == UL_STREAM_TCP)
		accepted->no_delay =
			setsockopt(self->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0;
	if (getsockname(self->fd, (struct sockaddr *)&address, &size) < 0 ||
	    size > sizeof(address) || !is_one_address(&address))
		return 0;
	Py_XSETREF(accepted->sockname, PyBytes_FromStringAndSize((char *)&address, size));
	return accepted->sockname == NULL ? -1 : 0;
}

static int listener_arm(Listener *self)
{
	ul_token token;
	int status = self->loop->table->accept(self->loop->driver, &self->accept, self->fd,
	                                       self->shared, &token);

	if (status == -EINPROGRESS) {
		self->accept.token = token;
		sink_hold(self->loop, &self->accept);
		return 0;
	}
	return status < 0 ? status : -EIO;
}

/* As each task of asyncio's, each connection has a context of its own. */
static PyObject *listener_call_in_copy(Listener *self, PyObject *value)
{
	PyObject *context = PyContext_Copy(self->context), *outer = self->accepted.context;
	PyObject *answer;

	if (context == NULL || context_enter(context) < 0) {
		Py_XDECREF(context);
		return NULL;
	}
	self->accepted.context = context;
	answer = PyObject_CallOneArg(self->callback, value);
	self->accepted.context = outer;
	context_exit(context);
	Py_DECREF(context);
	return answer;
}

/* Tell Python; -1 when what it raised must end the loop. */
static int listener_call(Listener *self, int result)
{
	PyObject *value = PyLong_FromLong(result), *answer = NULL;

	if (value != NULL && self->context != NULL && result >= 0)
		answer = listener_call_in_copy(self, value);
	else if (value != NULL)
		answer = PyObject_CallOneArg(self->callback, value);
	Py_XDECREF(value);
	if (answer == NULL) {
		if (exception_ends_loop())
			return -1;
		PyErr_WriteUnraisable(self->callback);
	}
	Py_XDECREF(answer);
	return 0;
}

static int listener_completed(Loop *loop, struct sink *sink,
                              const struct ul_completion *completion)
{
	Listener *self = container_of(sink, Listener, accept);
	bool terminal = !(completion->flags & UL_MORE);
	int status = 0, failure = 0;

	Py_INCREF(self);
	if (terminal)
		sink_drop(sink);
	if (!self->wanted || loop->closed) {
		if (completion->result >= 0)
			close(completion->result);
		goto out;
	}
	/* Ended, but wanted: stopped and started again, or a connection that won that race. */
	if (terminal && (completion->result >= 0 || completion->result == -ECANCELED))
		failure = listener_arm(self);
	else if (terminal)
		failure = completion->result;
	if (failure < 0)
		self->wanted = false;
	if (completion->result >= 0)
		status = listener_call(self, completion->result);
	if (failure < 0 && status == 0)
		status = listener_call(self, failure);
out:
	Py_DECREF(self);
	return status;
}

PyDoc_STRVAR(listener_start_doc,
"start()\n--\n\n"
"Accept connections until stop() or an error.  OSError when the kernel refuses.\n\n"
"Source: accept(2); IORING_ACCEPT_MULTISHOT, Linux 5.19.");

static PyObject *listener_start(Listener *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (loop_check_closed(self->loop) < 0)
		return NULL;
	if (!self->wanted && self->accept.link == NULL) {
		if (listener_look(self) < 0)
			return NULL;
		status = listener_arm(self);
		if (status < 0) {
			exception_set_errno(-status);
			return NULL;
		}
	}
	self->wanted = true;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(listener_stop_doc,
"stop()\n--\n\n"
"Stop accepting.  The listening socket stays open; nothing more is called back.");

static PyObject *listener_stop(Listener *self, PyObject *Py_UNUSED(ignored))
{
	bool active = self->wanted && self->accept.link != NULL && self->loop->table != NULL;

	self->wanted = false;
	if (active)
		sink_cancel(self->loop, &self->accept);
	Py_RETURN_NONE;
}

static PyObject *listener_get_idle(Listener *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->accept.link == NULL);
}

static PyObject *listener_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	Listener *self;
	PyObject *loop, *callback, *context = Py_None;
	int fd, shared = 0;

	if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Listener() takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O!iO|pO:Listener", LoopType, &loop, &fd, &callback, &shared,
	                      &context))
		return NULL;
	self = (Listener *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->loop = (Loop *)Py_NewRef(loop);
	self->callback = Py_NewRef(callback);
	self->context = context == Py_None ? NULL : Py_NewRef(context);
	self->fd = fd;
	self->shared = shared != 0;
	self->accept.completed = listener_completed;
	self->accept.holder = (PyObject *)self;
	return (PyObject *)self;
}

static int listener_traverse(Listener *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->callback);
	Py_VISIT(self->context);
	return 0;
}

static int listener_clear(Listener *self)
{
	Py_CLEAR(self->callback);
	Py_CLEAR(self->context);
	if (self->accept.link == NULL)
		Py_CLEAR(self->loop);
	return 0;
}

static void listener_dealloc(Listener *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	assert(self->accept.link == NULL);
	listener_clear(self);
	Py_CLEAR(self->accepted.sockname);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyMethodDef listener_methods[] = {
	{"start", (PyCFunction)listener_start, METH_NOARGS, listener_start_doc},
	{"stop", (PyCFunction)listener_stop, METH_NOARGS, listener_stop_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getters[] = {
	{"idle", (getter)listener_get_idle, NULL,
	 "Whether the kernel no longer works on the listening socket.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(listener_doc,
"Listener(loop, fd, callback, shared=False, context=None, /)\n--\n\n"
"Accepts connections on the listening socket `fd`, which stays the caller's;\n"
"`shared`: others, in whatever process, may accept from it too; `context`: the\n"
"callback gets each connection in a copy of it.\n\n"
"callback(result) gets each accepted descriptor (non-blocking, close-on-exec;\n"
"now the callback's), or -errno, after which start() is needed again.");

static PyType_Slot listener_slots[] = {
	{Py_tp_doc, (void *)listener_doc},
	{Py_tp_new, listener_new},
	{Py_tp_dealloc, listener_dealloc},
	{Py_tp_traverse, listener_traverse},
	{Py_tp_clear, listener_clear},
	{Py_tp_methods, listener_methods},
	{Py_tp_getset, listener_getters},
	{0, NULL},
};

static PyType_Spec listener_spec = {
	.name = "uring_loop._core.Listener",
	.basicsize = sizeof(Listener),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = listener_slots,
};

const struct accepted *listener_accepted(PyObject *listener)
{
	if (Py_IS_TYPE(listener, ListenerType))
		return &((Listener *)listener)->accepted;
	PyErr_SetString(PyExc_TypeError, "a Listener is required");
	return NULL;
}

int listener_init_types(PyObject *module)
{
	ListenerType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
	if (ListenerType == NULL)
		return -1;
	return PyModule_AddType(module, ListenerType);
}
