/* What the C tests do with the plain sockets at the other end. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "check.h"

#define ARRIVAL_MS 5000

/*
 * Something of a TCP peer's is there, its end included.  What was sent comes a moment
 * later when the kernel leaves loopback's deliveries to a thread of its own, as it does
 * on a busy machine.
 */
static inline bool arrives(int fd)
{
	struct pollfd asked = { .fd = fd, .events = POLLIN };

	return poll(&asked, 1, ARRIVAL_MS) == 1;
}

/*
 * All that was sent has been acknowledged, and the rest cannot be sent: then a full
 * socket stays full.  At once where nothing is acknowledged (Unix sockets).
 */
static inline void until_acknowledged(int fd)
{
	int queued, unsent, left;

	for (left = ARRIVAL_MS; left > 0; left--) {
		if (ioctl(fd, SIOCOUTQ, &queued) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0 ||
		    queued == unsent)
			return;
		poll(NULL, 0, 1);
	}
}

/* Fill the socket until it takes no more, also a moment later; how much it took. */
static inline size_t fill_socket(int fd)
{
	static const char zeros[65536];
	size_t total = 0;
	size_t before;
	ssize_t sent;

	do {
		before = total;
		while ((sent = send(fd, zeros, sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			total += (size_t)sent;
		CHECK_EQUAL(errno, EAGAIN);
		/* What the peer's side acknowledges makes room. */
		until_acknowledged(fd);
	} while (total != before);
	return total;
}

static inline size_t drain_socket(int fd)
{
	static char buffer[65536];
	size_t total = 0;
	ssize_t received;

	while ((received = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
		total += (size_t)received;
	return total;
}

#endif
