/* Checks for the C tests: a failed one says where, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define CHECK(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

#define CHECK_EQUAL(found, wanted)                                                    \
	do {                                                                          \
		long long found_ = (long long)(found);                                \
		long long wanted_ = (long long)(wanted);                              \
		if (found_ != wanted_) {                                              \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__,    \
			        __LINE__, #found, found_, wanted_);                   \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

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

#endif
