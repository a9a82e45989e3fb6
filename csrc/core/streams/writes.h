/* The plain methods of a writer of ours: what asyncio's hand to its transport. */
#ifndef UL_WRITES_H
#define UL_WRITES_H

#include "../base/py.h"

/*
 * writer.name(argument), or writer.name() for NULL, which its transport does: the result;
 * NULL with an exception, or without: it is asyncio's own to do.
 */
PyObject *writer_pass_on(PyObject *writer, PyObject *name, PyObject *argument);

#endif
