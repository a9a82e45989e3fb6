/*
 * The sending half of a datagram transport.
 *
 * sendto() makes the system call: an error belongs to one datagram and is told
 * before sendto() returns, and on a connected socket it may be the answer to
 * the one before, which a sendmmsg(2) of many would swallow.  What the socket
 * has no room for is queued, and tried again with the same call when there may
 * be some.  There is no verb for that: an AF_UNIX socket finds its peer's queue
 * full only after it has read the datagram, and io_uring, up to Linux 6.18 at
 * least, then goes on from the end of it and sends an empty one.
 */
#include "addresses.h"
#include "calls.h"
#include "datagram.h"
#include "../base/checks.h"
#include "../callbacks/context.h"
#include "../operations/threads.h"

#include <errno.h>
#include <poll.h>

#define QUEUE_CAPACITY_MIN 16
/* Nothing tells when the queue of an AF_UNIX peer has room: ask again, ever less often. */
#define RETRY_NS_MIN UINT64_C(100000)
#define RETRY_NS_MAX UINT64_C(10000000)

static struct parcel *datagram_head(Datagram *self)
{
	assert(self->count > 0);
	return &self->queue[self->head];
}

/* ---- the queue ------------------------------------------------------------------------ */

static int datagram_grow_queue(Datagram *self)
{
	size_t capacity = self->capacity == 0 ? QUEUE_CAPACITY_MIN : self->capacity * 2, i;
	struct parcel *queue = PyMem_New(struct parcel, capacity);

	if (queue == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; i < self->count; i++)
		queue[i] = self->queue[(self->head + i) & (self->capacity - 1)];
	PyMem_Free(self->queue);
	self->queue = queue;
	self->capacity = capacity;
	self->head = 0;
	return 0;
}

static size_t datagram_cost(const Datagram *self, const struct parcel *parcel)
{
	return (size_t)PyBytes_GET_SIZE(parcel->data) + self->header_bytes;
}

/* Takes the reference to `data`, even on failure; borrows `address`. */
static int datagram_push(Datagram *self, PyObject *data, PyObject *address)
{
	struct parcel *parcel;

	if (self->count == self->capacity && datagram_grow_queue(self) < 0) {
		Py_DECREF(data);
		return -1;
	}
	parcel = &self->queue[(self->head + self->count) & (self->capacity - 1)];
	parcel->data = data;
	parcel->address = Py_XNewRef(address);
	self->count++;
	self->base.queued_bytes += datagram_cost(self, parcel);
	return 0;
}

/* Gives what was the head. */
static struct parcel datagram_pop(Datagram *self)
{
	struct parcel parcel = *datagram_head(self);

	self->head = (self->head + 1) & (self->capacity - 1);
	self->count--;
	self->base.queued_bytes -= datagram_cost(self, &parcel);
	return parcel;
}

static void parcel_release(struct parcel *parcel)
{
	Py_DECREF(parcel->data);
	Py_XDECREF(parcel->address);
}

void datagram_drop_queue(struct transport *base)
{
	Datagram *self = datagram_of(base);

	while (self->count > 0) {
		struct parcel parcel = datagram_pop(self);

		parcel_release(&parcel);
	}
}

/* ---- flow control ------------------------------------------------------------------------ */

static int datagram_maybe_resume_protocol(Datagram *self)
{
	if (!self->base.protocol_paused || self->base.queued_bytes > self->base.low_water)
		return 0;
	self->base.protocol_paused = false;
	return transport_call_protocol(&self->base, names.resume_writing, NULL,
	                               "protocol.resume_writing() failed");
}

/* ---- one datagram --------------------------------------------------------------------------- */

enum attempt {
	SENT,
	BLOCKED,
	RAISED,       /* an exception is set */
};

/* By the socket object: its rules, its exceptions. */
static enum attempt datagram_send_by_socket(Datagram *self, PyObject *data, PyObject *address)
{
	PyObject *args[3] = {Py_XNewRef(self->base.sock), data,
	                     address == NULL ? Py_None : address};
	PyObject *result = NULL;

	if (unlikely(args[0] == NULL))
		exception_set_errno(EBADF);
	else if (self->has_peer)
		result = PyObject_VectorcallMethod(names.send, args, 2, NULL);
	else
		result = PyObject_VectorcallMethod(names.sendto, args, 3, NULL);
	Py_XDECREF(args[0]);
	if (result != NULL) {
		Py_DECREF(result);
		return SENT;
	}
	if (PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
	    PyErr_ExceptionMatches(PyExc_InterruptedError)) {
		PyErr_Clear();
		return BLOCKED;
	}
	return RAISED;
}

static enum attempt datagram_call_send(Datagram *self, const void *data, size_t size,
                                       const struct raw_address *to)
{
	ssize_t sent;

	/* A buffer of Python's own, or an audit hook, may have ended us: it is another's number. */
	if (unlikely(self->base.fd_closed)) {
		exception_set_errno(EBADF);
		return RAISED;
	}
	do {
		sent = sendto(self->base.fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT,
		              to == NULL ? NULL : &to->any, to == NULL ? 0 : to->size);
	} while (sent < 0 && errno == EINTR);
	if (likely(sent >= 0)) {
		self->base.loop->counts.bytes_out += (uint64_t)sent;
		return SENT;
	}
	if (errno == EAGAIN)
		return BLOCKED;
	exception_set_errno(errno);
	return RAISED;
}

/* `data` is bytes-like; `address` is where to, or NULL for asyncio's None. */
static enum attempt datagram_attempt(Datagram *self, PyObject *data, PyObject *address)
{
	struct raw_address raw, *to = NULL;
	enum attempt attempt;
	Py_buffer view;

	if (unlikely(self->by_socket))
		return datagram_send_by_socket(self, data, address);
	if (!self->has_peer) {
		if (address == NULL ||
		    !address_parse(self->base.loop, self->base.family, address, &raw))
			return datagram_send_by_socket(self, data, address);
		if (unlikely(PySys_Audit("socket.sendto", "OO", self->base.sock, address) < 0))
			return RAISED;
		to = &raw;
	}
	if (likely(PyBytes_CheckExact(data)))
		return datagram_call_send(self, PyBytes_AS_STRING(data),
		                          (size_t)PyBytes_GET_SIZE(data), to);
	if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
		return RAISED;
	attempt = datagram_call_send(self, view.buf, (size_t)view.len, to);
	PyBuffer_Release(&view);
	return attempt;
}

/* A datagram could not be sent; an exception says why.  -1 with what a callee raised. */
static int datagram_send_failed(Datagram *self)
{
	if (PyErr_ExceptionMatches(PyExc_OSError))
		return datagram_tell_error(self);
	return transport_fatal(&self->base, "Fatal write error on datagram transport");
}

/* The same from a callback of the loop: nobody else would hear what a callee raises. */
static int datagram_queued_send_failed(Datagram *self)
{
	PyObject *protocol = Py_XNewRef(self->base.protocol);
	int status = datagram_send_failed(self);

	if (unlikely(status < 0))
		status = transport_protocol_failed(&self->base, protocol,
		                                   "Exception in callback error_received()");
	Py_XDECREF(protocol);
	return status;
}

/* ---- sending what is queued ------------------------------------------------------------------ */

static int datagram_wait_by_clock(Datagram *self, ul_token *token)
{
	Loop *loop = self->base.loop;

	self->retry_ns = self->retry_ns == 0 ? RETRY_NS_MIN : self->retry_ns * 2;
	if (self->retry_ns > RETRY_NS_MAX)
		self->retry_ns = RETRY_NS_MAX;
	return loop->table->timeout(loop->driver, &self->base.send, self->retry_ns, token);
}

/*
 * Have the driver tell when there may be room.  An AF_UNIX socket without a
 * peer is always writable, and nothing but another try tells about a full one.
 */
static int datagram_wait(Datagram *self)
{
	bool by_clock = self->base.family == AF_UNIX && !self->has_peer;
	Loop *loop = self->base.loop;
	ul_token token;
	int status = 0;

	assert(self->count > 0 && self->base.state < TRANSPORT_LOST);
	assert(self->base.send.link == NULL);
	if (unlikely(loop_check_closed(loop) < 0))
		return -1;
	if (unlikely(loop_is_elsewhere(loop)))
		return loop_leave_call(loop, (PyObject *)self, names._wait_for_room, NULL);
	if (!by_clock)
		status = loop->table->poll(loop->driver, &self->base.send, self->base.fd, POLLOUT,
		                           &token);
	/* Room already, or so it says: the next try is in another turn all the same. */
	if (status >= 0)
		status = datagram_wait_by_clock(self, &token);
	if (likely(status == -EINPROGRESS)) {
		self->base.send.token = token;
		operation_hold(loop, &self->base.send);
		return 0;
	}
	return transport_fatal_errno(&self->base, -status,
	                             "Fatal write error on datagram transport");
}

static int datagram_wait_if_needed(Datagram *self)
{
	return self->count > 0 && self->base.send.link == NULL ? datagram_wait(self) : 0;
}

/* In the loop's thread, for another that has found the socket full. */
PyObject *datagram_wait_for_room(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	if (self->base.state < TRANSPORT_LOST && datagram_wait_if_needed(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* Send what is queued until the socket is full again. */
static int datagram_drain(Datagram *self)
{
	int status = 0;

	while (status == 0 && self->count > 0 && self->base.send.link == NULL &&
	       self->base.state < TRANSPORT_LOST) {
		struct parcel parcel = *datagram_head(self);
		enum attempt attempt;

		Py_INCREF(parcel.data);
		Py_XINCREF(parcel.address);
		attempt = datagram_attempt(self, parcel.data, parcel.address);
		parcel_release(&parcel);
		if (attempt == BLOCKED)
			break;
		/* A socket of Python's own may have run code that ended us. */
		if (likely(self->count > 0)) {
			parcel = datagram_pop(self);
			parcel_release(&parcel);
		}
		self->retry_ns = 0;
		if (unlikely(attempt == RAISED))
			status = datagram_queued_send_failed(self);
	}
	if (status == 0 && self->base.state < TRANSPORT_LOST)
		status = datagram_maybe_resume_protocol(self); /* may send, close, abort */
	return status;
}

/* After datagram_drain(): wait again, or end.  Keeps a failing status. */
static int datagram_after_drain(Datagram *self, int status)
{
	PyObject *exception = PyErr_GetRaisedException();
	int after = 0;

	if (self->base.state < TRANSPORT_LOST) {
		if (self->count > 0) {
			after = datagram_wait_if_needed(self);
		} else {
			Py_CLEAR(self->base.write_context);
			if (self->base.state == TRANSPORT_CLOSING)
				after = transport_lose(&self->base, Py_None);
		}
	}
	if (exception == NULL)
		return after < 0 ? -1 : status;
	if (after < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
	return status;
}

int datagram_sent(Loop *loop, struct operation *operation,
                  const struct ul_completion *Py_UNUSED(completion))
{
	Datagram *self = container_of(operation, Datagram, base.send);
	PyObject *context;
	int status = 0;

	Py_INCREF(self);
	operation_drop(operation);
	if (unlikely(self->base.state >= TRANSPORT_LOST || loop->closed)) {
		if (self->base.state == TRANSPORT_JOINING)
			self->base.kind->join(&self->base);
	} else {
		/* Whatever the wait ended with: the next try has the answer. */
		context = Py_XNewRef(self->base.write_context);
		status = context_enter(context);
		if (status == 0) {
			status = datagram_after_drain(self, datagram_drain(self));
			context_exit(context);
		}
		Py_XDECREF(context);
	}
	Py_DECREF(self);
	return status;
}

/* ---- what the user calls ----------------------------------------------------------------- */

static int datagram_queue(Datagram *self, PyObject *data, PyObject *address)
{
	PyObject *copy = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyObject_Bytes(data);

	if (copy == NULL)
		return -1;
	/* A __bytes__ may have aborted us, and nothing is queued any more. */
	if (unlikely(self->base.state >= TRANSPORT_LOST)) {
		Py_DECREF(copy);
		return 0;
	}
	if (datagram_push(self, copy, address) < 0)
		return -1;
	if (self->count == 1) {
		Py_XSETREF(self->base.write_context, PyContext_CopyCurrent());
		if (self->base.write_context == NULL)
			return -1;
		if (self->base.state < TRANSPORT_LOST && datagram_wait_if_needed(self) < 0)
			return -1;
	}
	/* In asyncio one can still try a lost socket; nothing of it waits for room. */
	return self->base.state < TRANSPORT_LOST ? transport_maybe_pause_protocol(&self->base) : 0;
}

static int datagram_check_address(Datagram *self, PyObject *address)
{
	int same;

	if (self->address == NULL || address == NULL || address == self->address)
		return 0;
	same = PyObject_RichCompareBool(address, self->address, Py_EQ);
	if (same == 0)
		PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S",
		             self->address);
	return same > 0 ? 0 : -1;
}

static int datagram_send(Datagram *self, PyObject *data, PyObject *address)
{
	if (datagram_check_address(self, address) < 0)
		return -1;
	if (self->address != NULL)
		address = self->address;
	if (unlikely(self->base.state >= TRANSPORT_LOST &&
	             (self->address != NULL || self->base.state >= TRANSPORT_JOINING)))
		return transport_count_loss(&self->base);
	if (likely(self->count == 0)) {
		enum attempt attempt = datagram_attempt(self, data, address);

		if (likely(attempt == SENT))
			return 0;
		if (attempt == RAISED)
			return datagram_send_failed(self);
		if (self->base.state >= TRANSPORT_LOST)
			return 0; /* closed before there can be room */
	}
	return datagram_queue(self, data, address);
}

PyObject *datagram_sendto(Datagram *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
	PyObject *data = nargs > 0 ? args[0] : NULL, *address = nargs > 1 ? args[1] : NULL;
	Py_ssize_t i;
	int status;

	for (i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
		PyObject *name = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];

		if (data == NULL && PyUnicode_CompareWithASCIIString(name, "data") == 0) {
			data = value;
		} else if (nargs < 2 && PyUnicode_CompareWithASCIIString(name, "addr") == 0) {
			address = value;
		} else {
			PyErr_Format(PyExc_TypeError,
			             "sendto() got an unexpected keyword argument '%U'", name);
			return NULL;
		}
	}
	if (unlikely(data == NULL || nargs > 2)) {
		PyErr_SetString(PyExc_TypeError, "sendto() takes data and, at most, addr");
		return NULL;
	}
	if (unlikely(!PyBytes_Check(data) && !PyByteArray_Check(data) &&
	             !PyMemoryView_Check(data))) {
		PyObject *name = PyType_GetName(Py_TYPE(data));

		if (name != NULL)
			PyErr_Format(PyExc_TypeError,
			             "data argument must be a bytes-like object, not %R", name);
		Py_XDECREF(name);
		return NULL;
	}
	if (unlikely(!self->sends_empty)) {
		int empty = PyObject_Not(data);

		if (empty < 0)
			return NULL;
		if (empty)
			Py_RETURN_NONE;
	}
	Py_INCREF(self);
	status = datagram_send(self, data, address == Py_None ? NULL : address);
	Py_DECREF(self);
	if (unlikely(status < 0))
		return NULL;
	Py_RETURN_NONE;
}
