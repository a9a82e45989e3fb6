/*
 * Streams of which it is doubtful whether they are drained.
 *
 * A receive that did not fill its buffer has drained the socket, unless it stopped at
 * the mark of an urgent byte.  EPOLLPRI tells that, but only as long as the byte has not
 * been read; who reads it first, say in a handler of SIGURG, takes the only sign there
 * was, and what is behind the mark makes no further edge.  To ask after each receive
 * (SIOCATMARK) is a system call a message.  So the streams that had a short receive are
 * asked together, with poll(2): all of them when the loop has nothing else to do for a
 * moment, and a few now and then while it is busy.
 */
#include <poll.h>

#include "selector.h"

/* Streams in one poll(2), and the entries among which they are looked for while busy. */
#define ASKED_AT_ONCE 64
#define ENTRIES_WHILE_BUSY (4 * DESCRIPTORS_PER_BLOCK)

static void doubts_ask(struct selector *selector, struct pollfd *asked, uint32_t count)
{
	uint32_t index;

	if (count == 0 || poll(asked, count, 0) <= 0)
		return;
	for (index = 0; index < count; index++)
		if (asked[index].revents != 0)
			descriptor_due(selector, descriptor_find(selector, asked[index].fd),
			               DUE_READ);
}

void doubts_settle(struct selector *selector, bool all)
{
	struct pollfd asked[ASKED_AT_ONCE];
	uint32_t entries = selector->block_count * DESCRIPTORS_PER_BLOCK;
	uint32_t left = all || entries < ENTRIES_WHILE_BUSY ? entries : ENTRIES_WHILE_BUSY;
	uint32_t count = 0;

	for (; left > 0; left--) {
		struct descriptor *descriptor;

		selector->doubts_next = selector->doubts_next + 1 < entries ?
			selector->doubts_next + 1 : 0;
		descriptor = descriptor_find(selector, (int)selector->doubts_next);
		if (descriptor == NULL || !descriptor->doubtful)
			continue;
		descriptor->doubtful = false;
		if (descriptor->readers.first == NULL)
			continue;
		asked[count++] = (struct pollfd){ .fd = descriptor->fd, .events = POLLIN };
		if (count == ASKED_AT_ONCE) {
			doubts_ask(selector, asked, count);
			count = 0;
			if (!all)
				break;
		}
	}
	doubts_ask(selector, asked, count);
	if (all)
		selector->doubtful = false;
}
