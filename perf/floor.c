/*
 * The floor: the least that an echo server on io_uring can be.
 *
 * One thread, no Python, no protocol, no allocation while it serves: multishot
 * receives into a ring of provided buffers, each buffer sent back from where it
 * lies, one enter per turn.  What a loop needs beyond this is the loop's own.
 * With --tls OpenSSL decrypts and encrypts each buffer (floor_tls.c), and no more.
 * Speaks as servers.py does: a line of JSON when it listens, and it ends when
 * standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef WITH_TLS
#include "floor_tls.h"
#endif

enum { BACKLOG = 4096, CONNECTIONS = 16384, ENTRIES = 1024, GROUP = 0, NONE = -1 };
enum { BUFFERS_TOGETHER = 32 << 20 };

enum verb { ACCEPT, RECEIVE, SEND, END };

/* A part that arrived and waits to be sent; its index is the number of its buffer. */
struct part {
	int next;
	unsigned int offset, size;
};

/* Parts of one connection leave one after another, in the order in which they came. */
struct connection {
	int first, last;
#ifdef WITH_TLS
	struct session *session;
	bool sending, over;
#endif
};

static struct io_uring ring;
static struct io_uring_buf_ring *offered;
static struct connection connections[CONNECTIONS];
static struct part *parts;
static char *memory;
static unsigned int buffer_size = 4096;
static unsigned int buffers = 1024;

static void fail(const char *what, int error)
{
	printf("{\"error\": \"floor: %s: %s\"}\n", what, strerror(error));
	exit(1);
}

static struct io_uring_sqe *next_sqe(enum verb verb, int fd, unsigned int detail)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
		if (!sqe)
			fail("the submission queue stays full", EBUSY);
	}
	/* The caller's io_uring_prep_*() leaves user_data alone from liburing 2.2 on. */
	sqe->user_data = (uint64_t)verb << 56 | (uint64_t)detail << 32 | (uint32_t)fd;
	return sqe;
}

static void receive(int fd)
{
	struct io_uring_sqe *sqe = next_sqe(RECEIVE, fd, 0);

	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
}

static void send_first(int fd)
{
	int number = connections[fd].first;
	const struct part *part = &parts[number];
	struct io_uring_sqe *sqe = next_sqe(SEND, fd, (unsigned int)number);

	io_uring_prep_send(sqe, fd, memory + (size_t)number * buffer_size + part->offset,
			   part->size, MSG_WAITALL | MSG_NOSIGNAL);
}

static void offer(int number)
{
	io_uring_buf_ring_add(offered, memory + (size_t)number * buffer_size, buffer_size,
			      (unsigned short)number, io_uring_buf_ring_mask(buffers), 0);
	io_uring_buf_ring_advance(offered, 1);
}

static void forget(int fd)
{
	while (connections[fd].first != NONE) {
		int number = connections[fd].first;

		connections[fd].first = parts[number].next;
		offer(number);
	}
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

#ifdef WITH_TLS
static bool tls;

static void send_records(int fd)
{
	struct connection *connection = &connections[fd];
	const char *bytes;
	size_t size = session_output(connection->session, &bytes);

	connection->sending = size > 0;
	if (size)
		io_uring_prep_send(next_sqe(SEND, fd, 0), fd, bytes, size,
				   MSG_WAITALL | MSG_NOSIGNAL);
}

/* When neither a receive nor a send names the connection any more. */
static void end_session(int fd)
{
	session_close(connections[fd].session);
	close(fd);
}

static void received_records(int fd, const struct io_uring_cqe *cqe)
{
	struct connection *connection = &connections[fd];
	int number = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	bool more;

	if (cqe->res <= 0) {
		connection->over = cqe->res != -ENOBUFS;
		if (!connection->over)
			receive(fd);
		else if (connection->sending)
			shutdown(fd, SHUT_RDWR);
		else
			end_session(fd);
		return;
	}
	more = session_echo(connection->session, memory + (size_t)number * buffer_size,
			    (size_t)cqe->res);
	offer(number);
	if (!connection->sending)
		send_records(fd);
	/* The receive's own end, which this brings about, is what ends the session. */
	if (!more)
		shutdown(fd, SHUT_RDWR);
	if (!(cqe->flags & IORING_CQE_F_MORE))
		receive(fd);
}

static void sent_records(int fd, int size)
{
	struct connection *connection = &connections[fd];

	connection->sending = false;
	if (connection->over) {
		end_session(fd);
	} else if (size > 0) {
		session_sent(connection->session, (size_t)size);
		send_records(fd);
	}
}
#endif

static void accepted(int fd)
{
	int yes = 1;

	if (fd < 0 || fd >= CONNECTIONS)
		fail("accept", fd < 0 ? -fd : EMFILE);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	connections[fd].first = NONE;
#ifdef WITH_TLS
	if (tls)
		connections[fd] = (struct connection){.session = session_open()};
#endif
	receive(fd);
}

static void received(int fd, const struct io_uring_cqe *cqe)
{
	struct connection *connection = &connections[fd];
	int number;

	if (cqe->res <= 0) {
		if (cqe->res == -ENOBUFS)
			receive(fd);
		else
			forget(fd);
		return;
	}
	number = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	parts[number] = (struct part){.next = NONE, .size = (unsigned int)cqe->res};
	if (connection->first == NONE) {
		connection->first = number;
		send_first(fd);
	} else {
		parts[connection->last].next = number;
	}
	connection->last = number;
	if (!(cqe->flags & IORING_CQE_F_MORE))
		receive(fd);
}

static void sent(int fd, int number, int size)
{
	struct part *part = &parts[number];

	/* A connection that failed was forgotten, or will be by its receive. */
	if (size <= 0 || connections[fd].first != number)
		return;
	if ((unsigned int)size < part->size) {
		part->offset += (unsigned int)size;
		part->size -= (unsigned int)size;
	} else {
		connections[fd].first = part->next;
		offer(number);
	}
	if (connections[fd].first != NONE)
		send_first(fd);
}

static void take(int fd, const struct io_uring_cqe *cqe)
{
#ifdef WITH_TLS
	if (tls) {
		received_records(fd, cqe);
		return;
	}
#endif
	received(fd, cqe);
}

static void left(int fd, int number, int size)
{
#ifdef WITH_TLS
	if (tls) {
		sent_records(fd, size);
		return;
	}
#endif
	sent(fd, number, size);
}

static void serve(void)
{
	struct io_uring_cqe *cqe;
	unsigned int head, count;

	for (;;) {
		int result = io_uring_submit_and_wait(&ring, 1);

		if (result < 0 && result != -EINTR)
			fail("io_uring_submit_and_wait", -result);
		count = 0;
		io_uring_for_each_cqe(&ring, head, cqe) {
			int fd = (int)(uint32_t)cqe->user_data;

			count++;
			switch ((enum verb)(cqe->user_data >> 56)) {
			case ACCEPT:
				accepted(cqe->res);
				break;
			case RECEIVE:
				take(fd, cqe);
				break;
			case SEND:
				left(fd, (int)(cqe->user_data >> 32 & 0xffffff), cqe->res);
				break;
			case END:
				exit(0);
			}
		}
		io_uring_cq_advance(&ring, count);
	}
}

static int listen_somewhere(const char *path)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in host = {.sin_family = AF_INET};
	socklen_t size = sizeof(host);
	int fd;

	host.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail("socket", errno);
	if (path) {
		strncpy(local.sun_path, path, sizeof(local.sun_path) - 1);
		if (bind(fd, (struct sockaddr *)&local, sizeof(local)))
			fail("bind", errno);
	} else if (bind(fd, (struct sockaddr *)&host, sizeof(host)) ||
		   getsockname(fd, (struct sockaddr *)&host, &size)) {
		fail("bind", errno);
	}
	if (listen(fd, BACKLOG))
		fail("listen", errno);
	printf("{\"%s\": ", path ? "unix" : "port");
	if (path)
		printf("\"%s\"", path);
	else
		printf("%u", ntohs(host.sin_port));
	printf(", \"driver\": \"floor\", \"pid\": %d}\n", (int)getpid());
	fflush(stdout);
	return fd;
}

static void set_up(void)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQSIZE,
		.cq_entries = 16 * ENTRIES,
	};
	struct io_uring_buf_reg registration = {.ring_entries = buffers, .bgid = GROUP};
	void *place;
	unsigned int i;
	int error = io_uring_queue_init_params(ENTRIES, &ring, &params);

	if (error)
		fail("io_uring_queue_init_params", -error);
	io_uring_register_ring_fd(&ring);
	error = posix_memalign(&place, 4096, buffers * sizeof(struct io_uring_buf));
	if (error)
		fail("memory", error);
	offered = place;
	registration.ring_addr = (uintptr_t)place;
	error = io_uring_register_buf_ring(&ring, &registration, 0);
	if (error)
		fail("io_uring_register_buf_ring", -error);
	error = posix_memalign(&place, 4096, (size_t)buffers * buffer_size);
	if (error)
		fail("memory", error);
	memory = place;
	parts = calloc(buffers, sizeof(*parts));
	if (!parts)
		fail("memory", ENOMEM);
	io_uring_buf_ring_init(offered);
	for (i = 0; i < buffers; i++)
		offer((int)i);
}

int main(int count, char **arguments)
{
	struct io_uring_sqe *sqe;
	const char *path = NULL;
	int i, listener;
	cpu_set_t set;

	for (i = 1; i < count; i++) {
		const char *name = arguments[i];

#ifdef WITH_TLS
		if (!strcmp(name, "--tls")) {
			tls = true;
			continue;
		}
#endif
		if (++i == count)
			fail(name, EINVAL);
		if (!strcmp(name, "--unix")) {
			path = arguments[i];
		} else if (!strcmp(name, "--buffer-size")) {
			buffer_size = (unsigned int)atoi(arguments[i]);
		} else if (!strcmp(name, "--core")) {
			CPU_ZERO(&set);
			CPU_SET((size_t)atoi(arguments[i]), &set);
			if (sched_setaffinity(0, sizeof(set), &set))
				fail("sched_setaffinity", errno);
		}
	}
	/* The kernel takes them in turn: more than fit a cache would all be cold. */
	while ((size_t)buffers * buffer_size > BUFFERS_TOGETHER)
		buffers /= 2;
	set_up();
	listener = listen_somewhere(path);
	sqe = next_sqe(ACCEPT, listener, 0);
	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	sqe = next_sqe(END, STDIN_FILENO, 0);
	io_uring_prep_poll_add(sqe, STDIN_FILENO, POLLIN | POLLHUP);
	serve();
}
