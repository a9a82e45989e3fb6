/* Memory of the loop's for what is received and passed on at once. */
#include "scratch.h"
#include "../loop.h"

char *scratch_received(Loop *loop)
{
	if (unlikely(loop->scratch.received == NULL))
		loop->scratch.received = PyMem_Malloc(SCRATCH_BYTES);
	if (unlikely(loop->scratch.received == NULL))
		PyErr_NoMemory();
	return loop->scratch.received;
}

void scratch_release(Loop *loop)
{
	PyMem_Free(loop->scratch.received);
	PyMem_Free(loop->scratch.spill);
	PyMem_Free(loop->scratch.layered);
}
