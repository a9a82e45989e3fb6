/* Answers of a file that wait for no disk. */
#ifndef UL_CACHED_FILES_H
#define UL_CACHED_FILES_H

#include "base/py.h"

extern PyMethodDef file_functions[];  /* of the module */

#endif
