/*
 * Listener: the connections of a listening socket, each with a protocol and a
 * transport, or, for TLS, each descriptor for a Python callback.
 *
 *     STOPPED -> ACCEPTING -> (STOPPING | FAILED) -> STOPPED
 *
 * Descriptors that arrive while STOPPING are reset, as those that wait in the queue
 * of a listening socket that is closed: nobody has asked for them.
 */
#include "listener.h"
#include "stream.h"
#include "../base/checks.h"
#include "../base/process.h"
#include "../callbacks/context.h"
#include "../operations/threads.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static PyTypeObject *ListenerType;

typedef struct {
	PyObject_HEAD Loop *loop;            /* owned */
	PyObject *callback;    /* owned */
	PyObject *context;     /* owned or NULL: each connection runs in a copy of it */
	PyObject *factory;     /* owned or NULL: makes the protocol of each connection */
	PyObject *server;      /* owned: whose clients they are, a ClientList, or Py_None */
	struct operation accept;
	struct accepted accepted;
	int fd;                /* borrowed from the caller's socket */
	bool wanted;           /* start() was called and stop() was not */
	bool shared;           /* others may accept from the socket too */
	unsigned forks;        /* process.forks when it was made: a parent may accept, too */
} Listener;

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

/* The listener's connections are bound to the address that it is bound to. */
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
	accepted->stream_kind = UL_STREAM_OTHER;
	if (socket_option(self->fd, SO_PROTOCOL) == IPPROTO_TCP)
		accepted->stream_kind = UL_STREAM_TCP;
	else if (family == AF_UNIX && socket_option(self->fd, SO_TYPE) == SOCK_STREAM)
		accepted->stream_kind = UL_STREAM_UNIX;
	if (self->shared)
		return 0;
	/* tcp(7) does not say so, but a connection begins with a copy of its listener's. */
	if (accepted->stream_kind == UL_STREAM_TCP)
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
	bool shared = self->shared || self->forks != process.forks;
	int status = self->loop->table->accept(self->loop->driver, &self->accept, self->fd,
	                                       shared, &token);

	if (status == -EINPROGRESS) {
		self->accept.token = token;
		operation_hold(self->loop, &self->accept);
		return 0;
	}
	return status < 0 ? status : -EIO;
}

/* Let go of everybody that a connection would have been for. */
static void listener_forget(Listener *self)
{
	Py_CLEAR(self->callback);
	Py_CLEAR(self->context);
	Py_CLEAR(self->factory);
	Py_CLEAR(self->server);
}

/* Tell Python; 0, or -1 with what it raised. */
static int listener_call(Listener *self, int result)
{
	PyObject *value = PyLong_FromLong(result);
	int status;

	if (value == NULL) {
		if (result >= 0)
			close(result);
		return -1;
	}
	status = call_and_drop(self->callback, &value, 1);
	Py_DECREF(value);
	return status;
}

/* Tell Python what became of a connection that was to be opened here; or -1. */
static int listener_call_opened(Listener *self, int fd, PyObject *protocol,
                                PyObject *transport)
{
	PyObject *exception = transport == NULL ? PyErr_GetRaisedException() : Py_NewRef(Py_None);
	PyObject *args[4] = {PyLong_FromLong(fd), protocol == NULL ? Py_None : protocol,
	                     transport == NULL ? Py_None : transport, exception};
	int status = -1;

	if (args[0] != NULL)
		status = call_and_drop(self->callback, args, 4);
	else if (transport == NULL)
		close(fd);
	Py_XDECREF(args[0]);
	Py_DECREF(exception);
	return status;
}

/* A protocol and a transport for an accepted descriptor. */
static int listener_open(Listener *self, int fd)
{
	PyObject *protocol = PyObject_CallNoArgs(self->factory), *transport = NULL;
	int status = 0;

	if (protocol != NULL)
		transport = stream_accept(self->loop, fd, protocol, self->server,
		                          &self->accepted);
	if (unlikely(transport == NULL || self->loop->debug))
		status = listener_call_opened(self, fd, protocol, transport);
	Py_XDECREF(transport);
	Py_XDECREF(protocol);
	return status;
}

/* A descriptor came; 0, or -1 with an exception. */
static int listener_accept(Listener *self, int fd)
{
	PyObject *outer = self->accepted.context, *context = NULL;
	int status;

	self->loop->counts.connections_in++;
	/* As each task of asyncio's, each connection has a context of its own. */
	if (self->context != NULL) {
		context = PyContext_Copy(self->context);
		if (context == NULL || context_enter(context) < 0) {
			Py_XDECREF(context);
			close(fd);
			return -1;
		}
		self->accepted.context = context;
	}
	status = self->factory != NULL ? listener_open(self, fd) : listener_call(self, fd);
	if (context != NULL) {
		self->accepted.context = outer;
		context_exit(context);
		Py_DECREF(context);
	}
	return status;
}

/* An end of what the kernel does for us came; -1 when what Python raised must end the loop. */
static int listener_tell(Listener *self, int result)
{
	int status = result >= 0 ? listener_accept(self, result) : listener_call(self, result);

	if (status == 0 || exception_ends_loop())
		return status;
	PyErr_WriteUnraisable(self->callback);
	return 0;
}

/* A connection of which nobody will ever read anything. */
static void connection_refuse(int fd)
{
	const struct linger at_once = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

static int listener_completed(Loop *loop, struct operation *operation,
                              const struct ul_completion *completion)
{
	Listener *self = container_of(operation, Listener, accept);
	bool terminal = !(completion->flags & UL_MORE);
	int status = 0, failure = 0;

	Py_INCREF(self);
	if (terminal)
		operation_drop(operation);
	if (!self->wanted || loop->closed) {
		if (completion->result >= 0)
			connection_refuse(completion->result);
		/* Nobody will be called, and the callback refers to us. */
		if (loop->closed)
			listener_forget(self);
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
		status = listener_tell(self, completion->result);
	if (failure < 0 && status == 0)
		status = listener_tell(self, failure);
out:
	Py_DECREF(self);
	return status;
}

PyDoc_STRVAR(listener_start_doc,
"start($self, /)\n--\n\n"
"Accept connections until stop() or an error.  OSError when the kernel refuses.\n\n"
"Source: accept(2); IORING_ACCEPT_MULTISHOT, Linux 5.19.");

static PyObject *listener_start(Listener *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	/* Without a loop the cycle collector has emptied it. */
	if (self->loop == NULL)
		Py_RETURN_NONE;
	if (loop_check_closed(self->loop) < 0)
		return NULL;
	if (unlikely(loop_is_elsewhere(self->loop))) {
		if (loop_leave_call(self->loop, (PyObject *)self, names._begin, NULL) < 0)
			return NULL;
	} else if (!self->wanted && self->accept.link == NULL) {
		status = listener_arm(self);
		if (status < 0) {
			exception_set_errno(-status);
			return NULL;
		}
	}
	self->wanted = true;
	Py_RETURN_NONE;
}

/* In the loop's thread, for another that has started it. */
static PyObject *listener_begin(Listener *self, PyObject *Py_UNUSED(ignored))
{
	int status;

	if (self->loop == NULL || self->loop->closed || !self->wanted ||
	    self->accept.link != NULL)
		Py_RETURN_NONE;
	status = listener_arm(self);
	if (status < 0) {
		self->wanted = false;
		if (listener_tell(self, status) < 0)
			return NULL;
	}
	Py_RETURN_NONE;
}

PyDoc_STRVAR(listener_stop_doc,
"stop($self, /)\n--\n\n"
"Stop accepting.  The listening socket stays open; nothing more is called back.");

static PyObject *listener_stop(Listener *self, PyObject *Py_UNUSED(ignored))
{
	bool active = self->wanted && self->accept.link != NULL && self->loop->table != NULL;

	self->wanted = false;
	if (active)
		operation_cancel(self->loop, &self->accept);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(listener_share_doc,
"share($self, /)\n--\n\n"
"From now on others may accept from the socket: each connection is accepted only when\n"
"it can be dispatched.");

static PyObject *listener_share(Listener *self, PyObject *Py_UNUSED(ignored))
{
	int status = 0;

	if (self->shared)
		Py_RETURN_NONE;
	self->shared = true;
	/* The end of the operation arms it anew, in the other way. */
	if (self->wanted && self->accept.link != NULL && self->loop->table != NULL &&
	    /* never by another thread than the loop's */
	    operation_cancel(self->loop, &self->accept))
		status = listener_arm(self);
	if (status < 0) {
		self->wanted = false;
		exception_set_errno(-status);
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *listener_get_idle(Listener *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(self->accept.link == NULL);
}

static PyObject *listener_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	Listener *self;
	PyObject *loop, *callback, *context = Py_None, *factory = Py_None, *server = Py_None;
	int fd, shared = 0;

	if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Listener() takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O!iO|pOOO:Listener", LoopType, &loop, &fd, &callback,
	                      &shared, &context, &factory, &server))
		return NULL;
	self = (Listener *)type->tp_alloc(type, 0);
	if (self == NULL)
		return NULL;
	self->loop = (Loop *)Py_NewRef(loop);
	self->callback = Py_NewRef(callback);
	self->context = context == Py_None ? NULL : Py_NewRef(context);
	self->factory = factory == Py_None ? NULL : Py_NewRef(factory);
	self->server = Py_NewRef(server);
	self->fd = fd;
	self->shared = shared != 0;
	self->forks = process.forks;
	self->accept.completed = listener_completed;
	self->accept.holder = (PyObject *)self;
	self->accept.brings_fd = true;
	/* Before listen(2), so that the first connection begins with what is set here. */
	if (listener_look(self) < 0)
		Py_CLEAR(self);
	return (PyObject *)self;
}

static int listener_traverse(Listener *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->loop);
	Py_VISIT(self->callback);
	Py_VISIT(self->context);
	Py_VISIT(self->factory);
	Py_VISIT(self->server);
	return 0;
}

static int listener_clear(Listener *self)
{
	listener_forget(self);
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
	{"share", (PyCFunction)listener_share, METH_NOARGS, listener_share_doc},
	{"_begin", (PyCFunction)listener_begin, METH_NOARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef listener_getters[] = {
	{"idle", (getter)listener_get_idle, NULL,
	 "Whether the kernel no longer works on the listening socket.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(listener_doc,
"Listener(loop, fd, callback, shared=False, context=None, factory=None, server=None, /)\n"
"--\n\n"
"Accepts connections on the listening socket `fd`, which stays the caller's;\n"
"`shared`: others, in whatever process, may accept from it too; `context`: each\n"
"connection is opened in a copy of it.\n\n"
"callback(result) gets each accepted descriptor (non-blocking, close-on-exec;\n"
"now the callback's), or -errno, after which start() is needed again.\n\n"
"With `factory` each connection gets a protocol, from factory(), and a\n"
"StreamTransport that is a client of `server`. Of these the callback hears in\n"
"debug mode, callback(descriptor, protocol, transport, None), and of those that\n"
"could not be opened, callback(descriptor, protocol or None, None, exception).");

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

int listener_init_types(PyObject *module)
{
	ListenerType = (PyTypeObject *)PyType_FromModuleAndSpec(module, &listener_spec, NULL);
	if (ListenerType == NULL)
		return -1;
	return PyModule_AddType(module, ListenerType);
}
