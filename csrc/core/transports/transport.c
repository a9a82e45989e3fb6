/*
 * The life of a transport of either kind, from connection_made() to the closed
 * descriptor.
 */
#include "transport.h"
#include "calls.h"
#include "listener.h"
#include "owners.h"
#include "transport_read.h"
#include "../base/checks.h"
#include "../callbacks/schedule.h"
#include "../operations/threads.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define LOSSES_BEFORE_WARNING 5
#define WATER_HIGH_BYTES (64 * 1024)

/* ---- its state ----------------------------------------------------------------------------- */

/* The states that may follow each: the diagram of transport.h.  For assertions. */
static const uint8_t transport_next[] __attribute__((unused)) = {
	[TRANSPORT_OPEN] = 1 << TRANSPORT_CLOSING | 1 << TRANSPORT_LOST | 1 << TRANSPORT_JOINING |
	                   1 << TRANSPORT_CLOSED,
	[TRANSPORT_CLOSING] = 1 << TRANSPORT_LOST | 1 << TRANSPORT_JOINING | 1 << TRANSPORT_CLOSED,
	[TRANSPORT_LOST] = 1 << TRANSPORT_JOINING | 1 << TRANSPORT_CLOSED,
	[TRANSPORT_JOINING] = 1 << TRANSPORT_CLOSED,
	[TRANSPORT_CLOSED] = 1 << TRANSPORT_OPEN | 1 << TRANSPORT_CLOSED,
};

static void transport_set_state(struct transport *self, enum transport_state state)
{
	assert(transport_next[self->state] >> state & 1);
	self->state = state;
}

/* ---- its socket ---------------------------------------------------------------------------- */

/* The answer of getsockname(2) or getpeername(2), as bytes; NULL, perhaps with an exception. */
static PyObject *read_name(int fd, int (*function)(int, struct sockaddr *, socklen_t *),
                           int *family)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (function(fd, (struct sockaddr *)&address, &size) < 0)
		return NULL;
	assert(size <= sizeof(address)); /* which is what the kernel has for any */
	*family = address.ss_family;
	return PyBytes_FromStringAndSize((char *)&address, size);
}

/*
 * getpeername(2) knows nothing of a peer that has reset; SO_PEERNAME still says
 * what accept(2) would have said.
 */
int transport_recall_peername(struct transport *self)
{
	struct sockaddr_storage address;
	socklen_t size;

	if (likely(self->peername != NULL))
		return 0;
	if (self->family != AF_INET && self->family != AF_INET6)
		return 0;
	/* The kernel wants to be asked for no more than there is. */
	size = self->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (getsockopt(self->fd, SOL_SOCKET, SO_PEERNAME, &address, &size) < 0)
		return 0;
	self->peername = PyBytes_FromStringAndSize((char *)&address, size);
	return self->peername == NULL ? -1 : 0;
}

static int transport_take_socket(struct transport *self, PyObject *sock, int fd,
                                 const struct accepted *accepted)
{
	int ignored;

	self->fd = fd;
	Py_XSETREF(self->sock, Py_XNewRef(sock));
	self->family = AF_UNSPEC;
	/* The addresses are read now: a peer that resets would take its name along. */
	if (accepted != NULL && accepted->sockname != NULL) {
		self->family = accepted->family;
		Py_XSETREF(self->sockname, Py_NewRef(accepted->sockname));
	} else {
		Py_XSETREF(self->sockname, read_name(self->fd, getsockname, &self->family));
	}
	Py_XSETREF(self->peername, read_name(self->fd, getpeername, &ignored));
	return PyErr_Occurred() ? -1 : 0;
}

/*
 * Take the descriptor out of the socket object.  False when the object has
 * closed it, or must.
 */
static bool transport_detach_socket(PyObject *sock, int fd)
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

/* ---- the beginning ------------------------------------------------------------------------- */

int transport_set_protocol(struct transport *self, PyObject *protocol)
{
	self->connected = true;
	Py_XSETREF(self->protocol, Py_NewRef(protocol));
	return 0;
}

int transport_open(struct transport *self, Loop *loop, PyObject *sock, int fd,
                   PyObject *protocol, const struct accepted *accepted)
{
	if (self->loop != NULL || self->fd >= 0) {
		PyErr_SetString(PyExc_RuntimeError, "a transport is made only once");
		return -1;
	}
	if (loop_check_closed(loop) < 0)
		return -1;
	/* A connection's own needs no copy: nobody else can enter it. */
	if (accepted != NULL && accepted->context != NULL)
		Py_XSETREF(self->context, Py_NewRef(accepted->context));
	else
		Py_XSETREF(self->context, PyContext_CopyCurrent());
	self->loop = (Loop *)Py_NewRef(loop);
	if (self->context == NULL || self->kind->set_protocol(self, protocol) < 0 ||
	    transport_take_socket(self, sock, fd, accepted) < 0 || owner_enter(self) < 0) {
		transport_give_up(self);
		return -1;
	}
	transport_set_state(self, TRANSPORT_OPEN);
	loop->counts.transports++;
	return 0;
}

int transport_start(struct transport *self, PyObject *waiter)
{
	PyObject *protocol = Py_NewRef(self->protocol);
	PyObject *made = PyObject_GetAttr(protocol, names.connection_made);
	PyObject *args[2] = {waiter, Py_None}, *transport = (PyObject *)self;
	int status;

	Py_DECREF(protocol);
	if (made == NULL)
		return -1;
	status = loop_call_soon_in(self->loop, made, &transport, 1, transport_own_context(self));
	Py_DECREF(made);
	/* The start of reading runs nobody's code, and so needs no copy of a context. */
	if (status < 0 || transport_call_self_soon_in(self, names._start_reading, NULL,
	                                              self->context) < 0)
		return -1;
	/* The waiter wakes only when connection_made() has been called. */
	return waiter == Py_None ? 0 : loop_call_soon(self->loop, helpers.set_result, args, 2);
}

void transport_give_up(struct transport *self)
{
	PyObject *exception = PyErr_GetRaisedException();

	client_leave(self);
	owner_leave(self);
	if (self->state == TRANSPORT_OPEN)
		self->loop->counts.transports--;
	transport_set_state(self, TRANSPORT_CLOSED);
	/* The descriptor stays the caller's, and an object of ours would close it. */
	if (self->sock_made)
		transport_detach_socket(self->sock, self->fd);
	self->fd = -1;
	Py_CLEAR(self->sock);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->loop);
	PyErr_SetRaisedException(exception);
}

/* ---- errors -------------------------------------------------------------------------------- */

int transport_report(struct transport *self, PyObject *exception, const char *message)
{
	/* An error of the network is told in debug mode only. */
	bool quiet = self->loop != NULL && !self->loop->debug &&
	             PyErr_GivenExceptionMatches(exception, PyExc_OSError);

	if (!quiet && transport_call_helper(self, helpers.transport_failed, self->protocol,
	                                    exception, message) < 0)
		return -1;
	return transport_force_close(self, exception);
}

int transport_fatal(struct transport *self, const char *message)
{
	PyObject *exception;
	int status;

	if (exception_ends_loop())
		return -1;
	exception = PyErr_GetRaisedException();
	status = transport_report(self, exception, message);
	Py_DECREF(exception);
	return status;
}

int transport_fatal_errno(struct transport *self, int error, const char *message)
{
	PyObject *exception = exception_from_errno(error);
	int status;

	if (exception == NULL)
		return -1;
	status = transport_report(self, exception, message);
	Py_DECREF(exception);
	return status;
}

/* ---- the end ------------------------------------------------------------------------------- */

/* The refusal of asyncio's close() where it would schedule connection_lost() at once. */
static int transport_check_debug_close(struct transport *self)
{
	if (likely(!self->loop->debug))
		return 0;
	if (self->kind->catch_up != NULL && self->kind->catch_up(self) < 0)
		return -1;
	if (self->state != TRANSPORT_OPEN || self->queued_bytes > 0)
		return 0;
	return loop_check_debug_thread(self->loop);
}

int transport_close(struct transport *self)
{
	if (self->state != TRANSPORT_OPEN)
		return 0;
	if (transport_check_debug_close(self) < 0)
		return -1;
	if (self->state != TRANSPORT_OPEN)
		return 0;
	transport_set_state(self, TRANSPORT_CLOSING);
	transport_stop_reading(self);
	return self->kind->closing(self);
}

int transport_force_close(struct transport *self, PyObject *exception)
{
	int status;

	if (self->state >= TRANSPORT_LOST || self->losses > 0)
		return 0;
	if (loop_check_debug_thread(self->loop) < 0)
		return -1;
	/* asyncio has sent this already, inside write().  A failure has aborted us. */
	if (self->kind->catch_up != NULL && self->kind->catch_up(self) < 0)
		return -1;
	if (self->state >= TRANSPORT_LOST)
		return 0;
	Py_INCREF(self);
	/* A buffer that is dropped may be anybody's, with a __del__. */
	self->kind->drop_queue(self);
	transport_stop_reading(self);
	if (self->send.link != NULL && self->loop->table != NULL &&
	    operation_cancel(self->loop, &self->send))
		self->kind->drop_queue(self);
	status = self->state < TRANSPORT_LOST ? transport_lose(self, exception) : 0;
	Py_DECREF(self);
	return status;
}

int transport_count_loss(struct transport *self)
{
	if (self->losses++ >= LOSSES_BEFORE_WARNING)
		return call_and_drop(helpers.write_after_loss, NULL, 0);
	return 0;
}

int transport_lose(struct transport *self, PyObject *exception)
{
	assert(self->state < TRANSPORT_LOST);
	self->losses = 1;
	if (loop_check_closed(self->loop) < 0) {
		/* Nobody will hear of the loss, and a second call is not told again. */
		if (self->state == TRANSPORT_OPEN)
			transport_set_state(self, TRANSPORT_CLOSING);
		return -1;
	}
	transport_set_state(self, TRANSPORT_LOST);
	return transport_call_self_soon(self, names._call_connection_lost, exception);
}

int transport_call_connection_lost(struct transport *self, PyObject *exception)
{
	PyObject *protocol = Py_XNewRef(self->protocol), *result, *raised = NULL;

	assert(self->state == TRANSPORT_LOST);
	Py_INCREF(self);
	/* A paused transport is told of its end too, and must outlive its receive. */
	operation_strengthen(&self->receive);
	transport_stop_reading(self);
	if (self->connected && protocol != NULL) {
		result = PyObject_CallMethodOneArg(protocol, names.connection_lost, exception);
		if (result == NULL)
			raised = PyErr_GetRaisedException();
		Py_XDECREF(result);
	}
	/* The protocol may have called this itself, or our finalizer. */
	if (likely(self->state == TRANSPORT_LOST)) {
		transport_set_state(self, TRANSPORT_JOINING);
		client_leave(self);
		Py_CLEAR(self->protocol);
		Py_CLEAR(self->held_back);
		if (self->kind->lost != NULL)
			self->kind->lost(self);
		if (self->state == TRANSPORT_JOINING)
			self->kind->join(self);
	}
	Py_XDECREF(protocol);
	Py_DECREF(self);
	if (raised != NULL) {
		PyErr_SetRaisedException(raised);
		return -1;
	}
	return 0;
}

/* Whether `operation`, if it is in flight, is through with the descriptor. */
static bool transport_released(const struct transport *self, const struct operation *operation)
{
	const struct ul_table *table = self->loop->table;

	return operation->link == NULL ||
	       (table != NULL && !loop_is_elsewhere(self->loop) &&
	        table->released(self->loop->driver, operation->token));
}

void transport_join_operations(struct transport *self)
{
	assert(self->state == TRANSPORT_JOINING);
	if (self->receive.link == NULL && self->send.link == NULL)
		transport_end(self);
	else if (transport_released(self, &self->receive) && transport_released(self, &self->send))
		/* The end is seen by others now, though we harvest it only later. */
		transport_close_fd(self);
}

void transport_end(struct transport *self)
{
	assert(self->receive.link == NULL && self->send.link == NULL);
	transport_set_state(self, TRANSPORT_CLOSED);
	transport_close_fd(self);
	Py_CLEAR(self->loop);
}

void transport_close_fd(struct transport *self)
{
	Loop *loop = self->loop;
	PyObject *sock = self->sock;

	if (self->fd_closed)
		return;
	self->fd_closed = true;
	loop->counts.transports--;
	owner_leave(self);
	self->sock = NULL;
	Py_INCREF(loop);
	/* detach() may be anybody's, and end us. */
	if (sock == NULL || transport_detach_socket(sock, self->fd))
		loop_close_fd(loop, self->fd);
	Py_XDECREF(sock);
	Py_DECREF(loop);
}

/* ---- an end that nobody has asked for ------------------------------------------------------ */

/*
 * In whatever thread: end what is in flight and close.  Nothing is, or the loop
 * would still refer to us, but for the receive of a paused stream, which then keeps
 * us until it has ended.
 */
static void transport_abandon(struct transport *self)
{
	transport_set_state(self, TRANSPORT_JOINING);
	operation_strengthen(&self->receive);
	client_leave(self);
	transport_stop_reading(self);
	if (self->state == TRANSPORT_JOINING)
		self->kind->join(self);
}

/* An open transport that nobody refers to: asyncio warns and closes its socket. */
void transport_finalize(struct transport *self)
{
	PyObject *exception;

	if (self->loop == NULL || self->state >= TRANSPORT_JOINING)
		return;
	exception = PyErr_GetRaisedException();
	if (PyErr_ResourceWarning((PyObject *)self, 1, "unclosed transport %R", self) < 0) {
		if (PyErr_ExceptionMatches(PyExc_Warning))
			PyErr_WriteUnraisable((PyObject *)self);
		else
			PyErr_Clear();
	}
	/* The warning may have gone to somebody who has ended us. */
	if (self->loop != NULL && self->state < TRANSPORT_JOINING)
		transport_abandon(self);
	PyErr_SetRaisedException(exception);
}

/*
 * __del__ of a subclass has taken the finalizer's place, and an open transport is
 * about to go.  What is in flight and its descriptor must not go with it.
 */
static void transport_abandon_unfinalized(struct transport *self)
{
	PyObject *exception = PyErr_GetRaisedException();

	transport_abandon(self);
	PyErr_SetRaisedException(exception);
}

/* ---- memory -------------------------------------------------------------------------------- */

PyObject *transport_new(PyTypeObject *type, const struct transport_kind *kind)
{
	struct transport *self = (struct transport *)type->tp_alloc(type, 0);

	if (self == NULL)
		return NULL;
	self->kind = kind;
	self->fd = -1;
	/* Until __init__: every method then does nothing. */
	self->state = TRANSPORT_CLOSED;
	self->receive.completed = kind->received;
	self->receive.holder = (PyObject *)self;
	self->send.completed = kind->sent;
	self->send.holder = (PyObject *)self;
	self->high_water = WATER_HIGH_BYTES;
	self->low_water = WATER_HIGH_BYTES / 4;
	return (PyObject *)self;
}

int transport_traverse(struct transport *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->extra);
	Py_VISIT(self->loop);
	Py_VISIT(self->protocol);
	Py_VISIT(self->context);
	Py_VISIT(self->write_context);
	Py_VISIT((PyObject *)self->server);
	Py_VISIT(self->sock);
	Py_VISIT(self->held_back);
	return 0;
}

int transport_clear(struct transport *self)
{
	if (unlikely(self->loop != NULL && self->state < TRANSPORT_JOINING)) {
		client_forget(self);
		transport_abandon_unfinalized(self);
	}
	/* The borrower of the descriptor is garbage too. */
	if (unlikely(self->state == TRANSPORT_JOINING && self->loop != NULL)) {
		PyObject *exception = PyErr_GetRaisedException();

		self->kind->join(self);
		PyErr_SetRaisedException(exception);
	}
	Py_CLEAR(self->extra);
	Py_CLEAR(self->protocol);
	Py_CLEAR(self->context);
	Py_CLEAR(self->write_context);
	client_forget(self);
	Py_CLEAR(self->sock);
	Py_CLEAR(self->held_back);
	return 0;
}

int transport_dealloc_begins(struct transport *self)
{
	if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
		return -1;
	PyObject_GC_UnTrack(self);
	if (unlikely(self->loop != NULL && self->state < TRANSPORT_JOINING)) {
		/* As PyObject_CallFinalizerFromDealloc() does. */
		Py_SET_REFCNT(self, 1);
		transport_abandon_unfinalized(self);
		Py_SET_REFCNT(self, Py_REFCNT(self) - 1);
		if (Py_REFCNT(self) > 0) {
			PyObject_GC_Track(self);
			return -1;
		}
	}
	if (self->weakrefs != NULL)
		PyObject_ClearWeakRefs((PyObject *)self);
	assert(self->receive.link == NULL && self->send.link == NULL);
	return 0;
}

void transport_dealloc_ends(struct transport *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_CLEAR(self->peername);
	Py_CLEAR(self->sockname);
	/* So is no pointer to us left with it. */
	assert(self->loop == NULL);
	type->tp_free(self);
	Py_DECREF(type);
}
