/* A selector driver, sockets, and ways to wait, for the tests of the selector. */
#ifndef SELECTOR_FIXTURE_H
#define SELECTOR_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "check.h"
#include "open.h"
#include "sockets.h"

#define SECOND INT64_C(1000000000)
#define BUFFER_SIZE 65536

static struct ul_driver *driver;
static const struct ul_table *verbs;
/* Owners, told apart by their addresses. */
__attribute__((unused)) static char first, second, third;

static inline void driver_make(void)
{
	struct ul_options options = { .size = sizeof(options), .buffer_size = BUFFER_SIZE };

	CHECK_EQUAL(selector_open(&options, &driver), 0);
	verbs = driver->table;
	CHECK_EQUAL(verbs->begin(driver), 0);
}

static inline void driver_end(void)
{
	verbs->end(driver);
	verbs->shutdown(driver);
	verbs->destroy(driver);
}

static inline void pair_make(int pair[2])
{
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static inline void pair_close(int pair[2])
{
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
	CHECK_EQUAL(verbs->close(driver, pair[1]), 0);
}

static inline int tcp_listener(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*address);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)address, size), 0);
	CHECK_EQUAL(listen(fd, 100), 0);
	CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &size), 0);
	return fd;
}

static inline int tcp_connected(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_EQUAL(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	CHECK_EQUAL(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static inline void tcp_pair_make(int pair[2])
{
	struct sockaddr_in address;
	int listener = tcp_listener(&address);

	pair[0] = tcp_connected(&address);
	pair[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(pair[1] >= 0);
	close(listener);
}

/* Everything that is there now: as many turns as it takes. */
static inline int settle(struct ul_completion *out, int capacity)
{
	int count = 0;
	int turn;

	for (turn = 0; turn < 6; turn++) {
		int taken;

		CHECK_EQUAL(verbs->turn(driver, 0), 0);
		while ((taken = verbs->harvest(driver, out + count, capacity - count)) > 0)
			count += taken;
		CHECK(count < capacity);
	}
	return count;
}

/* The next completion, however long it takes. */
static inline struct ul_completion next_completion(void)
{
	struct ul_completion out;

	while (verbs->harvest(driver, &out, 1) == 0)
		CHECK_EQUAL(verbs->turn(driver, 5 * SECOND), 0);
	return out;
}

static inline void nothing_happens(void)
{
	struct ul_completion out[8];

	CHECK_EQUAL(settle(out, 8), 0);
}

#endif
