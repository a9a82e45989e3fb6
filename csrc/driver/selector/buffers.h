/*
 * The selector's receive buffers: taken for one receive, lent to the owner,
 * given back when the bytes were copied out.
 *
 * Last in, first out: since a harvest lends one buffer at a time, a loop uses
 * the same memory for every receive, and that memory stays in the cache.
 */
#ifndef SELECTOR_BUFFERS_H
#define SELECTOR_BUFFERS_H

#include <stdint.h>
#include <sys/socket.h>

/* Lies behind the bytes of its buffer. */
struct trailer {
	struct trailer *next;           /* in `all` */
	struct trailer *previous;
	struct trailer *next_free;
	struct sockaddr_storage sender; /* of a datagram */
};

struct buffers {
	uint32_t size;                  /* bytes a buffer holds */
	uint32_t spare_max;             /* free buffers kept; more are freed */
	uint32_t spare_count;
	struct trailer *spare;          /* free buffers, the hottest first */
	struct trailer *all;            /* every buffer, lent or free; owned */
};

void buffers_init(struct buffers *buffers, uint32_t size, uint32_t spare_max);
/* Frees every buffer, lent ones too. */
void buffers_release(struct buffers *buffers);

/* A buffer of `size` bytes, or NULL when memory is out. */
unsigned char *buffers_take(struct buffers *buffers);
void buffers_give(struct buffers *buffers, unsigned char *data);

/* The buffer's room for an address. */
static inline struct sockaddr_storage *buffers_sender(const struct buffers *buffers,
                                                      unsigned char *data)
{
	return &((struct trailer *)(void *)(data + buffers->size))->sender;
}

#endif
