/*
 * The load's side of the wire: connections, what is sent on them, and the check
 * of every byte that comes back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "load.h"
#include "stream.h"

void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now))
		return 0;
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void note_error(struct load *load, const char *format, ...)
{
	va_list arguments;

	if (!load->errors++) {
		va_start(arguments, format);
		vsnprintf(load->first_error, sizeof(load->first_error), format, arguments);
		va_end(arguments);
	}
}

static void note_latency(struct load *load, uint64_t latency_ns)
{
	uint64_t value = latency_ns | SUB_BUCKETS;
	unsigned int shift = 58 - (unsigned int)__builtin_clzll(value);

	load->latencies[shift * SUB_BUCKETS + ((value >> shift) & (SUB_BUCKETS - 1))]++;
	if (latency_ns > load->longest_ns)
		load->longest_ns = latency_ns;
}

/* What the servers that read messages of one shape need to find the end of this one. */
static void shape_message(char *message, uint32_t size, enum shape shape)
{
	char head[16];
	int length;

	if (shape == LINES) {
		message[size - 1] = '\n';
	} else if (shape == FRAMES) {
		uint32_t rest = htonl(size - 4);

		memcpy(message, &rest, 4);
	} else if (shape == BULKS) {
		/* A number of two digits is written for all that are smaller than 100. */
		length = snprintf(head, sizeof(head), "$%02u\r\n", size);
		length = snprintf(head, sizeof(head), "$%02u\r\n", size - (uint32_t)length - 2);
		memcpy(message, head, (size_t)length);
		memcpy(message + size - 2, "\r\n", 2);
	}
}

/* Printable bytes that differ from message to message. */
void make_templates(struct load *load)
{
	uint32_t size = load->options.size, i, j, state = 12345;

	load->template_count = size > 16384 ? LARGE_TEMPLATES : TEMPLATES;
	for (i = 0; i < load->template_count; i++) {
		load->templates[i] = malloc(size);
		if (!load->templates[i])
			fail("memory");
		for (j = 0; j < size; j++) {
			state = state * 1664525 + 1013904223;
			load->templates[i][j] = (char)('0' + (state >> 24) % 64);
		}
		if (load->options.mode == HTTP)
			memcpy(load->templates[i], HTTP_REQUEST, size);
		shape_message(load->templates[i], size, load->options.shape);
	}
}

static const char *message_of(const struct load *load, const struct connection *connection,
			      uint32_t sequence)
{
	uint32_t index = (uint32_t)(connection - load->connections);

	return load->templates[(index * 7 + sequence) % load->template_count];
}

void reset_when_closed(const struct connection *connection)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* The later ones come from further addresses of the loopback network. */
static void choose_address(const struct load *load, const struct connection *connection)
{
	uint32_t further = (uint32_t)(connection - load->connections) / CONNECTIONS_PER_ADDRESS;
	struct sockaddr_in own = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + further),
	};
	int one = 1;

	/* The port is connect()'s to choose: only it knows which are free towards the server. */
	if (further && (setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one,
				   sizeof(one)) ||
			bind(connection->fd, (struct sockaddr *)&own, sizeof(own))))
		fail("bind");
}

void open_connection(struct load *load, struct connection *connection)
{
	const struct options *options = &load->options;
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in remote = {
		.sin_family = AF_INET,
		.sin_port = htons(options->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = connection};
	int one = 1, result;

	/* The socket blocks here only; every transfer says MSG_DONTWAIT. */
	if (options->unix_path) {
		connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connection->fd < 0)
			fail("socket");
		strncpy(local.sun_path, options->unix_path, sizeof(local.sun_path) - 1);
		result = connect(connection->fd, (struct sockaddr *)&local, sizeof(local));
	} else {
		connection->fd = socket(AF_INET, (options->datagrams ? SOCK_DGRAM : SOCK_STREAM) |
				        SOCK_CLOEXEC, 0);
		if (connection->fd < 0)
			fail("socket");
		if (!options->datagrams)
			setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		choose_address(load, connection);
		result = connect(connection->fd, (struct sockaddr *)&remote, sizeof(remote));
	}
	if (result)
		fail("connect");
	connection->sent = connection->received = 0;
	connection->sent_bytes = connection->received_bytes = 0;
	connection->body_left = connection->head_bytes = 0;
	connection->waits_for_room = false;
	stream_open(options, connection);
	if (load->epoll >= 0 && epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event))
		fail("epoll_ctl");
}

void send_due(struct load *load, struct connection *connection, uint64_t now)
{
	const struct options *options = &load->options;
	struct iovec parts[MAX_IN_FLIGHT];
	uint32_t due = options->in_flight - (connection->sent - connection->received), i;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = connection};
	bool wants_room = false;
	ssize_t result, left;

	/* At the end only what has begun is finished; to connect is a beginning. */
	if (load->draining)
		due = options->mode == CONNECT ? !connection->sent : connection->sent_bytes > 0;
	if (due) {
		for (i = 0; i < due; i++) {
			const char *message = message_of(load, connection, connection->sent + i);

			parts[i].iov_base = (void *)(uintptr_t)message;
			parts[i].iov_len = options->size;
		}
		parts[0].iov_base = (char *)parts[0].iov_base + connection->sent_bytes;
		parts[0].iov_len -= connection->sent_bytes;
		result = stream_send(connection, parts, due);
		if (result < 0 && errno != EAGAIN) {
			note_error(load, "send: %s", strerror(errno));
			return;
		}
		if (!connection->sent_bytes)
			connection->sent_at[connection->sent & load->slot_mask] = now;
		for (left = result < 0 ? 0 : result; left;) {
			uint32_t rest = options->size - connection->sent_bytes;

			if (left < (ssize_t)rest) {
				connection->sent_bytes += (uint32_t)left;
				break;
			}
			left -= rest;
			connection->sent++;
			connection->sent_bytes = 0;
			connection->sent_at[connection->sent & load->slot_mask] = now;
		}
		wants_room = load->draining ? connection->sent_bytes || !connection->sent :
			connection->sent - connection->received < options->in_flight;
	}
	if (wants_room != connection->waits_for_room) {
		event.events |= wants_room ? (uint32_t)EPOLLOUT : 0;
		epoll_ctl(load->epoll, EPOLL_CTL_MOD, connection->fd, &event);
		connection->waits_for_room = wants_room;
	}
}

static void message_done(struct load *load, struct connection *connection, uint64_t now)
{
	uint64_t sent_at = connection->sent_at[connection->received & load->slot_mask];

	if (!load->draining)
		note_latency(load, now - sent_at);
	connection->received++;
	load->messages++;
}

static bool take_echo(struct load *load, struct connection *connection, const char *data,
		      uint32_t size, uint64_t now)
{
	while (size) {
		const char *expected = message_of(load, connection, connection->received);
		uint32_t chunk = load->options.size - connection->received_bytes;

		if (chunk > size)
			chunk = size;
		if (connection->received == connection->sent &&
		    connection->received_bytes + chunk > connection->sent_bytes) {
			note_error(load, "more bytes came back than were sent");
			return false;
		}
		if (memcmp(data, expected + connection->received_bytes, chunk)) {
			note_error(load, "other bytes came back than were sent");
			return false;
		}
		data += chunk;
		size -= chunk;
		connection->received_bytes += chunk;
		if (connection->received_bytes == load->options.size) {
			connection->received_bytes = 0;
			message_done(load, connection, now);
		}
	}
	return true;
}

/* Enough of HTTP/1.1 for a server of our own: 200, Content-Length, keep-alive. */
static bool take_response(struct load *load, struct connection *connection, const char *data,
			  uint32_t size, uint64_t now)
{
	static const char length_field[] = "\r\ncontent-length:";
	const char *end, *field;
	uint32_t chunk;

	while (size) {
		if (!connection->body_left) {
			chunk = HEAD_SIZE - 1 - connection->head_bytes;
			if (chunk > size)
				chunk = size;
			memcpy(connection->head + connection->head_bytes, data, chunk);
			connection->head[connection->head_bytes + chunk] = 0;
			end = strstr(connection->head, "\r\n\r\n");
			if (!end) {
				connection->head_bytes += chunk;
				data += chunk;
				size -= chunk;
				if (connection->head_bytes < HEAD_SIZE - 1)
					continue;
			}
			field = strcasestr(connection->head, length_field);
			if (!end || !field || field > end ||
			    strncmp(connection->head, "HTTP/1.1 200 ", 13)) {
				note_error(load, "not the response that was expected");
				return false;
			}
			chunk = (uint32_t)(end + 4 - connection->head) - connection->head_bytes;
			data += chunk;
			size -= chunk;
			connection->head_bytes = 0;
			connection->body_left =
				(uint32_t)strtoul(field + sizeof(length_field) - 1, NULL, 10);
			if (!connection->body_left) {
				message_done(load, connection, now);
				continue;
			}
		}
		chunk = connection->body_left < size ? connection->body_left : size;
		connection->body_left -= chunk;
		data += chunk;
		size -= chunk;
		if (!connection->body_left)
			message_done(load, connection, now);
	}
	return true;
}

/* Gone for good: a broken connection is an error, and it is not replaced. */
static void drop(struct connection *connection)
{
	stream_close(connection);
	connection->fd = -1;
}

static void reconnect(struct load *load, struct connection *connection, uint64_t now)
{
	reset_when_closed(connection);
	stream_close(connection);
	open_connection(load, connection);
	send_due(load, connection, now);
}

/* Take what has arrived. False: the connection is gone, or begun anew. */
static bool take_arrived(struct load *load, struct connection *connection, uint64_t *now)
{
	ssize_t size;
	bool good;

	do {
		size = stream_receive(connection, load->buffer, BUFFER_SIZE);
		if (size < 0 && errno == EAGAIN)
			return true;
		if (size <= 0) {
			note_error(load, "receive: %s",
			           size ? strerror(errno) : "closed by the server");
			drop(connection);
			return false;
		}
		*now = now_ns();
		good = load->options.mode == HTTP ?
			take_response(load, connection, load->buffer, (uint32_t)size, *now) :
			take_echo(load, connection, load->buffer, (uint32_t)size, *now);
		if (!good) {
			drop(connection);
			return false;
		}
		if (load->options.mode == CONNECT && connection->received) {
			if (!stream_as_asked(&load->options, connection))
				note_error(load, "the server did not resume as it was asked to");
			if (load->draining)
				return true;
			reconnect(load, connection, *now);
			return false;
		}
		/* Edge-triggered: only a short read says that nothing is left. */
	} while (size == BUFFER_SIZE || !stream_short_means_empty(connection));
	return true;
}

void serve(struct load *load, struct connection *connection, uint32_t events)
{
	uint64_t now = 0;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !take_arrived(load, connection, &now))
		return;
	send_due(load, connection, now ? now : now_ns());
}

void speak_once(struct load *load, struct connection *connection)
{
	const char *message = message_of(load, connection, 0);
	uint32_t size = load->options.size;

	if (send(connection->fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
		note_error(load, "send: %s", strerror(errno));
	else if (recv(connection->fd, load->buffer, size, MSG_WAITALL) != (ssize_t)size)
		note_error(load, "receive: %s", strerror(errno));
	else if (memcmp(load->buffer, message, size))
		note_error(load, "other bytes came back than were sent");
}
