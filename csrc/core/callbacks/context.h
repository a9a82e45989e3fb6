/* The contexts of callbacks: copies of the current one that cost nothing at first. */
#ifndef UL_CONTEXT_H
#define UL_CONTEXT_H

#include "../base/py.h"

int context_init(void);
/* The stuff of a copy of the current context, to be made later; NULL with an exception. */
PyObject *context_freeze(void);
/* Makes *frozen a context, if it is none yet; -1 with an exception, and it stays. */
int context_thaw(PyObject **frozen);
/* As PyContext_Enter() and PyContext_Exit(), of this thread's state. */
int context_switch_to(PyThreadState *state, PyObject *context);
int context_switch_back(PyThreadState *state, PyObject *context);
/* Takes the reference of a callback that has run. */
void context_recycle(PyObject *context);
/*
 * The pair of whoever has no thread's state at hand: enter `context`, or do nothing for
 * NULL.  0, or -1 with an exception.
 */
int context_enter(PyObject *context);
/* Keeps the exception that may be set. */
void context_exit(PyObject *context);

#endif
