/* The selector's receive buffers.  See buffers.h. */
#include "buffers.h"

#include <stdlib.h>
#include <string.h>

#include "poison.h"

/* A page: receives then touch the fewest pages, and the trailer is aligned. */
#define BUFFER_ALIGNMENT 4096

static struct trailer *trailer_of(const struct buffers *buffers, unsigned char *data)
{
	return (struct trailer *)(void *)(data + buffers->size);
}

static unsigned char *data_of(const struct buffers *buffers, struct trailer *trailer)
{
	return (unsigned char *)trailer - buffers->size;
}

void buffers_init(struct buffers *buffers, uint32_t size, uint32_t spare_max)
{
	memset(buffers, 0, sizeof(*buffers));
	buffers->size = (size + BUFFER_ALIGNMENT - 1) / BUFFER_ALIGNMENT * BUFFER_ALIGNMENT;
	buffers->spare_max = spare_max;
}

void buffers_release(struct buffers *buffers)
{
	while (buffers->all != NULL) {
		struct trailer *trailer = buffers->all;

		buffers->all = trailer->next;
		free(data_of(buffers, trailer));
	}
	buffers->spare = NULL;
	buffers->spare_count = 0;
}

static unsigned char *buffer_make(struct buffers *buffers)
{
	size_t size = (buffers->size + sizeof(struct trailer) + BUFFER_ALIGNMENT - 1) /
	              BUFFER_ALIGNMENT * BUFFER_ALIGNMENT;
	unsigned char *data = aligned_alloc(BUFFER_ALIGNMENT, size);
	struct trailer *trailer;

	if (data == NULL)
		return NULL;
	trailer = trailer_of(buffers, data);
	trailer->previous = NULL;
	trailer->next = buffers->all;
	if (buffers->all != NULL)
		buffers->all->previous = trailer;
	buffers->all = trailer;
	return data;
}

static void buffer_free(struct buffers *buffers, unsigned char *data)
{
	struct trailer *trailer = trailer_of(buffers, data);

	if (trailer->previous != NULL)
		trailer->previous->next = trailer->next;
	else
		buffers->all = trailer->next;
	if (trailer->next != NULL)
		trailer->next->previous = trailer->previous;
	free(data);
}

unsigned char *buffers_take(struct buffers *buffers)
{
	struct trailer *trailer = buffers->spare;

	if (trailer == NULL)
		return buffer_make(buffers);
	buffers->spare = trailer->next_free;
	buffers->spare_count--;
	return data_of(buffers, trailer);
}

void buffers_give(struct buffers *buffers, unsigned char *data)
{
	struct trailer *trailer = trailer_of(buffers, data);

	poison(data, buffers->size);
	if (buffers->spare_count >= buffers->spare_max) {
		buffer_free(buffers, data);
		return;
	}
	trailer->next_free = buffers->spare;
	buffers->spare = trailer;
	buffers->spare_count++;
}
