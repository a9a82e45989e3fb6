/* What the core counts, told to Python. */
#ifndef UL_COUNTS_H
#define UL_COUNTS_H

#include "base/py.h"

extern PyMethodDef count_methods[];    /* of the loop */
extern PyMethodDef count_functions[];  /* of the module */

#endif
