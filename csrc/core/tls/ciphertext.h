/*
 * Ciphertext on its way between a socket and OpenSSL: memory with a BIO at its side.
 *
 * For OpenSSL it is a BIO, for asyncio's SSLProtocol what a MemoryBIO is.  OpenSSL may
 * use it without the GIL (in a method of an SSLObject), so it knows no Python object.
 * Two borrowed windows save the copies where the GIL is kept:
 * what is received is read out of the lent buffer, and what is sent is written into the
 * bytes object that the stream gets.
 */
#ifndef UL_CIPHERTEXT_H
#define UL_CIPHERTEXT_H

#include "openssl.h"

#include <stdatomic.h>

struct ciphertext {
	atomic_int references; /* of the object and of the BIO, which may end in any order */
	/* Bytes to be read first; owned, or NULL. */
	char *data;
	size_t begin, end, capacity;
	/* Bytes to be read after these; borrowed. */
	const char *window;
	size_t window_size;
	/* Where to write first; borrowed. */
	char *room;
	size_t room_size, room_used;
};

typedef struct Ciphertext {
	PyObject_HEAD
	struct ciphertext *memory; /* one reference */
} Ciphertext;

int ciphertext_init_type(PyObject *module);
/* NULL with an exception. */
Ciphertext *ciphertext_new(void);
/* A BIO for it, which the caller owns; NULL with an exception. */
BIO *ciphertext_bio(Ciphertext *self);
/* Keep a copy of what is left of the window, which ends; 0 or -1 and MemoryError. */
int ciphertext_absorb(struct ciphertext *self);
/* What was written beside the room, as bytes; NULL with an exception. */
PyObject *ciphertext_take(struct ciphertext *self);

static inline size_t ciphertext_pending(const struct ciphertext *self)
{
	return self->end - self->begin + self->window_size;
}

#endif
