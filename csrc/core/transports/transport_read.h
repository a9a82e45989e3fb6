/* What both transports do about reading. */
#ifndef UL_TRANSPORT_READ_H
#define UL_TRANSPORT_READ_H

#include "transport.h"

static inline bool transport_wants_data(const struct transport *self)
{
	return self->state == TRANSPORT_OPEN && !self->paused;
}

/* Start to receive, if it is time to. */
int transport_receive(struct transport *self);
/* The receive operation is over: close, or start another.  Keeps a failing status. */
int transport_receive_ended(struct transport *self, int status);
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
