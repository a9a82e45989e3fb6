/*
 * The datagram transport, shared by datagram.c (its life, what Python sees),
 * datagram_receive.c and datagram_send.c.
 */
#ifndef UL_DATAGRAM_H
#define UL_DATAGRAM_H

#include "transport.h"

/* A datagram that the socket had no room for. */
struct parcel {
	PyObject *data;       /* owned; a bytes object */
	PyObject *address;    /* owned; where to, unless the socket has a peer */
};

typedef struct Datagram {
	struct transport base; /* write_context: in which what is queued is sent */
	PyObject *address;    /* owned; of the only peer that sendto() may name, or NULL */
	bool has_peer;        /* send(2) and not sendto(2): the socket is connected */
	bool by_socket;       /* by its socket object, which knows more, or is somebody's own */
	bool sends_empty;     /* sendto(b"") sends a datagram, as since Python 3.13 */
	uint64_t retry_ns;    /* the last wait for an AF_UNIX peer's queue; 0: none */

	/* base.held_back is a list of (data, address) and exceptions; base.send waits for room. */

	/* The datagrams that the socket had no room for: a ring buffer. */
	struct parcel *queue; /* owned array or NULL */
	size_t capacity;      /* a power of two, or 0 */
	size_t head;
	size_t count;
	size_t header_bytes;  /* what each adds to queued_bytes beyond its data */
} Datagram;

/* ---- datagram.c ---- */

#define datagram_of(transport) container_of(transport, Datagram, base)

int datagram_init_types(PyObject *module);

/* ---- datagram_receive.c ---- */

int datagram_arm(struct transport *base);
bool datagram_has_held_back(const struct transport *base);
int datagram_received(Loop *loop, struct operation *operation,
                      const struct ul_completion *completion);
/* protocol.error_received() with the exception that is set; -1 with what it raised. */
int datagram_tell_error(Datagram *self);
PyObject *datagram_deliver_held_back_method(Datagram *self, PyObject *ignored);

/* ---- datagram_send.c ---- */

int datagram_sent(Loop *loop, struct operation *operation, const struct ul_completion *completion);
/* Drop what is queued. */
void datagram_drop_queue(struct transport *base);
PyObject *datagram_wait_for_room(Datagram *self, PyObject *ignored);
PyObject *datagram_sendto(Datagram *self, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);

#endif
