/* call_soon() and its family. */
#ifndef UL_SCHEDULE_H
#define UL_SCHEDULE_H

#include "../base/py.h"

typedef struct Loop Loop;

extern PyMethodDef schedule_methods[];
/* Queue callback(*args) in the current context; 0 or -1. */
int loop_call_soon(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs);
/* The same, of which no call_soon() of somebody else's hears: asyncio does not call it. */
int loop_queue_soon(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs);
/* As loop_call_soon() in `context`, which is borrowed; NULL: a copy of the current one. */
int loop_call_soon_in(Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *context);

#endif
