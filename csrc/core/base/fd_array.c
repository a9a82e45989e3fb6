/* Arrays indexed by descriptor: who watches or waits for each. */
#include "../core.h"

#include <fcntl.h>

#define ITEMS_FIRST 64

void *fd_array_grow(void *items, int *capacity, size_t size, int fd)
{
	int grown = *capacity ? *capacity : ITEMS_FIRST;

	assert(fd >= *capacity);
	/* A number that is no descriptor must not make us allocate for it. */
	if (fcntl(fd, F_GETFD) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	while (grown <= fd)
		grown *= 2;
	items = PyMem_Realloc(items, (size_t)grown * size);
	if (items == NULL)
		return PyErr_NoMemory();
	memset((char *)items + (size_t)*capacity * size, 0, (size_t)(grown - *capacity) * size);
	*capacity = grown;
	return items;
}
