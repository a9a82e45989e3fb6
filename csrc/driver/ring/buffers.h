/*
 * Receive buffers: lend, recycle, account.
 *
 * A pool is `count` buffers of `size` bytes in one mapping.  Each buffer is in
 * exactly one place:
 *
 *     FREE -> IN_RING -> LENT -> FREE      the kernel picks one (buffer ring)
 *     FREE -> TAKEN   -> LENT -> FREE      an operation brings its own
 *
 * Free buffers are a stack, and the ring is kept only as deep as the traffic
 * needs, so that the same few buffers, warm in the cache, serve a quiet loop.
 */
#ifndef UL_BUFFERS_H
#define UL_BUFFERS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "compat.h"

enum ul_place {
	UL_BUFFER_FREE,
	UL_BUFFER_IN_RING,
	UL_BUFFER_TAKEN,
	UL_BUFFER_LENT,
};

struct ul_pool {
	unsigned char *base;     /* owned mapping; NULL until ul_pool_open() */
	uint8_t *places;         /* owned; enum ul_place of each buffer */
	uint16_t *free;          /* owned stack of FREE buffers */
	struct io_uring_buf_ring *ring; /* owned mapping; NULL: not registered */
	uint64_t reciprocal;     /* of stride, see ul_pool_index() */
	uint32_t stride;         /* from one buffer to the next */
	uint32_t bytes;          /* of the mapping */
	uint32_t size;
	uint32_t count;
	uint32_t free_count;
	uint32_t in_ring;
	uint32_t depth;          /* how many buffers the ring is filled up to */
	uint32_t used;           /* buffers that the kernel picked since the last fill */
	uint16_t tail;           /* of the ring, as published */
	uint16_t mask;
	uint16_t group;
	bool leaked;             /* the kernel may still write: never unmap */
};

/* Describes the pool; maps nothing yet. */
void ul_pool_init(struct ul_pool *pool, uint16_t group, uint32_t count, uint32_t size);
/* Maps it.  0 or -errno. */
int ul_pool_open(struct ul_pool *pool);
/* Hand the pool to `ring` as buffer group `group`.  0 or -errno. */
int ul_pool_register(struct ul_pool *pool, struct io_uring *ring);
/*
 * The ring is gone: what it held is free again.  In a forked child nothing is
 * lent any more either.
 */
void ul_pool_detach(struct ul_pool *pool, bool forked);
/*
 * In the child of a fork, before anything else: the ring's mapping has stayed with the
 * parent, and that place may be anybody's from now on.
 */
void ul_pool_forked(struct ul_pool *pool);
void ul_pool_release(struct ul_pool *pool);
/* Move free buffers into the ring. */
void ul_pool_fill(struct ul_pool *pool);

static inline bool ul_pool_owns(const struct ul_pool *pool, const unsigned char *data)
{
	/* base NULL has bytes 0. */
	return (uintptr_t)data - (uintptr_t)pool->base < pool->bytes;
}

/*
 * The buffer in whose first half `data` points: a division, by multiplication,
 * that errs only in the last thousandth of a large buffer.
 */
static inline uint32_t ul_pool_index(const struct ul_pool *pool, const unsigned char *data)
{
	return (uint32_t)((uint64_t)(data - pool->base) * pool->reciprocal >> 40);
}

static inline unsigned char *ul_pool_data(const struct ul_pool *pool, uint32_t index)
{
	return pool->base + (size_t)index * pool->stride;
}

/* The kernel picked `index` from the ring, or its own operation filled it. */
static inline unsigned char *ul_pool_lend(struct ul_pool *pool, uint32_t index)
{
	assert(index < pool->count);
	if (pool->places[index] == UL_BUFFER_IN_RING) {
		pool->in_ring--;
		pool->used++;
	}
	pool->places[index] = UL_BUFFER_LENT;
	return ul_pool_data(pool, index);
}

/* A free buffer for one operation, or -1. */
static inline int ul_pool_take(struct ul_pool *pool)
{
	uint32_t index;

	if (pool->free_count == 0)
		return -1;
	index = pool->free[--pool->free_count];
	assert(pool->places[index] == UL_BUFFER_FREE);
	pool->places[index] = UL_BUFFER_TAKEN;
	return (int)index;
}

/* LENT or TAKEN -> FREE.  A buffer lent before a fork is not lent any more: ignored. */
static inline void ul_pool_give(struct ul_pool *pool, uint32_t index)
{
	assert(index < pool->count);
	if (__builtin_expect(pool->places[index] < UL_BUFFER_TAKEN, 0))
		return;
	pool->places[index] = UL_BUFFER_FREE;
	pool->free[pool->free_count++] = (uint16_t)index;
}

/* Whether a fill would do something. */
static inline bool ul_pool_thirsty(const struct ul_pool *pool)
{
	return pool->in_ring < pool->depth && pool->free_count != 0 && pool->ring != NULL;
}

#endif
