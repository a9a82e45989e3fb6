/* How a transport calls what is not its own: its protocol, Python's helpers, itself, later. */
#include "calls.h"
#include "../callbacks/context.h"
#include "../callbacks/schedule.h"

int transport_log(struct transport *self, const char *message)
{
	PyObject *args[2] = {(PyObject *)self, NULL};
	int status = -1;

	if (likely(!self->loop->debug))
		return 0;
	args[1] = PyUnicode_FromString(message);
	if (args[1] != NULL)
		status = call_and_drop(helpers.transport_event, args, 2);
	Py_XDECREF(args[1]);
	return status;
}

int transport_call_helper(struct transport *self, PyObject *helper, PyObject *protocol,
                          PyObject *exception, const char *message)
{
	PyObject *loop = self->loop == NULL ? Py_None : (PyObject *)self->loop;
	PyObject *args[5] = {Py_NewRef(loop), (PyObject *)self,
	                     Py_NewRef(protocol == NULL ? Py_None : protocol), exception,
	                     PyUnicode_FromString(message)};
	int status = -1;

	if (args[4] != NULL)
		status = call_and_drop(helper, args, 5);
	Py_XDECREF(args[4]);
	Py_DECREF(args[2]);
	Py_DECREF(args[0]);
	return status;
}

int transport_protocol_failed(struct transport *self, PyObject *protocol, const char *message)
{
	PyObject *exception;
	int status;

	/* Ended by the very call that raised: asyncio tells the handler of that too. */
	if (exception_ends_loop() || self->loop == NULL)
		return -1;
	exception = PyErr_GetRaisedException();
	status = transport_call_helper(self, helpers.protocol_failed, protocol, exception,
	                               message);
	Py_DECREF(exception);
	return status;
}

int transport_call_protocol(struct transport *self, PyObject *method, PyObject *context,
                            const char *message)
{
	PyObject *protocol, *result;
	int status = 0;

	if (self->protocol == NULL)
		return 0;
	if (context_enter(context) < 0)
		return -1;
	protocol = Py_NewRef(self->protocol);
	result = PyObject_CallMethodNoArgs(protocol, method);
	Py_XDECREF(result);
	context_exit(context);
	if (unlikely(result == NULL))
		status = transport_protocol_failed(self, protocol, message);
	Py_DECREF(protocol);
	return status;
}

PyObject *transport_own_context(const struct transport *self)
{
	return self->kind->has_context && Py_Version >= 0x030F0000 ? self->context : NULL;
}

int transport_call_self_soon_in(struct transport *self, PyObject *name, PyObject *argument,
                                PyObject *context)
{
	/* The type's function with `self` as an argument, which makes no method object. */
	PyObject *function = PyObject_GetAttr((PyObject *)Py_TYPE(self), name);
	PyObject *args[2] = {(PyObject *)self, argument};
	int status;

	if (function == NULL)
		return -1;
	status = loop_call_soon_in(self->loop, function, args, argument != NULL ? 2 : 1, context);
	Py_DECREF(function);
	return status;
}

int transport_call_self_soon(struct transport *self, PyObject *name, PyObject *argument)
{
	return transport_call_self_soon_in(self, name, argument, transport_own_context(self));
}

int transport_maybe_pause_protocol(struct transport *self)
{
	if (self->queued_bytes <= self->high_water || self->protocol_paused)
		return 0;
	/* Nobody pauses for bytes that the kernel would have taken at once. */
	if (self->kind->catch_up != NULL && self->kind->catch_up(self) < 0)
		return -1;
	if (self->queued_bytes <= self->high_water || self->state >= TRANSPORT_LOST)
		return 0;
	self->protocol_paused = true;
	self->loop->counts.writing_pauses++;
	if (self->write_context == NULL) {
		self->write_context = PyContext_CopyCurrent();
		if (self->write_context == NULL)
			return -1;
	}
	return transport_call_protocol(self, names.pause_writing, NULL,
	                               "protocol.pause_writing() failed");
}
