/*
 * The receiving half of a datagram transport.
 *
 * One stream of datagrams per socket, which the driver keeps armed.  An error
 * of the socket ends it, is told to the protocol, and the stream is started
 * again: an error answers one datagram, not the socket.
 *
 * Sockets whose addresses only the socket module can read (netlink, packet, ...),
 * and those with a recvfrom() or sendto() of their own, wait for readability
 * instead, and receive with their socket object.
 */
#include "addresses.h"
#include "calls.h"
#include "datagram.h"
#include "transport_read.h"
#include "../base/checks.h"
#include "../callbacks/context.h"

#include <errno.h>
#include <poll.h>

/* asyncio's max_size: what is longer is cut. */
#define DATAGRAM_SIZE_MAX (256 * 1024)

/* ---- telling the protocol ------------------------------------------------------------ */

/* Takes both references. */
static int datagram_deliver(Datagram *self, PyObject *data, PyObject *address)
{
	PyObject *args[3] = {Py_NewRef(self->base.protocol), data, address}, *result;
	int status = 0;

	result = PyObject_VectorcallMethod(names.datagram_received, args, 3, NULL);
	if (unlikely(result == NULL))
		status = transport_protocol_failed(&self->base, args[0],
		                                   "Exception in callback datagram_received()");
	Py_XDECREF(result);
	Py_DECREF(data);
	Py_DECREF(address);
	Py_DECREF(args[0]);
	return status;
}

int datagram_tell_error(Datagram *self)
{
	PyObject *protocol = Py_XNewRef(self->base.protocol);
	PyObject *exception = PyErr_GetRaisedException(), *result;

	if (protocol == NULL) {
		Py_DECREF(exception);
		return 0;
	}
	result = PyObject_CallMethodOneArg(protocol, names.error_received, exception);
	Py_XDECREF(result);
	Py_DECREF(exception);
	Py_DECREF(protocol);
	return result == NULL ? -1 : 0;
}

/* The same from a callback of the loop: nobody else would hear what it raises. */
static int datagram_deliver_error(Datagram *self)
{
	PyObject *protocol = Py_XNewRef(self->base.protocol);
	int status = datagram_tell_error(self);

	if (unlikely(status < 0))
		status = transport_protocol_failed(&self->base, protocol,
		                                   "Exception in callback error_received()");
	Py_XDECREF(protocol);
	return status;
}

/* ---- the stream of datagrams ------------------------------------------------------------ */

bool datagram_has_held_back(const struct transport *base)
{
	return base->held_back != NULL && PyList_GET_SIZE(base->held_back) > 0;
}

int datagram_arm(struct transport *base)
{
	Loop *loop = base->loop;
	ul_token token;
	int status;

	assert(base->receive.link == NULL);
	if (base->deliver_scheduled)
		return 0; /* it comes back here */
	if (unlikely(loop_check_closed(loop) < 0))
		return -1;
	if (likely(!datagram_of(base)->by_socket))
		status = loop->table->recv_from(loop->driver, &base->receive, base->fd, &token);
	else
		status = loop->table->poll(loop->driver, &base->receive, base->fd, POLLIN,
		                           &token);
	if (likely(status == -EINPROGRESS)) {
		base->receive.token = token;
		base->reading = READING;
		operation_hold(loop, &base->receive);
		return 0;
	}
	/* Readable already. */
	if (status >= 0 && datagram_of(base)->by_socket)
		return transport_schedule_delivery(base);
	base->reading = READING_ENDED;
	return transport_fatal_errno(base, -status, "Fatal read error on datagram transport");
}

static int datagram_take(Datagram *self, const struct ul_completion *completion)
{
	PyObject *data, *address = NULL;

	self->base.loop->counts.bytes_in += (uint64_t)completion->result;
	data = PyBytes_FromStringAndSize((const char *)completion->data, completion->result);
	if (likely(data != NULL))
		address = address_new(self->base.loop, completion->address,
		                      completion->address_size);
	if (unlikely(address == NULL)) {
		Py_XDECREF(data);
		return transport_fatal(&self->base, "Fatal read error on datagram transport");
	}
	if (likely(transport_wants_data(&self->base) && !datagram_has_held_back(&self->base)))
		return datagram_deliver(self, data, address);
	return transport_hold_back(&self->base, Py_BuildValue("(NN)", data, address));
}

static int datagram_take_error(Datagram *self, int error)
{
	/* Cancelled, or in the child of a fork, whose parent has got the last: no error. */
	if (error == ECANCELED)
		return 0;
	/* Somebody closed the descriptor: there is nothing to be armed again. */
	if (error == EBADF || error == ENOTSOCK)
		self->base.reading = READING_ENDED;
	exception_set_errno(error);
	if (self->base.paused || datagram_has_held_back(&self->base))
		return transport_hold_back(&self->base, PyErr_GetRaisedException());
	return datagram_deliver_error(self);
}

/* (data, address) as a tuple, of whatever Python would unpack into two; takes the reference. */
static PyObject *unpack_pair(PyObject *answer)
{
	PyObject *pair = PySequence_Tuple(answer);

	Py_DECREF(answer);
	if (pair != NULL && unlikely(PyTuple_GET_SIZE(pair) != 2)) {
		PyErr_Format(PyExc_ValueError, "recvfrom() gave %zd values for data and address",
		             PyTuple_GET_SIZE(pair));
		Py_CLEAR(pair);
	}
	return pair;
}

/* What the socket object's recvfrom() gives; NULL with an exception. */
static PyObject *datagram_call_recvfrom(Datagram *self)
{
	PyObject *size = PyLong_FromLong(DATAGRAM_SIZE_MAX), *sock, *answer;

	if (size == NULL)
		return NULL;
	sock = Py_NewRef(self->base.sock);
	answer = PyObject_CallMethodOneArg(sock, names.recvfrom, size);
	Py_DECREF(sock);
	Py_DECREF(size);
	return answer == NULL ? NULL : unpack_pair(answer);
}

/* Readable: receive with the socket object, which knows its addresses. */
static int datagram_take_from_socket(Datagram *self)
{
	PyObject *pair;
	int status = 0;

	if (!transport_wants_data(&self->base))
		return 0;
	pair = datagram_call_recvfrom(self);
	if (likely(pair != NULL)) {
		/* A socket of Python's own may have run code that ended us. */
		if (likely(self->base.protocol != NULL))
			status = datagram_deliver(self, Py_NewRef(PyTuple_GET_ITEM(pair, 0)),
			                          Py_NewRef(PyTuple_GET_ITEM(pair, 1)));
		Py_DECREF(pair);
		return status;
	}
	if (PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
	    PyErr_ExceptionMatches(PyExc_InterruptedError)) {
		PyErr_Clear();
		return 0;
	}
	if (PyErr_ExceptionMatches(PyExc_OSError))
		return datagram_deliver_error(self);
	return transport_fatal(&self->base, "Fatal read error on datagram transport");
}

__attribute__((always_inline))
static inline int datagram_handle(struct transport *base, const struct ul_completion *completion)
{
	Datagram *self = datagram_of(base);

	if (unlikely(base->state != TRANSPORT_OPEN))
		return 0;
	if (unlikely(completion->result < 0))
		return datagram_take_error(self, -completion->result);
	if (unlikely(self->by_socket))
		return datagram_take_from_socket(self);
	return datagram_take(self, completion);
}

int datagram_received(Loop *loop, struct operation *operation,
                      const struct ul_completion *completion)
{
	return transport_received(loop, operation, completion, datagram_handle);
}

/* ---- delivering what was held back -------------------------------------------------------- */

static int datagram_deliver_item(Datagram *self, PyObject *item)
{
	if (PyTuple_Check(item))
		return datagram_deliver(self, Py_NewRef(PyTuple_GET_ITEM(item, 0)),
		                        Py_NewRef(PyTuple_GET_ITEM(item, 1)));
	PyErr_SetRaisedException(Py_NewRef(item));
	return datagram_deliver_error(self);
}

/* Deliver what was held back, as long as the protocol wants it. */
static int datagram_deliver_held_back(Datagram *self)
{
	while (transport_wants_data(&self->base) && datagram_has_held_back(&self->base)) {
		PyObject *item = transport_take_held_back(&self->base);
		int status = item == NULL ? -1 : datagram_deliver_item(self, item);

		Py_XDECREF(item);
		if (unlikely(status < 0)) {
			transport_deliver_later(&self->base);
			return -1;
		}
	}
	if (unlikely(self->by_socket) && datagram_take_from_socket(self) < 0)
		/* Only a receive is started again in the next run of the loop. */
		return transport_receive_ended(&self->base, -1);
	return transport_receive(&self->base);
}

PyObject *datagram_deliver_held_back_method(Datagram *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *context = Py_XNewRef(self->base.context);
	int status = 0;

	self->base.deliver_scheduled = false;
	if (self->base.state == TRANSPORT_OPEN) {
		status = context_enter(context);
		if (status == 0) {
			status = datagram_deliver_held_back(self);
			context_exit(context);
		}
	}
	Py_XDECREF(context);
	if (status < 0)
		return NULL;
	Py_RETURN_NONE;
}
