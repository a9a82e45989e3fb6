/*
 * The sending half of a datagram transport.
 *
 * sendto() makes the system call: an error belongs to one datagram and is told
 * before sendto() returns, and on a connected socket it may be the answer to
 * the one before, which a sendmmsg(2) of many would swallow.  What the socket
 * has no room for is queued; the driver sends the head of the queue when there
 * is some, and the rest follows with plain calls.
 */
#include "addresses.h"
#include "datagram.h"
#include "stream.h"

#include <errno.h>
#include <poll.h>

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define LOSSES_BEFORE_WARNING 5
#define QUEUE_CAPACITY_MIN 16

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
	self->queued_bytes += datagram_cost(self, parcel);
	return 0;
}

/* Gives what was the head. */
static struct parcel datagram_pop(Datagram *self)
{
	struct parcel parcel = *datagram_head(self);

	self->head = (self->head + 1) & (self->capacity - 1);
	self->count--;
	self->queued_bytes -= datagram_cost(self, &parcel);
	return parcel;
}

static void parcel_release(struct parcel *parcel)
{
	Py_DECREF(parcel->data);
	Py_XDECREF(parcel->address);
}

void datagram_drop_queue(Datagram *self)
{
	/* The head, while lent, is the kernel's. */
	size_t keep = self->lent ? 1 : 0;

	while (self->count > keep) {
		struct parcel *last = &self->queue[(self->head + self->count - 1) &
		                                   (self->capacity - 1)];

		self->count--;
		parcel_release(last);
	}
	self->queued_bytes = self->count > 0 ? datagram_cost(self, datagram_head(self)) : 0;
}

/* ---- flow control ------------------------------------------------------------------------ */

static int datagram_call_protocol(Datagram *self, PyObject *method, const char *message)
{
	PyObject *protocol = Py_NewRef(self->protocol);
	PyObject *result = PyObject_CallMethodNoArgs(protocol, method);
	int status = 0;

	if (unlikely(result == NULL))
		status = datagram_protocol_failed(self, protocol, message);
	Py_XDECREF(result);
	Py_DECREF(protocol);
	return status;
}

int datagram_maybe_pause_protocol(Datagram *self)
{
	if (self->queued_bytes <= self->high_water || self->protocol_paused)
		return 0;
	self->protocol_paused = true;
	return datagram_call_protocol(self, names.pause_writing,
	                              "protocol.pause_writing() failed");
}

static int datagram_maybe_resume_protocol(Datagram *self)
{
	if (!self->protocol_paused || self->queued_bytes > self->low_water)
		return 0;
	self->protocol_paused = false;
	return datagram_call_protocol(self, names.resume_writing,
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
	PyObject *args[3] = {self->sock, data, address == NULL ? Py_None : address};
	PyObject *result = PyObject_VectorcallMethod(names.sendto, args, 3, NULL);

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

	do {
		sent = sendto(self->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT,
		              to == NULL ? NULL : &to->any, to == NULL ? 0 : to->size);
	} while (sent < 0 && errno == EINTR);
	if (likely(sent >= 0))
		return SENT;
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

	if (!self->has_peer) {
		if (address == NULL || !address_parse(self->loop, self->family, address, &raw))
			return datagram_send_by_socket(self, data, address);
		if (unlikely(PySys_Audit("socket.sendto", "OO", self->sock, address) < 0))
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
	return datagram_fatal(self, "Fatal write error on datagram transport");
}

/* The same from a callback of the loop: nobody else would hear what a callee raises. */
static int datagram_queued_send_failed(Datagram *self)
{
	PyObject *protocol = Py_NewRef(self->protocol);
	int status = datagram_send_failed(self);

	if (unlikely(status < 0))
		status = datagram_protocol_failed(self, protocol,
		                                  "Exception in callback error_received()");
	Py_DECREF(protocol);
	return status;
}

/* ---- sending what is queued ------------------------------------------------------------------ */

/*
 * Have the driver send the head of the queue when there is room, or tell when
 * there may be.  An operation on a full socket ends no sooner than the socket
 * takes something, but for addresses that only the socket object understands.
 */
static int datagram_wait(Datagram *self)
{
	const struct ul_table *table = self->loop->table;

	while (self->count > 0 && self->send.link == NULL && self->state < DATAGRAM_LOST) {
		struct parcel *head = datagram_head(self), sent;
		struct raw_address raw;
		bool lend = self->has_peer ||
		            address_parse(self->loop, self->family, head->address, &raw);
		ul_token token;
		int status;

		if (unlikely(loop_check_closed(self->loop) < 0))
			return -1;
		if (lend)
			status = table->send_to(self->loop->driver, &self->send, self->fd,
			                        PyBytes_AS_STRING(head->data),
			                        (uint32_t)PyBytes_GET_SIZE(head->data),
			                        self->has_peer ? NULL : &raw.any,
			                        self->has_peer ? 0 : raw.size, &token);
		else
			status = table->poll(self->loop->driver, &self->send, self->fd, POLLOUT,
			                     &token);
		if (likely(status == -EINPROGRESS)) {
			self->send.token = token;
			self->lent = lend;
			sink_hold(self->loop, &self->send);
			return 0;
		}
		sent = datagram_pop(self);
		parcel_release(&sent);
		if (status < 0) {
			exception_set_errno(-status);
			if (datagram_queued_send_failed(self) < 0)
				return -1;
		}
	}
	return 0;
}

/* Send what is queued until the socket is full again. */
static int datagram_drain(Datagram *self)
{
	int status = 0;

	while (status == 0 && self->count > 0 && self->send.link == NULL &&
	       self->state < DATAGRAM_LOST) {
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
		if (unlikely(attempt == RAISED))
			status = datagram_queued_send_failed(self);
	}
	if (status == 0 && self->state < DATAGRAM_LOST)
		status = datagram_maybe_resume_protocol(self); /* may send, close, abort */
	return status;
}

/* After datagram_drain(): wait again, or end.  Keeps a failing status. */
static int datagram_settle(Datagram *self, int status)
{
	PyObject *exception = PyErr_GetRaisedException();
	int settled = 0;

	if (self->state < DATAGRAM_LOST) {
		settled = datagram_wait(self);
		if (settled == 0 && self->count == 0) {
			Py_CLEAR(self->write_context);
			if (self->state == DATAGRAM_CLOSING)
				settled = datagram_lose(self, Py_None);
		}
	}
	if (exception == NULL)
		return settled < 0 ? -1 : status;
	if (settled < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
	return status;
}

/* The head of the queue has left, or never will. */
static int datagram_head_done(Datagram *self, int result)
{
	struct parcel parcel;

	/* Not sent, and no reason not to: it is tried again. */
	if (result == -EAGAIN || result == -EINTR)
		return 0;
	parcel = datagram_pop(self);
	parcel_release(&parcel);
	if (likely(result >= 0))
		return 0;
	exception_set_errno(-result);
	return datagram_queued_send_failed(self);
}

int datagram_sent(Loop *loop, struct sink *sink, const struct ul_completion *completion)
{
	Datagram *self = container_of(sink, Datagram, send);
	PyObject *context;
	bool lent = self->lent;
	int status = 0;

	Py_INCREF(self);
	sink_drop(sink);
	self->lent = false;
	/* The kernel may read these bytes at any later time: never free them. */
	if (unlikely(lent && (completion->flags & UL_KEEP)))
		Py_INCREF(datagram_head(self)->data);
	if (unlikely(self->state >= DATAGRAM_LOST || loop->closed)) {
		datagram_drop_queue(self);
		if (self->state == DATAGRAM_JOINING)
			datagram_join(self);
	} else {
		context = Py_XNewRef(self->write_context);
		status = stream_enter(context);
		if (status == 0) {
			if (lent)
				status = datagram_head_done(self, completion->result);
			if (status == 0)
				status = datagram_drain(self);
			status = datagram_settle(self, status);
			stream_exit(context);
		}
		Py_XDECREF(context);
	}
	Py_DECREF(self);
	return status;
}

/* ---- what the user calls ------------------------------------------------------------------------ */

static int datagram_queue(Datagram *self, PyObject *data, PyObject *address)
{
	PyObject *copy = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyBytes_FromObject(data);

	if (copy == NULL || datagram_push(self, copy, address) < 0)
		return -1;
	if (self->count == 1) {
		Py_XSETREF(self->write_context, PyContext_CopyCurrent());
		if (self->write_context == NULL || datagram_wait(self) < 0)
			return -1;
	}
	/* In asyncio one can still try a lost socket; nothing of it waits for room. */
	return self->state < DATAGRAM_LOST ? datagram_maybe_pause_protocol(self) : 0;
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
	if (unlikely(self->state >= DATAGRAM_LOST &&
	             (self->address != NULL || self->state >= DATAGRAM_JOINING))) {
		if (self->losses++ >= LOSSES_BEFORE_WARNING)
			return call_and_drop(helpers.write_after_loss, NULL, 0);
		return 0;
	}
	if (likely(self->count == 0)) {
		enum attempt attempt = datagram_attempt(self, data, address);

		if (likely(attempt == SENT))
			return 0;
		if (attempt == RAISED)
			return datagram_send_failed(self);
		if (self->state >= DATAGRAM_LOST)
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
