/* Waiting for plain sockets. */
#ifndef UL_SOCKETS_H
#define UL_SOCKETS_H

#include "../base/py.h"

extern PyMethodDef socket_methods[];
int sockets_init_types(PyObject *module);

#endif
