/* How a transport calls what is not its own: its protocol, Python's helpers, itself, later. */
#ifndef UL_CALLS_H
#define UL_CALLS_H

#include "transport.h"

/* A line in the debug log; only in debug mode.  0, or -1 with what the log raised. */
int transport_log(struct transport *self, const char *message);
/* Calls a helper (loop, transport, protocol, exception, message). */
int transport_call_helper(struct transport *self, PyObject *helper, PyObject *protocol,
                          PyObject *exception, const char *message);
/*
 * Tell the exception handler of what a method of the protocol raised; the
 * transport goes on.  -1 when the exception must end the loop instead.
 */
int transport_protocol_failed(struct transport *self, PyObject *protocol, const char *message);
/* Call the protocol's `method`, in `context` unless that is NULL. */
int transport_call_protocol(struct transport *self, PyObject *method, PyObject *context,
                            const char *message);
/* pause_writing(), when more is queued than the high water mark says. */
int transport_maybe_pause_protocol(struct transport *self);
/* The context in which to schedule what concerns the protocol; NULL: a copy of the current. */
PyObject *transport_own_context(const struct transport *self);
/* Schedule self.name(argument), or self.name() for NULL. */
int transport_call_self_soon(struct transport *self, PyObject *name, PyObject *argument);
/* The same in `context`. */
int transport_call_self_soon_in(struct transport *self, PyObject *name, PyObject *argument,
                                PyObject *context);

#endif
