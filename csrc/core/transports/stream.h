/*
 * The stream transport, shared by stream.c (its life, what Python sees),
 * stream_read.c, stream_write.c (what is queued) and stream_send.c (how it leaves).
 *
 * While it is OPEN the end of writing (EOF) may be asked for.  The descriptor is
 * closed in JOINING, as soon as nothing names it any more.
 */
#ifndef UL_STREAM_H
#define UL_STREAM_H

#include "streams.h"
#include "transport.h"

/* A piece of what write() was given. */
struct chunk {
	PyObject *owner;      /* owned; a bytes object */
	const char *data;     /* inside `owner` */
	size_t size;          /* what is left of it */
};

/* Pieces of one vectored send, far below IOV_MAX: enough to amortise the call. */
#define STREAM_IOV_MAX 256
#define STREAM_INLINE_CHUNKS 4

/*
 * What stands between a stream and its protocol: the records of TLS.  It is a part of
 * the protocol, and the stream's for as long as that is.
 */
struct stream_layer {
	/* Data was received; in the stream's context.  -1 with any exception. */
	int (*received)(struct stream_layer *self, const char *data, size_t size);
	/* stream_write() what was written to it; -1: an exception must end the loop. */
	int (*seal)(struct stream_layer *self);
	bool unsealed;        /* there is something to seal */
};

typedef struct Stream {
	struct transport base; /* write_context: in which resume_writing() runs */
	struct stream_layer *layer; /* borrowed from base.protocol; or NULL */
	PyObject *empty_waiter; /* owned or NULL: sendfile waits for an empty queue, or `lent` */
	enum ul_stream stream_kind; /* of its socket */
	bool buffered;        /* the protocol is an asyncio.BufferedProtocol */
	bool roomy;           /* and its buffers hold what the driver receives */
	bool eof;             /* write_eof() was called */
	bool eof_sent;        /* and the socket was shut down for it */
	bool is_dirty;        /* on the loop's dirty list */
	bool is_pausing;      /* on the loop's pausing list */
	bool lent;            /* sendfile uses the descriptor: it must stay open */
	bool shared;          /* others know the descriptor */
	bool shown;           /* get_extra_info("socket") refers to the socket object */
	uint32_t take_size;   /* bulk: the largest receive of late; 0 before the first */

	/* After base.held_back, a list of bytes: */
	bool end_held_back;   /* comes result_held_back */
	int result_held_back; /* 0 (end of file) or -errno */

	/* The queue of what is to be sent: a ring buffer. */
	struct chunk *chunks; /* chunks_inline, or an owned array */
	size_t chunk_mask;
	size_t chunk_head;
	size_t chunk_count;
	size_t in_flight;     /* chunks at the head that a send in the kernel names */
	uint64_t send_turn;   /* in which that was started */
	int send_error;       /* of one that had to wait: what reading finds comes first; or 0 */
	struct Stream *next_dirty;
	struct Stream *next_pausing;
	struct chunk chunks_inline[STREAM_INLINE_CHUNKS];
} Stream;

/* ---- stream.c ---- */

#define stream_of(transport) container_of(transport, Stream, base)

extern PyTypeObject *StreamType;
int stream_init_types(PyObject *module);
/*
 * A transport for an accepted descriptor, of the listener that knows `accepted`; it
 * is the caller's still when this fails.  `server`: a ClientList.
 */
PyObject *stream_accept(Loop *loop, int fd, PyObject *protocol, PyObject *server,
                        const struct accepted *accepted);

/* ---- stream_read.c ---- */

int stream_arm(struct transport *base);
bool stream_has_held_back(const struct transport *base);
void stream_pause(struct transport *base);
/* Nothing is received any more before a take(). */
void stream_hold(Stream *self);
PyObject *stream_hold_method(Stream *self, PyObject *ignored);
int stream_received(Loop *loop, struct operation *operation,
                    const struct ul_completion *completion);
PyObject *stream_deliver_held_back_method(Stream *self, PyObject *ignored);

/* ---- stream_write.c ---- */

PyObject *stream_write(Stream *self, PyObject *data);
PyObject *stream_writelines(Stream *self, PyObject *list);
PyObject *stream_write_eof(Stream *self, PyObject *ignored);
/* Whether what is queued may not wait for the end of the turn. */
bool stream_is_urgent(const Stream *self);

#endif
