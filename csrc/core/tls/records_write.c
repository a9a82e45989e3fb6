/*
 * What is written, encrypted straight into what the stream sends: once a turn, so that
 * small pieces share a record; or at once when they fill one, or others use the socket.
 */
#include "records.h"
#include "../base/checks.h"
#include "../transports/stream_send.h"

#include <string.h>

/* A record's head, nonce, padding and tag, at most but for rare ciphers. */
#define RECORD_OVERHEAD 64
/* Encrypted and sent at a time, so that it stays in the cache between these two. */
#define SEALED_BYTES_MAX ((size_t)256 * 1024)

/* ---- encrypting ----------------------------------------------------------------------------- */

/* The pieces to be encrypted, and how far that has come. */
struct plaintext {
	PyObject *const *pieces;
	size_t count, index;
	size_t offset;        /* in pieces[index] */
};

static const char *plaintext_head(const struct plaintext *text, size_t *size)
{
	*size = (size_t)PyBytes_GET_SIZE(text->pieces[text->index]) - text->offset;
	return PyBytes_AS_STRING(text->pieces[text->index]) + text->offset;
}

static void plaintext_advance(struct plaintext *text, size_t size)
{
	while (size > 0) {
		size_t left;

		plaintext_head(text, &left);
		if (size < left) {
			text->offset += size;
			return;
		}
		size -= left;
		text->index++;
		text->offset = 0;
	}
}

/* The next record's plain text: one piece's own bytes, or copied together into `record`. */
static const char *plaintext_next(const struct plaintext *text, char *record, size_t *size)
{
	struct plaintext ahead = *text;
	const char *head = plaintext_head(text, size);
	size_t filled = 0;

	if (*size >= RECORD_BYTES || text->index + 1 == text->count)
		return head;
	while (filled < RECORD_BYTES && ahead.index < ahead.count) {
		head = plaintext_head(&ahead, size);
		if (*size > RECORD_BYTES - filled)
			*size = RECORD_BYTES - filled;
		memcpy(record + filled, head, *size);
		filled += *size;
		plaintext_advance(&ahead, *size);
	}
	*size = filled;
	return record;
}

/* Encrypt about `limit` bytes of it; false when OpenSSL wants something else first. */
static bool records_encrypt(Records *self, struct plaintext *text, size_t limit)
{
	char record[RECORD_BYTES];
	size_t done = 0;

	while (text->index < text->count && done < limit) {
		size_t size;
		const char *data = plaintext_next(text, record, &size);
		int written = openssl.SSL_write(self->ssl, data,
		                                size < RECORD_BYTES ? (int)size : RECORD_BYTES);

		if (unlikely(written <= 0))
			return false;
		plaintext_advance(text, (size_t)written);
		done += (size_t)written;
	}
	return true;
}

/* Give `bytes`, whose reference it takes, to the stream; 0 or -1. */
static int records_send(Records *self, PyObject *bytes)
{
	Stream *stream = records_stream(self);
	PyObject *result = NULL;

	if (bytes != NULL)
		result = stream == NULL ? Py_NewRef(Py_None) : stream_write(stream, bytes);
	Py_XDECREF(bytes);
	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

/*
 * Encrypt a part of it into a bytes object, and send that.  1 when more may follow; 0
 * when the rest is Python's to write; -1.
 */
static int records_seal_part(Records *self, struct plaintext *text, size_t size)
{
	struct ciphertext *outgoing = self->outgoing->memory;
	size_t part = size < SEALED_BYTES_MAX ? size : SEALED_BYTES_MAX + RECORD_BYTES;
	size_t room = part + (part / RECORD_BYTES + 1) * RECORD_OVERHEAD;
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
	bool encrypted;

	if (unlikely(bytes == NULL))
		return -1;
	outgoing->room = PyBytes_AS_STRING(bytes);
	outgoing->room_size = room;
	outgoing->room_used = 0;
	encrypted = records_encrypt(self, text, SEALED_BYTES_MAX);
	outgoing->room = NULL;
	outgoing->room_size = 0;
	room = outgoing->room_used;
	outgoing->room_used = 0;
	if (room == 0)
		Py_CLEAR(bytes);
	else if (unlikely(_PyBytes_Resize(&bytes, (Py_ssize_t)room) < 0))
		return -1;
	if (bytes != NULL && unlikely(records_send(self, bytes) < 0))
		return -1;
	/* What the room did not hold comes after it. */
	if (unlikely(ciphertext_pending(outgoing) > 0) && !self->ssl_writing_paused &&
	    records_send(self, ciphertext_take(outgoing)) < 0)
		return -1;
	return encrypted && !self->ssl_writing_paused && self->state == state_wrapped;
}

/* What was not encrypted is Python's: it waits, or fails with its own exception. */
static int records_leave_rest(Records *self, const struct plaintext *text)
{
	PyObject *rest = PyList_New(0), *piece;
	size_t i, size;
	const char *head;
	int status = rest == NULL ? -1 : 0;

	for (i = text->index; i < text->count && status == 0; i++) {
		if (i == text->index && text->offset > 0) {
			head = plaintext_head(text, &size);
			piece = PyBytes_FromStringAndSize(head, (Py_ssize_t)size);
		} else {
			piece = Py_NewRef(text->pieces[i]);
		}
		status = piece == NULL ? -1 : PyList_Append(rest, piece);
		Py_XDECREF(piece);
	}
	if (status == 0)
		status = call_method_and_drop((PyObject *)self, names._write_appdata, rest);
	Py_XDECREF(rest);
	return status;
}

/* KeyboardInterrupt is no end of the connection, whose next run goes on; it stays set. */
static void records_keep_rest(Records *self, const struct plaintext *text)
{
	PyObject *exception;

	if (PyErr_ExceptionMatches(PyExc_Exception))
		return;
	exception = PyErr_GetRaisedException();
	if (records_leave_rest(self, text) < 0)
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_SetRaisedException(exception);
}

/* ---- what is written in a turn -------------------------------------------------------------- */

void records_drop_pieces(Records *self)
{
	self->layer.unsealed = false;
	self->piece_bytes = 0;
	while (self->piece_count > 0) {
		PyObject *piece = self->pieces[--self->piece_count];

		Py_DECREF(piece);
	}
}

int records_seal(struct stream_layer *layer)
{
	Records *self = container_of(layer, Records, layer);
	PyObject *pieces[RECORDS_PIECES];
	struct plaintext text = {pieces, self->piece_count, 0, 0};
	size_t size = self->piece_bytes, i;
	const Stream *stream = records_stream(self);
	int status = 1;

	if (text.count == 0)
		return 0;
	/* A thread that only asks something: the loop's own may be in OpenSSL, without the GIL. */
	if (unlikely(stream != NULL && stream->base.loop != NULL &&
	             loop_is_elsewhere(stream->base.loop)))
		return 0;
	/* Whatever is called out to below may write. */
	Py_INCREF(self);
	memcpy(pieces, self->pieces, text.count * sizeof(pieces[0]));
	self->piece_count = self->piece_bytes = 0;
	self->layer.unsealed = false;
	while (status > 0 && text.index < text.count)
		status = records_seal_part(self, &text, size);
	if (status == 0 && text.index < text.count)
		status = records_leave_rest(self, &text);
	else if (unlikely(status < 0) && text.index < text.count)
		records_keep_rest(self, &text);
	for (i = 0; i < text.count; i++)
		Py_DECREF(pieces[i]);
	if (unlikely(status < 0))
		status = records_failed(self);
	Py_DECREF(self);
	return status < 0 ? -1 : 0;
}

PyObject *records_seal_method(Records *self, PyObject *Py_UNUSED(ignored))
{
	if (records_seal(&self->layer) < 0)
		return NULL;
	Py_RETURN_NONE;
}

bool records_write_freely(const Records *self)
{
	const Stream *stream = records_stream(self);

	return self->ssl != NULL && self->state == state_wrapped && self->writes_freely &&
	       self->write_buffer_size == 0 && !self->app_writing_paused &&
	       !self->ssl_writing_paused && stream != NULL &&
	       stream->base.state == TRANSPORT_OPEN && stream->layer == &self->layer &&
	       !loop_is_elsewhere(stream->base.loop);
}

/* Make one piece of all, which are less than a record; 0 or -1. */
static int records_join_pieces(Records *self)
{
	PyObject *joined = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->piece_bytes);
	char *end;
	size_t i;

	if (joined == NULL)
		return -1;
	end = PyBytes_AS_STRING(joined);
	for (i = 0; i < self->piece_count; i++) {
		size_t size = (size_t)PyBytes_GET_SIZE(self->pieces[i]);

		memcpy(end, PyBytes_AS_STRING(self->pieces[i]), size);
		end += size;
		Py_DECREF(self->pieces[i]); /* exact bytes: nothing is called */
	}
	self->pieces[0] = joined;
	self->piece_count = 1;
	return 0;
}

/* Beside the program's: the protocol's own, and its extra info's. */
#define SSLOBJ_REFERENCES 2

/*
 * Whether others may write too before the turn ends, or end it all: they use the socket,
 * or hold the SSLObject.
 */
static bool records_are_urgent(const Records *self, const Stream *stream)
{
	return !stream->base.loop->running || stream_is_urgent(stream) ||
	       (self->sslobj != NULL && Py_REFCNT(self->sslobj) > SSLOBJ_REFERENCES);
}

int records_write(Records *self, PyObject *piece)
{
	Stream *stream = self->stream;

	if (unlikely(self->piece_count == RECORDS_PIECES) && records_join_pieces(self) < 0) {
		Py_DECREF(piece);
		return -1;
	}
	self->pieces[self->piece_count++] = piece;
	self->piece_bytes += (size_t)PyBytes_GET_SIZE(piece);
	self->layer.unsealed = true;
	if (self->piece_bytes >= RECORD_BYTES || unlikely(records_are_urgent(self, stream)))
		return records_seal(&self->layer);
	stream_mark_dirty(stream);
	return 0;
}
