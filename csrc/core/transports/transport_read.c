/*
 * Reading, of both kinds of transport: starting and stopping to receive, pausing, and
 * holding back what comes meanwhile.
 */
#include "transport_read.h"
#include "calls.h"
#include "../base/checks.h"
#include "../operations/threads.h"

/* ---- receiving --------------------------------------------------------------------- */

int transport_receive(struct transport *self)
{
	if (self->reading == READING_NOT_YET || self->reading == READING_ENDED ||
	    !transport_wants_data(self) || self->receive.link != NULL ||
	    self->kind->has_held_back(self))
		return 0;
	if (unlikely(loop_is_elsewhere(self->loop)))
		return loop_leave_call(self->loop, (PyObject *)self, names._start_reading, NULL);
	return self->kind->arm(self);
}

int transport_receive_ended(struct transport *self, int status)
{
	PyObject *exception = PyErr_GetRaisedException();

	if (self->state == TRANSPORT_JOINING) {
		self->kind->join(self);
	} else if (transport_receive(self) < 0) {
		if (exception == NULL)
			return -1;
		PyErr_WriteUnraisable((PyObject *)self);
	}
	PyErr_SetRaisedException(exception);
	return status;
}

void transport_stop_reading(struct transport *self)
{
	if (self->receive.link == NULL || self->reading == READING_CANCELLED ||
	    self->loop->table == NULL)
		return;
	if (operation_cancel(self->loop, &self->receive))
		self->readable = false;
	else
		self->reading = READING_CANCELLED;
}

/* ---- holding back, while reading is paused ----------------------------------------- */

int transport_hold_back(struct transport *self, PyObject *item)
{
	PyObject *first;
	int status = -1;

	if (item != NULL && self->held_back != NULL) {
		status = PyList_Append(self->held_back, item);
	} else if (item != NULL && (first = PyList_New(1)) != NULL) {
		PyList_SET_ITEM(first, 0, Py_NewRef(item));
		self->held_back = first;
		status = 0;
	}
	Py_XDECREF(item);
	return status;
}

PyObject *transport_take_held_back(struct transport *self)
{
	PyObject *item = Py_NewRef(PyList_GET_ITEM(self->held_back, 0));

	if (PyList_SetSlice(self->held_back, 0, 1, NULL) < 0)
		Py_CLEAR(item);
	return item;
}

int transport_schedule_delivery(struct transport *self)
{
	int status;

	if (self->deliver_scheduled)
		return 0;
	status = transport_call_self_soon(self, names._deliver_held_back, NULL);
	self->deliver_scheduled = status == 0;
	return status;
}

void transport_deliver_later(struct transport *self)
{
	PyObject *exception = PyErr_GetRaisedException();

	if (self->state == TRANSPORT_OPEN && transport_schedule_delivery(self) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

/* ---- what is called from Python ---------------------------------------------------- */

PyObject *transport_is_reading(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(transport_wants_data(self));
}

/* connection_made() was called: from here on data may come. */
PyObject *transport_start_reading(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	if (self->reading == READING_NOT_YET)
		self->reading = READING;
	if (transport_receive(self) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *transport_pause_reading(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	if (transport_wants_data(self)) {
		self->paused = true;
		self->loop->counts.reading_pauses++;
		self->kind->pause(self);
		if (transport_log(self, "pauses reading") < 0)
			return NULL;
	}
	Py_RETURN_NONE;
}

PyObject *transport_resume_reading(struct transport *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *context;

	if (self->state != TRANSPORT_OPEN || !self->paused)
		Py_RETURN_NONE;
	context = PyContext_CopyCurrent();
	if (context == NULL)
		return NULL;
	Py_XSETREF(self->context, context);
	/* The queue is sent before something is told: a loss that this finds comes first. */
	if (self->kind->has_held_back(self) && self->kind->catch_up != NULL &&
	    self->kind->catch_up(self) < 0)
		return NULL;
	if (self->state != TRANSPORT_OPEN)
		Py_RETURN_NONE;
	self->paused = false;
	if (self->kind->end_repeats && self->reading == READING_ENDED)
		self->reading = READING;
	operation_strengthen(&self->receive);
	/* asyncio never calls the protocol from inside resume_reading(). */
	if (self->kind->has_held_back(self) ? transport_schedule_delivery(self) < 0
	                                    : transport_receive(self) < 0)
		return NULL;
	/* Last: a log handler may close us, or raise. */
	if (self->loop != NULL && transport_log(self, "resumes reading") < 0)
		return NULL;
	Py_RETURN_NONE;
}
