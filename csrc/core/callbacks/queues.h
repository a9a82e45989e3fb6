/* asyncio's names for what is scheduled. */
#ifndef UL_QUEUES_H
#define UL_QUEUES_H

#include "../base/py.h"

extern PyMethodDef queue_methods[];

#endif
