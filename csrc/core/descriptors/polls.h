/* Polls of the loop's own descriptors. */
#ifndef UL_POLLS_H
#define UL_POLLS_H

#include "../base/py.h"

int polls_init_types(PyObject *module);

#endif
