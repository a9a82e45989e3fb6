/* Receive buffers.  See buffers.h. */
#include "buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* One socket can take up to 32 buffers before another gets its turn (io_uring/net.c). */
#define DEPTH_FIRST 64
/* The kernel's limit of a buffer ring. */
#define COUNT_MAX 32768
/*
 * Buffers a power of two apart would share few sets of the cache; a line and
 * a bit between them spreads their heads over all sets.
 */
#define SKEW 64

static uint32_t power_of_two(uint32_t number)
{
	uint32_t power = 1;

	while (power < number)
		power *= 2;
	return power;
}

void pool_init(struct pool *pool, uint16_t group, uint32_t count, uint32_t size)
{
	uint64_t limit = (UINT64_C(1) << 30) / (size + 2 * SKEW);

	memset(pool, 0, sizeof(*pool));
	pool->group = group;
	pool->size = size;
	if (count > COUNT_MAX)
		count = COUNT_MAX;
	if (count > limit)
		count = (uint32_t)limit;
	pool->count = count != 0 ? count : 1;
	pool->stride = (size + SKEW - 1) / SKEW * SKEW + SKEW;
	pool->reciprocal = (UINT64_C(1) << 40) / pool->stride + 1;
}

static void free_all(struct pool *pool, bool lent_too)
{
	uint32_t index = pool->count;

	pool->free_count = 0;
	/* The first buffer on top. */
	while (index-- > 0) {
		if (pool->places[index] == BUFFER_LENT && !lent_too)
			continue;
		pool->places[index] = BUFFER_FREE;
		pool->free[pool->free_count++] = (uint16_t)index;
	}
}

int pool_open(struct pool *pool)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = ((size_t)pool->stride * pool->count + page - 1) / page * page;
	void *base;

	if (pool->base != NULL)
		return 0;
	pool->places = calloc(pool->count, sizeof(*pool->places));
	pool->free = calloc(pool->count, sizeof(*pool->free));
	if (pool->places == NULL || pool->free == NULL)
		goto no_memory;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		goto no_memory;
	/*
	 * A child has no use for what its parent received.  Wiped and not
	 * missing (MADV_DONTFORK), so that a late look at it is harmless.
	 */
	madvise(base, bytes, MADV_WIPEONFORK);
	pool->base = base;
	pool->bytes = (uint32_t)bytes;
	free_all(pool, true);
	assert(pool_index(pool, pool_data(pool, pool->count - 1)) == pool->count - 1);
	assert(pool_index(pool, pool_data(pool, pool->count - 1) + pool->stride / 2) ==
	       pool->count - 1);
	return 0;

no_memory:
	free(pool->places);
	free(pool->free);
	pool->places = NULL;
	pool->free = NULL;
	return -ENOMEM;
}

static size_t ring_bytes(const struct pool *pool)
{
	return power_of_two(pool->count) * sizeof(struct io_uring_buf);
}

int pool_register(struct pool *pool, struct io_uring *ring)
{
	struct io_uring_buf_reg request = {
		.ring_entries = power_of_two(pool->count),
		.bgid = pool->group,
	};
	void *entries;
	int result;

	assert(pool->base != NULL);
	assert(pool->ring == NULL);
	entries = mmap(NULL, ring_bytes(pool), PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (entries == MAP_FAILED)
		return -ENOMEM;
	/* The kernel pins these pages: copy-on-write after a fork would part us. */
	if (madvise(entries, ring_bytes(pool), MADV_DONTFORK) != 0) {
		result = -errno;
		munmap(entries, ring_bytes(pool));
		return result;
	}
	request.ring_addr = (uintptr_t)entries;
	result = io_uring_register_buf_ring(ring, &request, 0);
	if (result != 0) {
		munmap(entries, ring_bytes(pool));
		return result;
	}
	pool->ring = entries;
	pool->mask = (uint16_t)(request.ring_entries - 1);
	pool->tail = 0;
	pool->in_ring = 0;
	pool->used = 0;
	pool->depth = pool->count < DEPTH_FIRST ? pool->count : DEPTH_FIRST;
	pool_fill(pool);
	return 0;
}

void pool_detach(struct pool *pool, bool forked)
{
	if (pool->base == NULL)
		return;
	if (pool->ring != NULL)
		munmap(pool->ring, ring_bytes(pool));
	pool->ring = NULL;
	pool->in_ring = 0;
	free_all(pool, forked);
}

void pool_forked(struct pool *pool)
{
	pool->ring = NULL;
	pool->leaked = false;
}

void pool_release(struct pool *pool)
{
	if (pool->ring != NULL)
		pool_detach(pool, false);
	if (pool->base != NULL && !pool->leaked)
		munmap(pool->base, pool->bytes);
	free(pool->places);
	free(pool->free);
	memset(pool, 0, sizeof(*pool));
}

void pool_fill(struct pool *pool)
{
	uint16_t tail = pool->tail;

	/* Traffic that takes most of the ring between two fills needs a deeper one. */
	if (pool->used * 4 > pool->depth * 3 && pool->depth < pool->count)
		pool->depth = pool->depth * 2 < pool->count ? pool->depth * 2 : pool->count;
	pool->used = 0;
	while (pool->in_ring < pool->depth && pool->free_count != 0) {
		uint32_t index = pool->free[--pool->free_count];
		struct io_uring_buf *entry = &pool->ring->bufs[tail & pool->mask];

		assert(pool->places[index] == BUFFER_FREE);
		pool->places[index] = BUFFER_IN_RING;
		/* Three fields only: the ring's tail lives in bufs[0].resv. */
		entry->addr = (uintptr_t)pool_data(pool, index);
		entry->len = pool->size;
		entry->bid = (uint16_t)index;
		tail++;
		pool->in_ring++;
	}
	pool->tail = tail;
	io_uring_smp_store_release(&pool->ring->tail, tail);
}
