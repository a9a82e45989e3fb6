/* One descriptor of the selector: who waits for it, and how epoll knows it. */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <sys/epoll.h>

#include "operation.h"

/*
 * How a descriptor is registered with epoll.
 *
 *     UNREGISTERED <-> EDGE <-> LEVEL
 *
 * EDGE is for descriptors that only verbs use: everything is asked for once,
 * and whether somebody waits never changes the registration.  LEVEL is for
 * descriptors with a watch or a poll whose contract is level-triggered; the
 * mask is then exactly what is waited for.
 */
enum registration {
	UNREGISTERED,
	EDGE,
	LEVEL,
};

/*
 * epoll_event.data is generation << 32 | descriptor, and this bit for LEVEL.
 * No descriptor is that large.
 */
#define DATA_LEVEL (UINT64_C(1) << 31)

/* The eventfd's; no registration has every bit set. */
#define DATA_WAKE UINT64_MAX

#define EVENTS_ANNOUNCING (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)

/* The looks that a descriptor owes. */
enum due {
	DUE_READ = 1 << 0,
	DUE_WRITE = 1 << 1,
	DUE_POLL = 1 << 2,
	DUE_WATCH = 1 << 3,
};

struct descriptor_list {
	struct descriptor *first;
	struct descriptor *last;
};

struct descriptor {
	struct operation_queue readers; /* first come, first served */
	struct operation_queue writers;
	struct operation_queue pollers; /* one-shot polls: all see each event */
	struct descriptor *next;        /* in `list` */
	struct descriptor *previous;
	struct descriptor_list *list;   /* the selector's `work` or `later`, or NULL */
	int fd;
	uint32_t generation;            /* of its registration */
	uint32_t mask;                  /* of its registration */
	uint32_t ready;                 /* EPOLL* bits reported and not served yet */
	/*
	 * EPOLLRDHUP, EPOLLHUP, EPOLLERR or EPOLLPRI, since the last receive
	 * that found nothing: there is more to receive than a short receive says.
	 */
	uint32_t announced;
	uint8_t registration;           /* enum registration */
	uint8_t due;                    /* enum due: this turn */
	uint8_t again;                  /* enum due: next turn, without an event */
	/* A stream send was short: another is hopeless before EPOLLOUT. */
	bool full;
	bool doubtful;                  /* see doubts.c */
	uint16_t served;                /* completions given this turn */
	void *watch_owner;
	ul_token watch_token;
	uint32_t watch_events;          /* 0: not watched */
};

enum side { READERS,
            WRITERS,
            POLLERS };

static inline struct operation_queue *queue_of(struct descriptor *descriptor, enum side side)
{
	return side == READERS ? &descriptor->readers : side == WRITERS ? &descriptor->writers
	                                                                : &descriptor->pollers;
}

/* The first reader has said UL_READABLE; until take() nobody reads. */
static inline bool descriptor_is_readable(const struct descriptor *descriptor)
{
	const struct operation *reader = descriptor->readers.first;

	return reader != NULL && reader->slot.verb == VERB_RECV && reader->stream.readable;
}

/* A byte stream is received from it: see descriptors.c for what that spares. */
static inline bool descriptor_is_streaming(const struct descriptor *descriptor)
{
	const struct operation *reader = descriptor->readers.first;

	return descriptor->registration == EDGE && reader != NULL &&
	       reader->slot.verb == VERB_RECV && reader->stream.kind != UL_STREAM_OTHER;
}

static inline bool descriptor_is_waited_for(const struct descriptor *descriptor)
{
	return descriptor->readers.first != NULL || descriptor->writers.first != NULL ||
	       descriptor->pollers.first != NULL || descriptor->watch_events != 0;
}

#endif
