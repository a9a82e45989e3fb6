/* Questions to a socket about itself. */
#ifndef SOCKET_FACTS_H
#define SOCKET_FACTS_H

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

static inline bool socket_is_unix(int fd)
{
	int domain = 0;
	socklen_t size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* The outcome of a connect: 0 or -errno; asking clears it. */
static inline int socket_connected(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		return -errno;
	return -error;
}

#endif
