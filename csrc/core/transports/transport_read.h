/* Reading, of both kinds of transport. */
#ifndef UL_TRANSPORT_READ_H
#define UL_TRANSPORT_READ_H

#include "transport.h"
#include "../base/clock.h"
#include "../callbacks/context.h"

static inline bool transport_wants_data(const struct transport *self)
{
	return self->state == TRANSPORT_OPEN && !self->paused;
}

/* Start to receive, if it is time to. */
int transport_receive(struct transport *self);
/* The receive operation is over: close, or start another.  Keeps a failing status. */
int transport_receive_ended(struct transport *self, int status);
/*
 * A completion of the receive operation, from its arrival to what follows from it.
 * `handle`, which knows the kind, is called in the transport's context, and is a constant:
 * it is inlined here, and this into its only caller.
 */
__attribute__((always_inline))
static inline int transport_received(Loop *loop, struct operation *operation,
                                     const struct ul_completion *completion,
                                     int (*handle)(struct transport *self,
                                                   const struct ul_completion *completion))
{
	struct transport *self = container_of(operation, struct transport, receive);
	bool terminal = !(completion->flags & UL_MORE);
	int status = 0;
	double start = 0;

	/* The protocol may drop every other reference. */
	Py_INCREF(self);
	if (unlikely(terminal)) {
		operation_drop(operation);
		self->readable = false;
	}
	if (likely(!loop->closed)) {
		PyObject *context = Py_XNewRef(self->context);

		status = context_enter(context);
		if (unlikely(loop->debug) && status == 0) {
			start = loop_time(loop);
			PyErr_Clear(); /* an overridden time() that fails only spoils this */
		}
		if (likely(status == 0)) {
			status = handle(self, completion);
			context_exit(context);
		}
		Py_XDECREF(context);
	}
	if (completion->flags & UL_LENT)
		loop->table->recycle(loop->driver, completion->data);
	if (unlikely(terminal)) {
		if (likely(!loop->closed))
			status = transport_receive_ended(self, status);
		else if (self->state == TRANSPORT_JOINING)
			self->kind->join(self);
	}
	if (unlikely(loop->debug) && status == 0 && !loop->closed)
		status = loop_report_slow(loop, (PyObject *)self, start);
	Py_DECREF(self);
	return status;
}

void transport_stop_reading(struct transport *self);
/* Append to `held_back`; takes the reference, even on failure; NULL when making it failed. */
int transport_hold_back(struct transport *self, PyObject *item);
/* The first of `held_back`, taken out: gives the reference, or NULL with an exception. */
PyObject *transport_take_held_back(struct transport *self);
/* Deliver what is held back in the next turn. */
int transport_schedule_delivery(struct transport *self);
/*
 * The loop ends for now, by the exception that is set, which stays so: what is held
 * back, or only a new receive, waits for its next run.
 */
void transport_deliver_later(struct transport *self);
PyObject *transport_is_reading(struct transport *self, PyObject *ignored);
PyObject *transport_start_reading(struct transport *self, PyObject *ignored);
PyObject *transport_pause_reading(struct transport *self, PyObject *ignored);
PyObject *transport_resume_reading(struct transport *self, PyObject *ignored);

#endif
