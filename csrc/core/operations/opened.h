/* The owner of a descriptor that was opened and that nobody has taken yet. */
#ifndef UL_OPENED_H
#define UL_OPENED_H

#include "../base/py.h"

int opened_init_type(PyObject *module);
/* One that owns nothing yet, made before there is something to own; or NULL with an exception. */
PyObject *opened_new(void);
/* From here on `object` owns the descriptor.  Cannot fail. */
void opened_hold(PyObject *object, int fd);

#endif
