/* The load's byte stream: a plain socket, or TLS over it. */
#ifndef PERF_STREAM_H
#define PERF_STREAM_H

#include <sys/uio.h>

#include "load.h"

/*
 * After connect(2): the handshake, if there is one.  Ends the program when it fails.  With
 * connections that come and go it is only begun here: the transfers go on with it.
 */
void stream_open(const struct options *options, struct connection *connection);
/*
 * As sendmsg(2) and recv(2) that never wait: bytes, 0 at the end of the stream,
 * or -1 with errno.
 */
ssize_t stream_send(struct connection *connection, struct iovec *parts, uint32_t count);
ssize_t stream_receive(struct connection *connection, void *buffer, size_t size);
/* Whether a connection that has spoken is as the options want it: resumed, or not. */
bool stream_as_asked(const struct options *options, const struct connection *connection);
/* Whether a short receive says that nothing is left. */
bool stream_short_means_empty(const struct connection *connection);
/* Keeps of a TLS connection its session. */
void stream_close(struct connection *connection);

#endif
