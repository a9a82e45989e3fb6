/*
 * A method of asyncio's streams that is C's: a function of a class of ours that takes the
 * place of asyncio's, and calls that for whatever it does not do itself.
 */
#ifndef UL_METHOD_H
#define UL_METHOD_H

#include "../base/py.h"

int stream_method_init_type(PyObject *module);

#endif
