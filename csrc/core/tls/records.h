/*
 * TLS records of a connection: the C half of TLSProtocol, shared by records_type.c (its life,
 * what Python sees), records_read.c and records_write.c.
 *
 * The state machine is asyncio's, in Python, on the real SSLObject.  While it is WRAPPED
 * and nothing is unusual, what the stream receives is decrypted here, straight into what
 * the protocol gets, and what the protocol writes is encrypted straight into what the
 * stream sends.  Whatever OpenSSL has to say but "data" and "more, please" is left to
 * Python's own call, which raises its own exception.
 */
#ifndef UL_RECORDS_H
#define UL_RECORDS_H

#include "ciphertext.h"
#include "../transports/stream.h"

/* A record's plain text, at most.  RFC 8446, section 5.1. */
#define RECORD_BYTES (16 * 1024)
/* What a turn writes in few pieces is one record's; more is encrypted at once. */
#define RECORDS_PIECES 8

typedef struct Records {
	PyObject_HEAD
	struct stream_layer layer;

	/* Attributes of asyncio's SSLProtocol, under its names; each owned or NULL. */
	PyObject *state;
	PyObject *transport;
	PyObject *app_protocol;
	PyObject *app_get_buffer;
	PyObject *app_buffer_updated;
	PyObject *sslobj;
	Py_ssize_t write_buffer_size;
	bool app_is_buffer;
	bool app_reading_paused;
	bool app_writing_paused;
	bool ssl_reading_paused;
	bool ssl_writing_paused;

	bool writes_freely;   /* the limits are such that a few records never pause */
	bool begun;           /* OpenSSL has the beginning of a record */
	bool refused;         /* it has something to say that Python's call is to hear */
	PyObject *socket;     /* owned: the _ssl._SSLSocket that owns `ssl` */
	SSL *ssl;             /* NULL: all is done in Python */
	Ciphertext *incoming, *outgoing; /* owned; NULL without `ssl` */
	Stream *stream;       /* borrowed: `transport`, as long as it is that */

	/* Written in this turn and not encrypted yet; owned bytes objects. */
	PyObject *pieces[RECORDS_PIECES];
	size_t piece_count;
	size_t piece_bytes;
} Records;

/* ---- records_type.c ---- */

extern PyTypeObject *RecordsType;
int records_init_types(PyObject *module);

/* ---- records_read.c ---- */

/* Members of asyncio's SSLProtocolState. */
extern PyObject *state_wrapped, *state_flushing;
/* As `except Exception` of asyncio's _do_read(): 0; -1 for what that lets through. */
int records_failed(Records *self);
int records_received(struct stream_layer *layer, const char *data, size_t size);
PyObject *records_read_method(Records *self, PyObject *ignored);

/* ---- records_write.c ---- */

int records_seal(struct stream_layer *layer);
void records_drop_pieces(Records *self);
PyObject *records_seal_method(Records *self, PyObject *ignored);
/* Whether what is written now may wait for the turn's end, and be encrypted here. */
bool records_write_freely(const Records *self);
/* Takes the reference to `piece`, which is not empty; 0 or -1. */
int records_write(Records *self, PyObject *piece);

/* ---- tls_transport.c ---- */

extern PyMethodDef tls_functions[]; /* of the module */

/* The stream, while it is that of the connection; else NULL. */
static inline Stream *records_stream(const Records *self)
{
	return likely(self->stream != NULL && (PyObject *)self->stream == self->transport)
		       ? self->stream
		       : NULL;
}

#endif
