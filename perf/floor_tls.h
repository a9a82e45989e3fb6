/* The floor's TLS: what OpenSSL alone has to do for a connection, over memory that is lent. */
#ifndef FLOOR_TLS_H
#define FLOOR_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct session;

/* A server's end of TLS 1.3. The caller owns it, and gives it back to session_close(). */
struct session *session_open(void);
void session_close(struct session *session);

/* Decrypts what arrived and encrypts the same text again; false when the session has ended. */
bool session_echo(struct session *session, const char *bytes, size_t size);

/*
 * What is to be sent, and how much of it: 0 for nothing.  It stays where it is
 * until session_sent() has told that all of it has left.
 */
size_t session_output(struct session *session, const char **bytes);
void session_sent(struct session *session, size_t size);

#endif
