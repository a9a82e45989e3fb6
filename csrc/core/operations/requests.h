/* One-shot operations that Python starts. */
#ifndef UL_REQUESTS_H
#define UL_REQUESTS_H

#include "../base/py.h"

typedef struct Loop Loop;
typedef struct Request Request;

extern PyMethodDef request_methods[];
int requests_init_type(PyObject *module);
/* Call who had no memory to hear of a request's end; -1 with an exception that ends the loop. */
int requests_tell(Loop *loop);
int requests_traverse(Loop *loop, visitproc visit, void *arg);
void requests_clear(Loop *loop);

#endif
