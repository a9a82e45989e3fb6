/*
 * The selector's receive buffers: taken for one receive, lent to the owner,
 * given back when the bytes were copied out.
 *
 * Last in, first out: since a harvest lends one buffer at a time, a loop uses
 * the same memory for every receive, and that memory stays in the cache.
 */
#ifndef UL_LENDER_H
#define UL_LENDER_H

#include <stdint.h>
#include <sys/socket.h>

/* Lies behind the bytes of its buffer. */
struct ul_lent {
	struct ul_lent *next;           /* in `all` */
	struct ul_lent *previous;
	struct ul_lent *next_free;
	struct sockaddr_storage sender; /* of a datagram */
};

struct ul_lender {
	uint32_t size;                  /* bytes a buffer holds */
	uint32_t spare_max;             /* free buffers kept; more are freed */
	uint32_t spare_count;
	struct ul_lent *spare;          /* free buffers, the hottest first */
	struct ul_lent *all;            /* every buffer, lent or free; owned */
};

void ul_lender_init(struct ul_lender *lender, uint32_t size, uint32_t spare_max);
/* Frees every buffer, lent ones too. */
void ul_lender_release(struct ul_lender *lender);

/* A buffer of `size` bytes, or NULL when memory is out. */
unsigned char *ul_lender_take(struct ul_lender *lender);
void ul_lender_give(struct ul_lender *lender, unsigned char *data);

/* The buffer's room for an address. */
static inline struct sockaddr_storage *ul_lender_sender(const struct ul_lender *lender,
                                                        unsigned char *data)
{
	return &((struct ul_lent *)(void *)(data + lender->size))->sender;
}

#endif
