/* The load's byte stream.  Owns all that knows of TLS (OpenSSL's, as the servers'). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL_CTX *tls_context(void)
{
	static SSL_CTX *context;

	if (context)
		return context;
	context = SSL_CTX_new(TLS_client_method());
	if (!context)
		fail("SSL_CTX_new");
	/* What the load compares is bytes; who the server is, it knows. */
	SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
			 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return context;
}

/* What SSL_get_error() says, as errno would. */
static ssize_t tls_result(SSL *tls, int result)
{
	switch (SSL_get_error(tls, result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		break;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		if (!errno)
			return 0;
		break;
	default:
		errno = EPROTO;
	}
	return -1;
}

static void tls_open(const struct options *options, struct connection *connection)
{
	int flags = fcntl(connection->fd, F_GETFL);

	connection->tls = SSL_new(tls_context());
	if (!connection->tls || SSL_set_fd(connection->tls, connection->fd) != 1 ||
	    (options->resume && connection->session &&
	     SSL_set_session(connection->tls, connection->session) != 1) ||
	    (options->mode != CONNECT && SSL_connect(connection->tls) != 1)) {
		ERR_print_errors_fp(stderr);
		fail("TLS handshake");
	}
	/* Not one handshake after the other: the server shall have many at a time. */
	if (options->mode == CONNECT)
		SSL_set_connect_state(connection->tls);
	/* OpenSSL reads and writes without MSG_DONTWAIT. */
	if (flags < 0 || fcntl(connection->fd, F_SETFL, flags | O_NONBLOCK))
		fail("fcntl");
}

static ssize_t tls_send(struct connection *connection, struct iovec *parts, uint32_t count)
{
	ssize_t total = 0;
	uint32_t i;

	for (i = 0; i < count; i++) {
		const char *start = parts[i].iov_base;
		size_t left = parts[i].iov_len;

		while (left) {
			int result = SSL_write(connection->tls, start, (int)left);

			if (result <= 0)
				return total ? total : tls_result(connection->tls, result);
			start += result;
			left -= (size_t)result;
			total += result;
		}
	}
	return total;
}
#endif

void stream_open(const struct options *options, struct connection *connection)
{
	if (!options->tls)
		return;
#ifdef WITH_TLS
	tls_open(options, connection);
#else
	(void)connection;
	fprintf(stderr, "load: compiled without TLS\n");
	exit(2);
#endif
}

ssize_t stream_send(struct connection *connection, struct iovec *parts, uint32_t count)
{
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};

#ifdef WITH_TLS
	if (connection->tls)
		return tls_send(connection, parts, count);
#endif
	if (count == 1)
		return send(connection->fd, parts->iov_base, parts->iov_len,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
	return sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t stream_receive(struct connection *connection, void *buffer, size_t size)
{
#ifdef WITH_TLS
	if (connection->tls) {
		int result = SSL_read(connection->tls, buffer, (int)size);

		return result > 0 ? result : tls_result(connection->tls, result);
	}
#endif
	return recv(connection->fd, buffer, size, MSG_DONTWAIT);
}

bool stream_as_asked(const struct options *options, const struct connection *connection)
{
#ifdef WITH_TLS
	/* The first connection has nothing to resume. */
	if (connection->tls && options->mode == CONNECT)
		return SSL_session_reused(connection->tls) ==
		       (options->resume && connection->session != NULL);
#endif
	(void)options;
	(void)connection;
	return true;
}

bool stream_short_means_empty(const struct connection *connection)
{
	/* A record is at most 16 KiB, however much has come. */
	return connection->tls == NULL;
}

void stream_close(struct connection *connection)
{
#ifdef WITH_TLS
	if (connection->tls) {
		SSL_SESSION_free(connection->session);
		connection->session = SSL_get1_session(connection->tls);
		/* Or OpenSSL lets nobody resume the session of what was broken off. */
		SSL_set_shutdown(connection->tls, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(connection->tls);
		connection->tls = NULL;
	}
#endif
	close(connection->fd);
}
