/*
 * The common part of the two pipe transports: a file object, a protocol, and a life.
 * Both begin with a struct pipe.  What runs per message is here; what runs once in a
 * pipe's life (checks, errors, the calls of connection_made() and connection_lost())
 * is in pipes.py, which moves the state on.
 *
 *     CLOSED -> OPEN -> CLOSING -> LOST -> CLOSED
 *
 * CLOSED    there is no loop: it is not opened yet, or is over.
 * OPEN      reads, or writes.
 * CLOSING   a write pipe writes what is queued; another thread has closed it.
 * LOST      connection_lost() is scheduled; nothing is queued or delivered.  From OPEN too.
 */
#ifndef UL_PIPE_H
#define UL_PIPE_H

#include "../loop.h"

enum pipe_state {
	PIPE_OPEN,
	PIPE_CLOSING,
	PIPE_LOST,
	PIPE_CLOSED,
};

struct pipe {
	PyObject_HEAD PyObject *extra; /* owned; BaseTransport's _extra slot, or NULL */
	Loop *loop;           /* owned; until CLOSED */
	PyObject *protocol;   /* owned; until CLOSED */
	PyObject *file;       /* owned; until CLOSED: what the descriptor belongs to */
	PyObject *poll;       /* owned or NULL: while it reads, or has something queued */
	/* Owned or NULL: the last that was ended, as the driver may still look at it. */
	PyObject *ended_poll;
	int fd;               /* of `file`; afterwards it only tells which it was */
	uint8_t state;        /* enum pipe_state */
};

/* ---- pipe.c ---- */

/* Poll the descriptor for the method of that name; `place` is where the poll is kept. */
int pipe_poll(struct pipe *self, PyObject **place, uint32_t events, PyObject *method);
/* End the poll that is kept there; none is no error. */
int pipe_end_poll(struct pipe *self, PyObject **place);

/* The base class of both, over asyncio.BaseTransport. */
extern PyTypeObject *PipeType;
/* For the slots of the two. */
PyObject *pipe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int pipe_traverse(struct pipe *self, visitproc visit, void *arg);
int pipe_clear(struct pipe *self);
void pipe_dealloc(struct pipe *self);

int pipe_init_type(PyObject *module); /* before those of the two */

/* ---- read_pipe.c, write_pipe.c ---- */

int read_pipe_init_type(PyObject *module);
int write_pipe_init_type(PyObject *module);

#endif
