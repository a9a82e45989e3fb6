/*
 * The datagram transport, shared by datagram.c (life), datagram_receive.c,
 * datagram_send.c and datagram_type.c (what Python sees).
 *
 *     OPEN -> CLOSING -> LOST -> JOINING -> CLOSED
 *
 * OPEN      receives and sends.
 * CLOSING   close() was called; what is queued is still sent.
 * LOST      connection_lost() is scheduled; nothing is queued or delivered.
 * JOINING   connection_lost() was called; operations are still in flight.
 * CLOSED    the descriptor is closed; the loop is forgotten.
 */
#ifndef UL_DATAGRAM_H
#define UL_DATAGRAM_H

#include "core.h"

enum datagram_state {
	DATAGRAM_OPEN,
	DATAGRAM_CLOSING,
	DATAGRAM_LOST,
	DATAGRAM_JOINING,
	DATAGRAM_CLOSED,
};

/* A datagram that the socket had no room for. */
struct parcel {
	PyObject *data;       /* owned; a bytes object */
	PyObject *address;    /* owned; where to, unless the socket has a peer */
};

typedef struct Datagram {
	PyObject_HEAD
	PyObject *extra;      /* owned; asyncio.BaseTransport's _extra slot: dict or NULL */
	Loop *loop;           /* owned; until CLOSED */
	PyObject *protocol;   /* owned; NULL from JOINING on */
	PyObject *context;    /* owned; in which the protocol is told of datagrams */
	PyObject *write_context; /* owned; in which what is queued is sent, or NULL */
	PyObject *sock;       /* owned; the socket object; NULL when CLOSED */
	PyObject *address;    /* owned; of the only peer that sendto() may name, or NULL */
	PyObject *peername, *sockname; /* owned; struct sockaddr as bytes, or NULL */
	PyObject *weakrefs;
	int fd;
	int family;
	uint8_t state;        /* enum datagram_state */
	bool connected;       /* the protocol was set: it hears connection_lost() */
	bool has_peer;        /* send(2) and not sendto(2): the socket is connected */
	bool sends_empty;     /* sendto(b"") sends a datagram, as since Python 3.13 */
	bool paused;          /* pause_reading() was called */
	bool started;         /* reading was started */
	bool read_ended;      /* the descriptor is none any more */
	bool read_cancelled;  /* the receive was asked to end */
	bool protocol_paused; /* pause_writing() was called and resume_writing() was not */
	bool deliver_scheduled; /* _deliver_kept() is in the ready queue */
	uint32_t losses;      /* asyncio's _conn_lost */
	uint64_t retry_ns;    /* the last wait for an AF_UNIX peer's queue; 0: none */

	/* Received while reading was paused: (data, address) or an exception. */
	PyObject *kept;       /* owned list or NULL */

	struct sink receive;
	struct sink send;     /* waits for room */

	/* What the socket had no room for: a ring buffer. */
	struct parcel *queue; /* owned array or NULL */
	size_t capacity;      /* a power of two, or 0 */
	size_t head;
	size_t count;
	size_t header_bytes;  /* what each adds to queued_bytes beyond its data */
	size_t queued_bytes;
	size_t high_water;
	size_t low_water;
} Datagram;

/* ---- datagram.c ---- */

/* The exception that is set must end the transport: report it and abort; 0 or -1. */
int datagram_fatal(Datagram *self, const char *message);
/*
 * Tell the exception handler of what a method of the protocol raised; the
 * transport goes on.  -1 when the exception must end the loop instead.
 */
int datagram_protocol_failed(Datagram *self, PyObject *protocol, const char *message);
int datagram_force_close(Datagram *self, PyObject *exception);
int datagram_report(Datagram *self, PyObject *exception, const char *message);
int datagram_close(Datagram *self);
/* Schedule connection_lost(exception). */
int datagram_lose(Datagram *self, PyObject *exception);
int datagram_call_connection_lost(Datagram *self, PyObject *exception);
/* Close the descriptor if it is time to. */
void datagram_join(Datagram *self);
void datagram_abandon(Datagram *self);
/* A line in the debug log; only in debug mode. */
void datagram_log(Datagram *self, const char *message);
int datagram_set_protocol(Datagram *self, PyObject *protocol);
PyObject *datagram_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int datagram_init(Datagram *self, PyObject *args, PyObject *kwargs);
void datagram_finalize(Datagram *self);
void datagram_dealloc(Datagram *self);
int datagram_traverse(Datagram *self, visitproc visit, void *arg);
int datagram_clear(Datagram *self);

/* ---- datagram_receive.c ---- */

int datagram_received(Loop *loop, struct sink *sink, const struct ul_completion *completion);
void datagram_stop_reading(Datagram *self);
/* protocol.error_received() with the exception that is set; -1 with what it raised. */
int datagram_tell_error(Datagram *self);
PyObject *datagram_start_reading_method(Datagram *self, PyObject *ignored);
PyObject *datagram_deliver_kept_method(Datagram *self, PyObject *ignored);
PyObject *datagram_pause_reading(Datagram *self, PyObject *ignored);
PyObject *datagram_resume_reading(Datagram *self, PyObject *ignored);
PyObject *datagram_is_reading(Datagram *self, PyObject *ignored);

/* ---- datagram_send.c ---- */

int datagram_sent(Loop *loop, struct sink *sink, const struct ul_completion *completion);
/* Drop what is queued. */
void datagram_drop_queue(Datagram *self);
int datagram_maybe_pause_protocol(Datagram *self);
PyObject *datagram_sendto(Datagram *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);

#endif
