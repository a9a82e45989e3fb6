/*
 * Poison, in builds with assertions: what a buffer held is overwritten when it comes back, so
 * that whoever reads it later, or beyond what the next receive put there, reads no stranger's
 * bytes, and a test sees it.
 */
#ifndef POISON_H
#define POISON_H

#include <string.h>

#define POISON 0xdb

static inline void poison(void *data, size_t size)
{
#ifndef NDEBUG
	memset(data, POISON, size);
#else
	(void)data;
	(void)size;
#endif
}

#endif
