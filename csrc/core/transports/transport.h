/*
 * The common part of the stream and the datagram transport: a socket, a protocol,
 * and a life.  They begin with a struct transport.
 *
 *     CLOSED -> OPEN -> CLOSING -> LOST -> JOINING -> CLOSED
 *
 * CLOSED    there is no loop: it is not opened yet, or is over.
 * OPEN      reads and writes.
 * CLOSING   close() was called; what is queued is still sent.
 * LOST      connection_lost() is scheduled; nothing is queued or delivered.  From OPEN
 *           too: by abort(), or an error.
 * JOINING   connection_lost() was called; operations are still in flight.  From OPEN,
 *           CLOSING and LOST too, uncalled: nobody refers to it any more.
 *
 * A transport that could not be opened goes back to CLOSED: transport_give_up().
 * Nothing else is possible: transport_set_state().
 */
#ifndef UL_TRANSPORT_H
#define UL_TRANSPORT_H

#include "../loop.h"
#include "../operations/operation.h"
#include "clients.h"

enum transport_state {
	TRANSPORT_OPEN,
	TRANSPORT_CLOSING,
	TRANSPORT_LOST,
	TRANSPORT_JOINING,
	TRANSPORT_CLOSED,
};

/* `receive.link` says whether a receive is in flight. */
enum transport_reading {
	READING_NOT_YET,      /* connection_made() was not called */
	READING,              /* unless it is paused or closing */
	READING_CANCELLED,    /* the receive was asked to end; another may follow */
	READING_ENDED,        /* by its own end: no receive is started any more */
};

struct accepted; /* listener.h */
struct transport;

/* The ways of one kind of transport.  `catch_up`, `backlog`, `lost` may be NULL. */
struct transport_kind {
	int (*received)(Loop *loop, struct operation *operation,
	                const struct ul_completion *completion);
	int (*sent)(Loop *loop, struct operation *operation,
	            const struct ul_completion *completion);
	int (*set_protocol)(struct transport *self, PyObject *protocol);
	/* Start the receive operation, of which there is none. */
	int (*arm)(struct transport *self);
	/* Something comes before what is received next. */
	bool (*has_held_back)(const struct transport *self);
	void (*pause)(struct transport *self);
	/* Reading has ended: lose the connection as soon as nothing is queued. */
	int (*closing)(struct transport *self);
	/* See to it that the queue is what asyncio's would be. */
	int (*catch_up)(struct transport *self);
	/* Bytes that are queued and have not left, or -1 with an exception. */
	Py_ssize_t (*backlog)(struct transport *self);
	/* Drop what is queued, but for what a send in flight names. */
	void (*drop_queue)(struct transport *self);
	/*
	 * Since 3.15 all of a connection runs in one context, from connection_made() to
	 * connection_lost(); before, these two run in copies of whoever's asked for them.
	 */
	bool has_context;
	/* An end of file that was told before is told once more when reading is resumed. */
	bool end_repeats;
	/* connection_lost() was called. */
	void (*lost)(struct transport *self);
	/* In JOINING: transport_end(), if it is time to. */
	void (*join)(struct transport *self);
};

struct transport {
	PyObject_HEAD
	PyObject *extra;      /* owned; asyncio.BaseTransport's _extra slot: dict or NULL */
	const struct transport_kind *kind; /* static */
	Loop *loop;           /* owned; until CLOSED */
	PyObject *protocol;   /* owned; NULL from JOINING on */
	PyObject *context;    /* owned; in which the protocol is told of what arrives */
	PyObject *write_context; /* owned or NULL; each kind says what runs in it */
	ClientList *server;   /* owned or NULL */
	struct transport *client_next, *client_previous; /* borrowed; in `server` */
	PyObject *sock;       /* owned; the socket object, or NULL when only `fd` is known */
	PyObject *peername, *sockname; /* owned; struct sockaddr as bytes, or NULL */
	PyObject *weakrefs;
	int fd;
	int family;           /* of its addresses */
	uint8_t state;        /* enum transport_state */
	bool connected;       /* the protocol was set: it hears connection_lost() */
	bool fd_closed;       /* `fd` only tells which it was */
	bool sock_made;       /* `sock` was made here, around `fd` */
	bool paused;          /* pause_reading() was called */
	uint8_t reading;      /* enum transport_reading */
	bool readable;        /* stream: the driver waits for our take(); after `held_back` */
	bool protocol_paused; /* pause_writing() was called and resume_writing() was not */
	bool deliver_scheduled; /* _deliver_held_back() is in the ready queue */
	uint32_t losses;      /* asyncio's _conn_lost */
	PyObject *held_back;  /* owned list or NULL: what came while reading was paused */
	struct operation receive;
	struct operation send;
	size_t queued_bytes;
	size_t high_water;
	size_t low_water;
};

/* ---- transport.c ---- */

/*
 * The exception that is set came from the socket or the protocol: report it
 * and abort.  -1 when it must end the loop instead.
 */
int transport_fatal(struct transport *self, const char *message);
int transport_fatal_errno(struct transport *self, int error, const char *message);
/* Tell the exception handler of `exception`, and abort. */
int transport_report(struct transport *self, PyObject *exception, const char *message);
int transport_set_protocol(struct transport *self, PyObject *protocol);
int transport_close(struct transport *self);
/* Abort with `exception` (or Py_None); 0 or -1. */
int transport_force_close(struct transport *self, PyObject *exception);
/* Schedule connection_lost(exception). */
int transport_lose(struct transport *self, PyObject *exception);
/* connection_lost() now; -1 with what the protocol raised. */
int transport_call_connection_lost(struct transport *self, PyObject *exception);
/* A write to a lost connection; asyncio warns from the fifth on. */
int transport_count_loss(struct transport *self);
/* Close the descriptor, together with what the driver knows of it. */
void transport_close_fd(struct transport *self);
/* JOINING -> CLOSED; drops the loop. */
void transport_end(struct transport *self);
/* The same, or only the descriptor's close, as far as no operation names it any more. */
void transport_join_operations(struct transport *self);

PyObject *transport_new(PyTypeObject *type, const struct transport_kind *kind);
/*
 * A transport begins: take the loop, the socket (its object, or NULL, and its
 * descriptor), the protocol, and what is known of all sockets from where it comes,
 * or NULL.  Until transport_start() has succeeded the descriptor stays the
 * caller's, and transport_give_up() undoes it.
 */
int transport_open(struct transport *self, Loop *loop, PyObject *sock, int fd,
                   PyObject *protocol, const struct accepted *accepted);
/* The peer of what a server has accepted, when it has gone since; 0 or -1. */
int transport_recall_peername(struct transport *self);
/* Schedule connection_made(), the start of reading, and then `waiter`'s result. */
int transport_start(struct transport *self, PyObject *waiter);
void transport_give_up(struct transport *self); /* keeps the exception that is set */

/* For the slots of the kinds' types. */
void transport_finalize(struct transport *self);
int transport_traverse(struct transport *self, visitproc visit, void *arg);
int transport_clear(struct transport *self);
int transport_dealloc_begins(struct transport *self); /* -1: it lives on */
void transport_dealloc_ends(struct transport *self);

/* ---- transport_type.c ---- */

/* The base class of both kinds. */
extern PyTypeObject *TransportType;
int transport_init_types(PyObject *module);  /* before those of the kinds */

#endif
