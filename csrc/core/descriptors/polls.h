/* Polls of the loop's own descriptors. */
#ifndef UL_POLLS_H
#define UL_POLLS_H

#include "../base/py.h"

typedef struct Loop Loop;

/*
 * A Poll(loop, fd, events, callback): a new reference, or NULL with an exception.  The
 * others take one of these.
 */
PyObject *poll_make(Loop *loop, int fd, uint32_t events, PyObject *callback);
/* In the callback: POLL* bits, or -errno. */
int poll_readiness(PyObject *poll);
/* Never call back again; -1 with what a repr of debug mode has raised. */
int poll_end(PyObject *poll);
/* The driver may still look at the descriptor. */
bool poll_is_in_flight(PyObject *poll);
/* What there is to read: bytes, None for nothing yet, or NULL with an exception. */
PyObject *poll_receive(PyObject *poll);

int polls_init_types(PyObject *module);

#endif
