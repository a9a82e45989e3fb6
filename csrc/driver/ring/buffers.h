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
#ifndef RING_BUFFERS_H
#define RING_BUFFERS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "compat.h"
#include "poison.h"

enum buffer_place {
	BUFFER_FREE,
	BUFFER_IN_RING,
	BUFFER_TAKEN,
	BUFFER_LENT,
};

struct pool {
	unsigned char *base;     /* owned mapping; NULL until pool_open() */
	uint8_t *places;         /* owned; enum buffer_place of each buffer */
	uint16_t *free;          /* owned stack of FREE buffers */
	struct io_uring_buf_ring *ring; /* owned mapping; NULL: not registered */
	uint64_t reciprocal;     /* of stride, see pool_index() */
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
void pool_init(struct pool *pool, uint16_t group, uint32_t count, uint32_t size);
/* Maps it.  0 or -errno. */
int pool_open(struct pool *pool);
/* Hand the pool to `ring` as buffer group `group`.  0 or -errno. */
int pool_register(struct pool *pool, struct io_uring *ring);
/*
 * The ring is gone: what it held is free again.  In a forked child nothing is
 * lent any more either.
 */
void pool_detach(struct pool *pool, bool forked);
/*
 * In the child of a fork, before anything else: the ring's mapping has stayed with the
 * parent, and that place may be anybody's from now on.
 */
void pool_forked(struct pool *pool);
void pool_release(struct pool *pool);
/* Move free buffers into the ring. */
void pool_fill(struct pool *pool);

static inline bool pool_owns(const struct pool *pool, const unsigned char *data)
{
	/* base NULL has bytes 0. */
	return (uintptr_t)data - (uintptr_t)pool->base < pool->bytes;
}

/*
 * The buffer in whose first half `data` points: a division, by multiplication,
 * that errs only in the last thousandth of a large buffer.
 */
static inline uint32_t pool_index(const struct pool *pool, const unsigned char *data)
{
	return (uint32_t)((uint64_t)(data - pool->base) * pool->reciprocal >> 40);
}

static inline unsigned char *pool_data(const struct pool *pool, uint32_t index)
{
	return pool->base + (size_t)index * pool->stride;
}

/* The kernel picked `index` from the ring, or its own operation filled it. */
static inline unsigned char *pool_lend(struct pool *pool, uint32_t index)
{
	assert(index < pool->count);
	if (pool->places[index] == BUFFER_IN_RING) {
		pool->in_ring--;
		pool->used++;
	}
	pool->places[index] = BUFFER_LENT;
	return pool_data(pool, index);
}

/* A free buffer for one operation, or -1. */
static inline int pool_take(struct pool *pool)
{
	uint32_t index;

	if (pool->free_count == 0)
		return -1;
	index = pool->free[--pool->free_count];
	assert(pool->places[index] == BUFFER_FREE);
	pool->places[index] = BUFFER_TAKEN;
	return (int)index;
}

/* LENT or TAKEN -> FREE.  A buffer lent before a fork is not lent any more: ignored. */
static inline void pool_give(struct pool *pool, uint32_t index)
{
	assert(index < pool->count);
	if (__builtin_expect(pool->places[index] < BUFFER_TAKEN, 0))
		return;
	poison(pool_data(pool, index), pool->size);
	pool->places[index] = BUFFER_FREE;
	pool->free[pool->free_count++] = (uint16_t)index;
}

/* Whether a fill would do something. */
static inline bool pool_thirsty(const struct pool *pool)
{
	return pool->in_ring < pool->depth && pool->free_count != 0 && pool->ring != NULL;
}

#endif
