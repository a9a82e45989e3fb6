/* The selector's receive buffers.  See buffers.h. */
#include "buffers.h"

#include <stdlib.h>
#include <string.h>

/* A page: receives then touch the fewest pages, and the trailer is aligned. */
#define BUFFER_ALIGNMENT 4096

static struct ul_lent *lent_of(const struct ul_lender *lender, unsigned char *data)
{
	return (struct ul_lent *)(void *)(data + lender->size);
}

static unsigned char *data_of(const struct ul_lender *lender, struct ul_lent *lent)
{
	return (unsigned char *)lent - lender->size;
}

void ul_lender_init(struct ul_lender *lender, uint32_t size, uint32_t spare_max)
{
	memset(lender, 0, sizeof(*lender));
	lender->size = (size + BUFFER_ALIGNMENT - 1) / BUFFER_ALIGNMENT * BUFFER_ALIGNMENT;
	lender->spare_max = spare_max;
}

void ul_lender_release(struct ul_lender *lender)
{
	while (lender->all != NULL) {
		struct ul_lent *lent = lender->all;

		lender->all = lent->next;
		free(data_of(lender, lent));
	}
	lender->spare = NULL;
	lender->spare_count = 0;
}

static unsigned char *buffer_make(struct ul_lender *lender)
{
	size_t size = (lender->size + sizeof(struct ul_lent) + BUFFER_ALIGNMENT - 1) /
	              BUFFER_ALIGNMENT * BUFFER_ALIGNMENT;
	unsigned char *data = aligned_alloc(BUFFER_ALIGNMENT, size);
	struct ul_lent *lent;

	if (data == NULL)
		return NULL;
	lent = lent_of(lender, data);
	lent->previous = NULL;
	lent->next = lender->all;
	if (lender->all != NULL)
		lender->all->previous = lent;
	lender->all = lent;
	return data;
}

static void buffer_free(struct ul_lender *lender, unsigned char *data)
{
	struct ul_lent *lent = lent_of(lender, data);

	if (lent->previous != NULL)
		lent->previous->next = lent->next;
	else
		lender->all = lent->next;
	if (lent->next != NULL)
		lent->next->previous = lent->previous;
	free(data);
}

unsigned char *ul_lender_take(struct ul_lender *lender)
{
	struct ul_lent *lent = lender->spare;

	if (lent == NULL)
		return buffer_make(lender);
	lender->spare = lent->next_free;
	lender->spare_count--;
	return data_of(lender, lent);
}

void ul_lender_give(struct ul_lender *lender, unsigned char *data)
{
	struct ul_lent *lent = lent_of(lender, data);

	if (lender->spare_count >= lender->spare_max) {
		buffer_free(lender, data);
		return;
	}
	lent->next_free = lender->spare;
	lender->spare = lent;
	lender->spare_count++;
}
