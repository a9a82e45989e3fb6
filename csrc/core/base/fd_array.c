/* Arrays by descriptor: who watches, waits for or owns each. */
#include "fd_array.h"

#include <fcntl.h>
#include <string.h>

#define ITEMS_FIRST 64

int fd_array_reserve(struct fd_array *array, size_t size, int fd)
{
	int capacity = array->capacity, grown = capacity ? capacity : ITEMS_FIRST;
	char *items;

	if (likely(fd < capacity))
		return 0;
	/* A number that is no descriptor must not make us allocate for it. */
	if (fcntl(fd, F_GETFD) < 0) {
		PyErr_SetFromErrno(PyExc_OSError);
		return -1;
	}
	while (grown <= fd)
		grown *= 2;
	items = PyMem_Realloc(array->items, (size_t)grown * size);
	if (items == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	memset(items + (size_t)capacity * size, 0, (size_t)(grown - capacity) * size);
	array->items = items;
	array->capacity = grown;
	return 0;
}
