/* Arrays by descriptor: who watches, waits for or owns each. */
#ifndef UL_FD_ARRAY_H
#define UL_FD_ARRAY_H

#include "py.h"

struct fd_array {
	void *items;          /* owned; zeroed, until somebody writes to them */
	int capacity;
};

/* The item of `size` bytes that belongs to `fd`; NULL when there is no room for it. */
static inline void *fd_array_at(const struct fd_array *array, size_t size, int fd)
{
	return fd >= 0 && fd < array->capacity ? (char *)array->items + (size_t)fd * size : NULL;
}

/* Room for the item of `fd` >= 0, which may move the others; 0, or -1 with an exception. */
int fd_array_reserve(struct fd_array *array, size_t size, int fd);

#endif
