/*
 * What both drivers promise, through the table alone.
 *
 *     test_driver uring|selector [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "driver_fixture.h"

/* --- Streams -------------------------------------------------------------- */

static void echo_once(struct bench *bench, int sockets[2])
{
	const struct ul_table *table = bench->table;
	struct record reader = { 0 };
	struct record sender = { 0 };
	struct iovec iov = { "hello", 5 };

	CHECK_EQUAL(table->recv(bench->driver, &reader, sockets[0], &reader.token), -EINPROGRESS);
	CHECK_EQUAL(RESULT_OF(bench, &sender, table->send(bench->driver, &sender, sockets[1], &iov,
	                                                  1, &sender.token)), 5);
	UNTIL(bench, reader.size == 5);
	CHECK_EQUAL(memcmp(reader.data, "hello", 5), 0);
	CHECK(reader.flags & UL_MORE);
	for (int round = 0; round < 100; round++)
		CHECK_EQUAL(RESULT_OF(bench, &sender,
		                      table->send(bench->driver, &sender, sockets[1], &iov, 1,
		                                  &sender.token)), 5);
	UNTIL(bench, reader.size == 505);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(reader.result, -ECANCELED);
	record_free(&reader);
}

static void echo_over_socketpair_returns_the_bytes(struct bench *bench)
{
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	echo_once(bench, sockets);
	close_pair(sockets);
	bench_close(bench);
}

static void echo_over_tcp_returns_the_bytes(struct bench *bench)
{
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	echo_once(bench, sockets);
	close_pair(sockets);
	bench_close(bench);
}

/* Send `size` patterned bytes while a recv runs, and compare. */
static void pump(struct bench *bench, int sockets[2], size_t size, size_t piece)
{
	const struct ul_table *table = bench->table;
	struct record reader = { 0 };
	struct record sender = { 0 };
	unsigned char *data = malloc(size);
	size_t sent = 0;

	for (size_t position = 0; position < size; position++)
		data[position] = pattern(position);
	CHECK_EQUAL(table->recv(bench->driver, &reader, sockets[0], &reader.token), -EINPROGRESS);
	while (sent < size) {
		struct iovec iov = { data + sent, size - sent < piece ? size - sent : piece };
		int result = RESULT_OF(bench, &sender,
		                       table->send(bench->driver, &sender, sockets[1], &iov, 1,
		                                   &sender.token));

		CHECK(result > 0);
		sent += (size_t)result;
	}
	shutdown(sockets[1], SHUT_WR);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, 0);
	CHECK_EQUAL(reader.size, size);
	CHECK(is_pattern(reader.data, size));
	record_free(&reader);
	free(data);
}

static void recv_of_bulk_keeps_every_byte_in_order(struct bench *bench)
{
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	pump(bench, sockets, 16 * 1024 * 1024, 1024 * 1024);
	close_pair(sockets);
	make_pair(sockets);
	pump(bench, sockets, 4 * 1024 * 1024, 100000);
	close_pair(sockets);
	bench_close(bench);
}

static void recv_with_tiny_pools_keeps_every_byte_in_order(struct bench *bench)
{
	int sockets[2];

	bench->options.buffer_count = 2;
	bench->options.buffer_size = 16;
	bench->options.bulk_count = 1;
	bench->options.bulk_size = 100;
	bench_open(bench);
	make_tcp_pair(sockets);
	pump(bench, sockets, 200000, 777);
	close_pair(sockets);
	make_pair(sockets);
	pump(bench, sockets, 200000, 20000);
	close_pair(sockets);
	bench_close(bench);
}

#define CROWD 40

static void recv_of_many_with_few_buffers_starves_nobody(struct bench *bench)
{
	int sockets[CROWD][2];
	struct record readers[CROWD] = { 0 };

	bench->options.buffer_count = 3;
	bench->options.buffer_size = 8;
	bench->options.bulk_count = 1;
	bench->options.bulk_size = 64;
	bench_open(bench);
	for (int index = 0; index < CROWD; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0],
		                               &readers[index].token), -EINPROGRESS);
	}
	for (int round = 0; round < 20; round++) {
		for (int index = 0; index < CROWD; index++)
			CHECK_EQUAL(write(sockets[index][1], "0123456789", 10), 10);
		for (int index = 0; index < CROWD; index++)
			UNTIL(bench, readers[index].size == (size_t)(round + 1) * 10);
	}
	for (int index = 0; index < CROWD; index++) {
		bench_cancel(bench, &readers[index]);
		CHECK_EQUAL(memcmp(readers[index].data + 190, "0123456789", 10), 0);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	bench_close(bench);
}

static void recv_at_the_end_of_file_ends_once(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(write(sockets[1], "last", 4), 4);
	close(sockets[1]);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.size, 4);
	CHECK_EQUAL(reader.result, 0);
	bench_quiet(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(bench->table->cancel(bench->driver, reader.token), -ENOENT);
	close(sockets[0]);
	record_free(&reader);
	bench_close(bench);
}

static void recv_after_a_reset_ends_with_the_error(struct bench *bench)
{
	struct record reader = { 0 };
	struct linger linger = { 1, 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	setsockopt(sockets[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sockets[1]);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, -ECONNRESET);
	close(sockets[0]);
	bench_close(bench);
}

static void recv_cancelled_while_idle_ends_with_canceled(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	for (int round = 0; round < 50; round++) {
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
		            -EINPROGRESS);
		bench_turn(bench, 0);
		bench_cancel(bench, &reader);
		CHECK_EQUAL(reader.size, 0);
	}
	close_pair(sockets);
	bench_close(bench);
}

/* The races: bytes arrive before, with and after each cancel. */
static void recv_cancelled_and_started_again_loses_nothing(struct bench *bench)
{
	struct record reader = { 0 };
	unsigned char piece[3000];
	unsigned random = 12345;
	size_t written = 0;
	int sockets[2];

	bench->options.buffer_count = 8;
	bench->options.buffer_size = 256;
	bench->options.bulk_count = 2;
	bench->options.bulk_size = 2048;
	bench_open(bench);
	make_tcp_pair(sockets);
	for (int round = 0; round < 600; round++) {
		unsigned choice;

		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
		            -EINPROGRESS);
		random = random * 1103515245 + 12345;
		choice = random >> 16;
		if (choice & 1)
			bench_turn(bench, 0);
		for (unsigned index = 0; index < choice % 3000; index++)
			piece[index] = pattern(written + index);
		CHECK_EQUAL(write(sockets[1], piece, choice % 3000), choice % 3000);
		written += choice % 3000;
		if (choice & 2)
			bench_turn(bench, 0);
		if (choice & 4)
			bench_turn(bench, MILLISECOND_NS / 10);
		bench_cancel(bench, &reader);
	}
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	UNTIL(bench, reader.size == written);
	CHECK(is_pattern(reader.data, written));
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void recv_into_fills_the_callers_buffer(struct bench *bench)
{
	struct record reader = { 0 };
	char buffer[16] = "";
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv_into(bench->driver, &reader, sockets[0], buffer,
	                                    sizeof(buffer), 0, &reader.token), -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(reader.ends, 0);
	CHECK_EQUAL(write(sockets[1], "abc", 3), 3);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, 3);
	CHECK_EQUAL(memcmp(buffer, "abc", 3), 0);
	/* Peeked at bytes are there a second time. */
	CHECK_EQUAL(write(sockets[1], "def", 3), 3);
	CHECK_EQUAL(RESULT_OF(bench, &reader,
	                      bench->table->recv_into(bench->driver, &reader, sockets[0], buffer,
	                                              2, MSG_PEEK, &reader.token)), 2);
	CHECK_EQUAL(RESULT_OF(bench, &reader,
	                      bench->table->recv_into(bench->driver, &reader, sockets[0], buffer,
	                                              16, 0, &reader.token)), 3);
	CHECK_EQUAL(memcmp(buffer, "def", 3), 0);
	CHECK_EQUAL(bench->table->recv_into(bench->driver, &reader, sockets[0], buffer,
	                                    sizeof(buffer), 0, &reader.token), -EINPROGRESS);
	bench_turn(bench, 0);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(reader.result, -ECANCELED);
	close_pair(sockets);
	bench_close(bench);
}

/* --- Sending -------------------------------------------------------------- */

static void send_of_many_pieces_arrives_as_one_stream(struct bench *bench)
{
	static const unsigned counts[] = { 1, 2, 8, 9, 500, 1024 };
	static unsigned char data[1024];
	struct iovec iov[1024];
	int sockets[2];

	for (unsigned index = 0; index < 1024; index++) {
		data[index] = pattern(index);
		iov[index] = (struct iovec){ data + index, 1 };
	}
	bench_open(bench);
	make_tcp_pair(sockets);
	for (unsigned index = 0; index < sizeof(counts) / sizeof(counts[0]); index++) {
		struct record sender = { 0 };
		struct record reader = { 0 };

		CHECK_EQUAL(RESULT_OF(bench, &sender,
		                      bench->table->send(bench->driver, &sender, sockets[0], iov,
		                                         counts[index], &sender.token)),
		            counts[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[1], &reader.token),
		            -EINPROGRESS);
		UNTIL(bench, reader.size == counts[index]);
		CHECK(is_pattern(reader.data, counts[index]));
		bench_cancel(bench, &reader);
		record_free(&reader);
	}
	close_pair(sockets);
	bench_close(bench);
}

static void send_to_a_full_socket_waits_for_room(struct bench *bench)
{
	struct record sender = { 0 };
	struct iovec iov = { "tail", 4 };
	size_t filled;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	filled = fill_socket(sockets[0]);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(sender.ends, 0);
	while (sender.ends == 0) {
		filled -= drain_socket(sockets[1]);
		bench_turn(bench, MILLISECOND_NS);
	}
	CHECK_EQUAL(sender.result, 4);
	close_pair(sockets);
	bench_close(bench);
}

static void send_cancelled_while_blocked_sends_nothing(struct bench *bench)
{
	struct record sender = { 0 };
	struct iovec iov = { "tail", 4 };
	size_t filled;
	size_t found = 0;
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	filled = fill_socket(sockets[0]);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench_cancel(bench, &sender);
	CHECK_EQUAL(sender.result, -ECANCELED);
	for (int round = 0; round < 3; round++) {
		found += drain_socket(sockets[1]);
		bench_quiet(bench);
	}
	CHECK_EQUAL(found, filled);
	close_pair(sockets);
	bench_close(bench);
}

static void send_to_a_closed_peer_fails_without_a_signal(struct bench *bench)
{
	struct record sender = { 0 };
	struct iovec iov[2] = { { "x", 1 }, { "y", 1 } };
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	close(sockets[1]);
	CHECK_EQUAL(RESULT_OF(bench, &sender, bench->table->send(bench->driver, &sender, sockets[0],
	                                                         iov, 1, &sender.token)), -EPIPE);
	CHECK_EQUAL(RESULT_OF(bench, &sender, bench->table->send(bench->driver, &sender, sockets[0],
	                                                         iov, 2, &sender.token)), -EPIPE);
	close(sockets[0]);
	bench_close(bench);
}

/* --- Connections ---------------------------------------------------------- */

static void accept_gives_each_connection_once(struct bench *bench)
{
	struct record server = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int clients[30];

	bench_open(bench);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, &server.token),
	            -EINPROGRESS);
	for (int index = 0; index < 30; index++) {
		struct record client = { 0 };

		clients[index] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		CHECK_EQUAL(RESULT_OF(bench, &client,
		                      bench->table->connect(bench->driver, &client, clients[index],
		                                            (struct sockaddr *)&address,
		                                            sizeof(address), &client.token)), 0);
	}
	UNTIL(bench, server.completions == 30);
	CHECK_EQUAL(server.ends, 0);
	for (int index = 0; index < 30; index++) {
		int fd = server.results[index];

		CHECK(fd >= 0);
		CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		CHECK_EQUAL(write(clients[index], "c", 1), 1);
		close(fd);
		close(clients[index]);
	}
	bench_cancel(bench, &server);
	CHECK_EQUAL(server.result, -ECANCELED);
	close(listener);
	bench_close(bench);
}

static void accept_without_descriptors_ends_with_emfile(struct bench *bench)
{
	struct record server = { 0 };
	struct sockaddr_in address;
	struct rlimit before;
	struct rlimit tight;
	int listener = make_listener(&address);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int probe;

	bench_open(bench);
	CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &before), 0);
	probe = dup(0);
	close(probe);
	tight = before;
	tight.rlim_cur = (rlim_t)probe;
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &tight), 0);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, &server.token),
	            -EINPROGRESS);
	CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	UNTIL(bench, server.ends == 1);
	CHECK_EQUAL(server.result, -EMFILE);
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, &server.token),
	            -EINPROGRESS);
	UNTIL(bench, server.completions == 2);
	CHECK(server.result >= 0);
	close(server.result);
	bench_cancel(bench, &server);
	close(client);
	close(listener);
	bench_close(bench);
}

static void connect_to_nobody_is_refused(struct bench *bench)
{
	struct record client = { 0 };
	struct sockaddr_in address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	close(make_listener(&address));
	bench_open(bench);
	CHECK_EQUAL(RESULT_OF(bench, &client,
	                      bench->table->connect(bench->driver, &client, fd,
	                                            (struct sockaddr *)&address, sizeof(address),
	                                            &client.token)), -ECONNREFUSED);
	close(fd);
	bench_close(bench);
}

static void connect_to_a_unix_listener_succeeds(struct bench *bench)
{
	struct record client = { 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(address);

	/* An abstract name of the kernel's choice. */
	CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	CHECK_EQUAL(listen(listener, 5), 0);
	bench_open(bench);
	CHECK_EQUAL(RESULT_OF(bench, &client,
	                      bench->table->connect(bench->driver, &client, fd,
	                                            (struct sockaddr *)&address, size,
	                                            &client.token)), 0);
	close(fd);
	close(listener);
	bench_close(bench);
}

/* --- Datagrams ------------------------------------------------------------ */

static int make_udp(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*address);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &size), 0);
	return fd;
}

static void recv_from_gives_each_datagram_with_its_sender(struct bench *bench)
{
	static unsigned char large[60000];
	struct record reader = { 0 };
	struct record sender = { 0 };
	struct sockaddr_in here;
	struct sockaddr_in there;
	int receiver = make_udp(&here);
	int fd = make_udp(&there);

	memset(large, 'L', sizeof(large));
	bench_open(bench);
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &reader, receiver, &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(RESULT_OF(bench, &sender,
	                      bench->table->send_to(bench->driver, &sender, fd, "ping", 4,
	                                            (struct sockaddr *)&here, sizeof(here),
	                                            &sender.token)), 4);
	UNTIL(bench, reader.completions == 1);
	CHECK_EQUAL(reader.size, 4);
	CHECK_EQUAL(memcmp(reader.data, "ping", 4), 0);
	CHECK_EQUAL(reader.address_size, sizeof(there));
	CHECK_EQUAL(memcmp(&reader.address, &there, sizeof(there)), 0);
	/* An empty one is one. */
	CHECK_EQUAL(RESULT_OF(bench, &sender,
	                      bench->table->send_to(bench->driver, &sender, fd, "", 0,
	                                            (struct sockaddr *)&here, sizeof(here),
	                                            &sender.token)), 0);
	UNTIL(bench, reader.completions == 2);
	CHECK_EQUAL(reader.result, 0);
	CHECK(reader.flags & UL_MORE);
	CHECK_EQUAL(RESULT_OF(bench, &sender,
	                      bench->table->send_to(bench->driver, &sender, fd, large,
	                                            sizeof(large), (struct sockaddr *)&here,
	                                            sizeof(here), &sender.token)), sizeof(large));
	UNTIL(bench, reader.completions == 3);
	CHECK_EQUAL(reader.result, sizeof(large));
	CHECK((reader.flags & UL_TRUNCATED) == 0);
	for (int index = 0; index < 200; index++) {
		CHECK_EQUAL(sendto(fd, "x", 1, 0, (struct sockaddr *)&here, sizeof(here)), 1);
		if (index % 20 == 19)
			UNTIL(bench, reader.completions == 4 + index);
	}
	/* A connected socket needs no address. */
	CHECK_EQUAL(connect(fd, (struct sockaddr *)&here, sizeof(here)), 0);
	CHECK_EQUAL(RESULT_OF(bench, &sender,
	                      bench->table->send_to(bench->driver, &sender, fd, "c", 1, NULL, 0,
	                                            &sender.token)), 1);
	UNTIL(bench, reader.completions == 204);
	bench_cancel(bench, &reader);
	close(fd);
	close(receiver);
	record_free(&reader);
	bench_close(bench);
}

static void recv_from_a_vanished_peer_ends_with_refused(struct bench *bench)
{
	struct record reader = { 0 };
	struct sockaddr_in here;
	struct sockaddr_in there;
	int fd = make_udp(&here);

	close(make_udp(&there));
	CHECK_EQUAL(connect(fd, (struct sockaddr *)&there, sizeof(there)), 0);
	bench_open(bench);
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &reader, fd, &reader.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	CHECK_EQUAL(send(fd, "x", 1, 0), 1);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, -ECONNREFUSED);
	close(fd);
	bench_close(bench);
}

static void recv_from_a_unix_socket_works(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(write(sockets[1], "first", 5), 5);
	CHECK_EQUAL(write(sockets[1], "second", 6), 6);
	UNTIL(bench, reader.completions == 2);
	CHECK_EQUAL(reader.size, 11);
	CHECK_EQUAL(memcmp(reader.data, "firstsecond", 11), 0);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void recv_message_fills_the_callers_header(struct bench *bench)
{
	struct record reader = { 0 };
	struct sockaddr_in here;
	struct sockaddr_in there;
	struct sockaddr_in from;
	char buffer[3];
	struct iovec iov = { buffer, sizeof(buffer) };
	struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof(from),
	                          .msg_iov = &iov, .msg_iovlen = 1 };
	int receiver = make_udp(&here);
	int fd = make_udp(&there);

	bench_open(bench);
	CHECK_EQUAL(bench->table->recv_message(bench->driver, &reader, receiver, &message, 0,
	                                       &reader.token), -EINPROGRESS);
	bench_turn(bench, 0);
	CHECK_EQUAL(sendto(fd, "abcdef", 6, 0, (struct sockaddr *)&here, sizeof(here)), 6);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, 3);
	CHECK_EQUAL(memcmp(buffer, "abc", 3), 0);
	CHECK(message.msg_flags & MSG_TRUNC);
	CHECK_EQUAL(message.msg_namelen, sizeof(there));
	CHECK_EQUAL(memcmp(&from, &there, sizeof(there)), 0);
	close(fd);
	close(receiver);
	bench_close(bench);
}

/* --- Readiness, time, files ----------------------------------------------- */

static void poll_reports_readiness_once(struct bench *bench)
{
	struct record poller = { 0 };
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	started(&poller, bench->table->poll(bench->driver, &poller, sockets[0], POLLIN,
	                                    &poller.token));
	bench_quiet(bench);
	CHECK_EQUAL(poller.ends, 0);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, poller.ends == 1);
	CHECK(poller.result & POLLIN);
	bench_quiet(bench);
	CHECK_EQUAL(poller.completions, 1);
	CHECK(RESULT_OF(bench, &poller, bench->table->poll(bench->driver, &poller, sockets[0],
	                                                   POLLOUT, &poller.token)) & POLLOUT);
	drain_socket(sockets[0]);
	started(&poller, bench->table->poll(bench->driver, &poller, sockets[0], POLLIN,
	                                    &poller.token));
	bench_turn(bench, 0);
	bench_cancel(bench, &poller);
	CHECK_EQUAL(poller.result, -ECANCELED);
	close_pair(sockets);
	bench_close(bench);
}

static void timeout_ends_in_time_and_not_before(struct bench *bench)
{
	struct record timer = { 0 };
	struct record other = { 0 };
	int64_t start;

	bench_open(bench);
	start = now_ns();
	CHECK_EQUAL(bench->table->timeout(bench->driver, &other, (uint64_t)(100 * SECOND_NS),
	                                  &other.token), -EINPROGRESS);
	CHECK_EQUAL(RESULT_OF(bench, &timer, bench->table->timeout(bench->driver, &timer,
	                                                           20 * MILLISECOND_NS,
	                                                           &timer.token)), -ETIME);
	CHECK(now_ns() - start >= 20 * MILLISECOND_NS);
	CHECK(now_ns() - start < SECOND_NS);
	bench_cancel(bench, &other);
	CHECK_EQUAL(other.result, -ECANCELED);
	bench_close(bench);
}

static void read_and_write_keep_to_their_offsets(struct bench *bench)
{
	struct record file = { 0 };
	char name[] = "/tmp/ul_test_XXXXXX";
	char buffer[16] = "";
	int fd = mkstemp(name);

	unlink(name);
	bench_open(bench);
	CHECK_EQUAL(RESULT_OF(bench, &file, bench->table->write(bench->driver, &file, fd, "abcdef",
	                                                        6, 10, &file.token)), 6);
	CHECK_EQUAL(RESULT_OF(bench, &file, bench->table->write(bench->driver, &file, fd, "0123",
	                                                        4, -1, &file.token)), 4);
	CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4);
	CHECK_EQUAL(RESULT_OF(bench, &file, bench->table->read(bench->driver, &file, fd, buffer,
	                                                       16, 12, &file.token)), 4);
	CHECK_EQUAL(memcmp(buffer, "cdef", 4), 0);
	CHECK_EQUAL(RESULT_OF(bench, &file, bench->table->read(bench->driver, &file, fd, buffer,
	                                                       16, 16, &file.token)), 0);
	close(fd);
	bench_close(bench);
}

static void read_of_an_empty_pipe_waits(struct bench *bench)
{
	struct record reader = { 0 };
	char buffer[8];
	int fds[2];

	bench_open(bench);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(bench->table->read(bench->driver, &reader, fds[0], buffer, 8, -1,
	                               &reader.token), -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(reader.ends, 0);
	CHECK_EQUAL(write(fds[1], "pipe", 4), 4);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, 4);
	CHECK_EQUAL(bench->table->read(bench->driver, &reader, fds[0], buffer, 8, -1,
	                               &reader.token), -EINPROGRESS);
	bench_turn(bench, 0);
	close(fds[1]);
	UNTIL(bench, reader.ends == 2);
	CHECK_EQUAL(reader.result, 0);
	close(fds[0]);
	bench_close(bench);
}

static void write_to_a_full_pipe_waits(struct bench *bench)
{
	static char block[65536];
	struct record writer = { 0 };
	int fds[2];

	bench_open(bench);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	while (write(fds[1], block, sizeof(block)) > 0)
		continue;
	CHECK_EQUAL(bench->table->write(bench->driver, &writer, fds[1], "x", 1, -1,
	                                &writer.token), -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(writer.ends, 0);
	CHECK(read(fds[0], block, sizeof(block)) > 0);
	UNTIL(bench, writer.ends == 1);
	CHECK_EQUAL(writer.result, 1);
	close(fds[0]);
	close(fds[1]);
	bench_close(bench);
}

static void splice_to_a_full_socket_waits_for_room(struct bench *bench)
{
	struct record mover = { 0 };
	int sockets[2];
	int fds[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(write(fds[1], "spliced", 7), 7);
	CHECK_EQUAL(RESULT_OF(bench, &mover,
	                      bench->table->splice(bench->driver, &mover, fds[0], -1, sockets[0],
	                                           -1, 100, 0, &mover.token)), 7);
	fill_socket(sockets[0]);
	CHECK_EQUAL(write(fds[1], "late", 4), 4);
	CHECK_EQUAL(bench->table->splice(bench->driver, &mover, fds[0], -1, sockets[0], -1, 100, 0,
	                                 &mover.token), -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(mover.ends, 1);
	while (mover.ends == 1) {
		drain_socket(sockets[1]);
		bench_turn(bench, MILLISECOND_NS);
	}
	CHECK_EQUAL(mover.result, 4);
	/* And with nothing to move. */
	CHECK_EQUAL(bench->table->splice(bench->driver, &mover, fds[0], -1, sockets[0], -1, 100, 0,
	                                 &mover.token), -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(mover.ends, 2);
	CHECK_EQUAL(write(fds[1], "more", 4), 4);
	UNTIL(bench, mover.ends == 3);
	CHECK_EQUAL(mover.result, 4);
	close(fds[0]);
	close(fds[1]);
	close_pair(sockets);
	bench_close(bench);
}

/* --- Watches -------------------------------------------------------------- */

static void watch_reports_a_level_until_it_is_gone(struct bench *bench)
{
	struct record watcher = { 0 };
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, sockets[0], EPOLLIN,
	                                &watcher.token), 0);
	bench_quiet(bench);
	CHECK_EQUAL(watcher.completions, 0);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, watcher.completions >= 3);
	CHECK(watcher.flags & UL_WATCH);
	CHECK(watcher.result & EPOLLIN);
	drain_socket(sockets[0]);
	bench_quiet(bench);
	watcher.completions = 0;
	bench_quiet(bench);
	CHECK_EQUAL(watcher.completions, 0);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, sockets[0], EPOLLOUT,
	                                &watcher.token), 0);
	UNTIL(bench, watcher.completions >= 1);
	CHECK(watcher.result & EPOLLOUT);
	CHECK_EQUAL(bench->table->watch(bench->driver, NULL, sockets[0], 0, &watcher.token), 0);
	watcher.completions = 0;
	bench_quiet(bench);
	CHECK_EQUAL(watcher.completions, 0);
	close_pair(sockets);
	bench_close(bench);
}

static void watch_of_a_regular_file_is_refused(struct bench *bench)
{
	struct record watcher = { 0 };
	char name[] = "/tmp/ul_test_XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	bench_open(bench);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, fd, EPOLLIN, &watcher.token),
	            -EPERM);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, 9999, EPOLLIN, &watcher.token),
	            -EBADF);
	close(fd);
	bench_close(bench);
}

static void watch_and_recv_live_side_by_side(struct bench *bench)
{
	struct record watcher = { 0 };
	struct record reader = { 0 };
	int watched[2];
	int received[2];

	bench_open(bench);
	make_pair(watched);
	make_tcp_pair(received);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, watched[0], EPOLLIN,
	                                &watcher.token), 0);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, received[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(write(watched[1], "x", 1), 1);
	for (size_t round = 1; round <= 50; round++) {
		CHECK_EQUAL(write(received[1], "y", 1), 1);
		UNTIL(bench, reader.size == round && watcher.completions >= (int)round);
	}
	CHECK_EQUAL(bench->table->close(bench->driver, watched[0]), 0);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(bench->table->close(bench->driver, received[0]), 0);
	close(watched[1]);
	close(received[1]);
	record_free(&reader);
	bench_close(bench);
}

/* --- Turns ---------------------------------------------------------------- */

static void turn_sleeps_as_long_as_asked(struct bench *bench)
{
	int64_t start;

	bench_open(bench);
	for (int round = 0; round < 3; round++) {
		/* One before may end early; sleep again, as a loop does. */
		start = now_ns();
		while (now_ns() < start + 30 * MILLISECOND_NS)
			CHECK_EQUAL(bench_turn(bench, start + 30 * MILLISECOND_NS - now_ns()), 0);
		CHECK(now_ns() - start < SECOND_NS);
	}
	start = now_ns();
	for (int round = 0; round < 1000; round++)
		bench_turn(bench, 0);
	CHECK(now_ns() - start < SECOND_NS);
	bench_close(bench);
}

static void *wake_soon(void *argument)
{
	struct bench *bench = argument;
	struct timespec moment = { 0, 20 * MILLISECOND_NS };

	nanosleep(&moment, NULL);
	bench->table->wake(bench->driver);
	return NULL;
}

static void wake_from_another_thread_ends_the_turn(struct bench *bench)
{
	pthread_t thread;
	int64_t start = now_ns();

	bench_open(bench);
	for (int round = 0; round < 5; round++) {
		CHECK_EQUAL(pthread_create(&thread, NULL, wake_soon, bench), 0);
		bench_turn(bench, UL_FOREVER);
		CHECK_EQUAL(pthread_join(thread, NULL), 0);
		/* One that came too late for its turn ends the next: no more than that. */
		bench_turn(bench, 0);
	}
	bench->table->wake(bench->driver);
	bench_turn(bench, UL_FOREVER);
	CHECK(now_ns() - start < 5 * SECOND_NS);
	bench_close(bench);
}

struct storm {
	struct bench *bench;
	_Atomic long posted;
	_Atomic long seen;
};

static void *post(void *argument)
{
	struct storm *storm = argument;

	for (long index = 1; index <= 5000; index++) {
		storm->posted = index;
		storm->bench->table->wake(storm->bench->driver);
		/* Now and then at once, so that it meets every moment of a turn. */
		while (storm->seen < index - index % 3)
			continue;
		for (volatile int spin = 0; spin < index * 7 % 2000; spin++)
			continue;
	}
	return NULL;
}

static void wake_is_never_lost(struct bench *bench)
{
	struct storm storm = { .bench = bench };
	pthread_t thread;

	bench_open(bench);
	CHECK_EQUAL(pthread_create(&thread, NULL, post, &storm), 0);
	/* A lost wake-up would sleep for ever. */
	while (storm.seen < 5000) {
		if (storm.posted == storm.seen)
			bench_turn(bench, UL_FOREVER);
		storm.seen = storm.posted;
	}
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	bench_close(bench);
}

/* --- Threads, processes, the end ------------------------------------------ */

struct journey {
	struct bench *bench;
	struct record *reader;
	struct record *timer;
	int peer;
};

static void *travel(void *argument)
{
	struct journey *journey = argument;
	struct bench *bench = journey->bench;
	size_t before = journey->reader->size;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(journey->peer, "there", 5), 5);
	UNTIL(bench, journey->reader->size >= before + 5);
	bench->table->end(bench->driver);
	return NULL;
}

static void begin_in_another_thread_carries_everything_over(struct bench *bench)
{
	struct record reader = { 0 };
	struct record timer = { 0 };
	struct record watcher = { 0 };
	struct record sender = { 0 };
	struct iovec iov = { "blocked", 7 };
	struct journey journey = { bench, &reader, &timer, -1 };
	int sockets[2];
	int watched[2];
	int blocked[2];
	pthread_t thread;

	bench_open(bench);
	make_tcp_pair(sockets);
	make_pair(watched);
	make_pair(blocked);
	fill_socket(blocked[0]);
	journey.peer = sockets[1];
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 150 * MILLISECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, watched[0], EPOLLIN,
	                                &watcher.token), 0);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, blocked[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	CHECK_EQUAL(write(sockets[1], "here", 4), 4);
	UNTIL(bench, reader.size == 4);
	/* Completed, but not harvested when the thread changes. */
	CHECK_EQUAL(write(sockets[1], "lost?", 5), 5);
	CHECK_EQUAL(bench->table->turn(bench->driver, 0), 0);
	bench->table->end(bench->driver);
	CHECK_EQUAL(pthread_create(&thread, NULL, travel, &journey), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	UNTIL(bench, reader.size >= 14);
	CHECK_EQUAL(memcmp(reader.data, "herelost?there", 14), 0);
	CHECK_EQUAL(write(watched[1], "w", 1), 1);
	UNTIL(bench, timer.ends == 1 && watcher.completions > 0);
	CHECK_EQUAL(timer.result, -ETIME);
	CHECK_EQUAL(sender.ends, 0);
	drain_socket(blocked[1]);
	UNTIL(bench, sender.ends == 1);
	CHECK_EQUAL(sender.result, 7);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	close_pair(watched);
	close_pair(blocked);
	record_free(&reader);
	bench_close(bench);
}

static void child_after_fork(struct bench *bench, struct record *reader, struct record *timer,
                             int sockets[2])
{
	struct record other = { 0 };
	struct record echo = { 0 };
	struct iovec iov = { "child", 5 };
	int own[2];

	/* Verbs before the driver has been made anew. */
	make_pair(own);
	CHECK_EQUAL(bench->table->recv(bench->driver, &other, own[0], &other.token), -EINPROGRESS);
	started(&echo, bench->table->send(bench->driver, &echo, own[1], &iov, 1, &echo.token));
	bench_cancel(bench, reader);
	bench->table->wake(bench->driver);
	UNTIL(bench, other.size == 5 && echo.ends == 1 && timer->ends == 1);
	CHECK_EQUAL(reader->result, -ECANCELED);
	CHECK_EQUAL(timer->result, -ETIME);
	CHECK_EQUAL(bench->table->recv(bench->driver, reader, sockets[0], &reader->token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	bench->table->destroy(bench->driver);
}

static void fork_leaves_two_drivers_that_work(struct bench *bench)
{
	struct record reader = { 0 };
	struct record timer = { 0 };
	int sockets[2];
	int status;
	pid_t child;

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 30 * MILLISECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	CHECK_EQUAL(write(sockets[1], "before", 6), 6);
	UNTIL(bench, reader.size == 6);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		child_after_fork(bench, &reader, &timer, sockets);
		record_free(&reader);
		exit(0);
	}
	/* The parent goes on meanwhile. */
	UNTIL(bench, timer.ends == 1);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(write(sockets[1], "after", 5), 5);
	UNTIL(bench, reader.size == 11);
	CHECK_EQUAL(memcmp(reader.data, "beforeafter", 11), 0);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void fork_of_an_unused_child_lets_the_peer_see_the_end(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];
	int gate[2];
	int status;
	char byte;
	pid_t child;

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(pipe2(gate, O_CLOEXEC), 0);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(gate[1]);
		close_pair(sockets);
		CHECK_EQUAL(read(gate[0], &byte, 1), 0);
		_exit(0);
	}
	/* The child lives on, and closes nothing of the ring's by itself. */
	bench_close(bench);
	close(sockets[0]);
	CHECK_EQUAL(fcntl(sockets[1], F_SETFL, 0), 0);
	CHECK_EQUAL(read(sockets[1], &byte, 1), 0);
	close(sockets[1]);
	close(gate[1]);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	close(gate[0]);
}

static void shutdown_ends_every_operation_once(struct bench *bench)
{
	struct record records[8] = { 0 };
	const struct ul_table *table;
	struct sockaddr_in address;
	struct sockaddr_in here;
	struct iovec iov = { "x", 1 };
	char buffer[8];
	int listener = make_listener(&address);
	int udp = make_udp(&here);
	int64_t start;
	int sockets[2];
	int blocked[2];
	int fds[2];
	char byte;

	bench_open(bench);
	table = bench->table;
	make_tcp_pair(sockets);
	make_pair(blocked);
	fill_socket(blocked[0]);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(table->recv(bench->driver, &records[0], sockets[0], &records[0].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->accept(bench->driver, &records[1], listener, &records[1].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->recv_from(bench->driver, &records[2], udp, &records[2].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->send(bench->driver, &records[3], blocked[0], &iov, 1, &records[3].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->timeout(bench->driver, &records[4], 60 * SECOND_NS, &records[4].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->read(bench->driver, &records[5], fds[0], buffer, 8, -1,
	                        &records[5].token), -EINPROGRESS);
	CHECK_EQUAL(table->poll(bench->driver, &records[6], sockets[1], POLLIN, &records[6].token),
	            -EINPROGRESS);
	bench_quiet(bench);
	/* One more that is never submitted. */
	CHECK_EQUAL(table->recv_into(bench->driver, &records[7], sockets[1], buffer, 8, 0,
	                             &records[7].token), -EINPROGRESS);
	start = now_ns();
	table->shutdown(bench->driver);
	CHECK(now_ns() - start < SECOND_NS);
	bench_harvest(bench);
	for (int index = 0; index < 8; index++) {
		CHECK_EQUAL(records[index].ends, 1);
		CHECK_EQUAL(records[index].result, -ECANCELED);
		CHECK((records[index].flags & UL_KEEP) == 0);
	}
	CHECK_EQUAL(table->statistics(bench->driver)->in_flight, 0);
	close(sockets[0]);
	CHECK_EQUAL(fcntl(sockets[1], F_SETFL, 0), 0);
	CHECK_EQUAL(read(sockets[1], &byte, 1), 0);
	table->destroy(bench->driver);
	close(sockets[1]);
	close_pair(blocked);
	close(fds[0]);
	close(fds[1]);
	close(udp);
	close(listener);
}

static void shutdown_of_an_unused_driver_is_quiet(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	CHECK_EQUAL(bench_make(bench), 0);
	make_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	bench->table->shutdown(bench->driver);
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	CHECK_EQUAL(reader.ends, 1);
	bench->table->destroy(bench->driver);
	close_pair(sockets);
	CHECK_EQUAL(bench_make(bench), 0);
	bench->table->destroy(bench->driver);
}

static void token_of_an_ended_operation_names_nothing(struct bench *bench)
{
	struct record poller = { 0 };
	ul_token old;
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	CHECK_EQUAL(bench->table->cancel(bench->driver, 0), -ENOENT);
	CHECK_EQUAL(bench->table->cancel(bench->driver, UINT64_MAX), -ENOENT);
	for (int round = 0; round < 20; round++) {
		started(&poller, bench->table->poll(bench->driver, &poller, sockets[0], POLLIN,
		                                    &poller.token));
		old = poller.token;
		bench_cancel(bench, &poller);
		started(&poller, bench->table->poll(bench->driver, &poller, sockets[0], POLLIN,
		                                    &poller.token));
		CHECK(old != poller.token);
		CHECK_EQUAL(bench->table->cancel(bench->driver, old), -ENOENT);
		bench_turn(bench, 0);
		bench_cancel(bench, &poller);
	}
	close_pair(sockets);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(echo_over_socketpair_returns_the_bytes),
		TEST(echo_over_tcp_returns_the_bytes),
		TEST(recv_of_bulk_keeps_every_byte_in_order),
		TEST(recv_with_tiny_pools_keeps_every_byte_in_order),
		TEST(recv_of_many_with_few_buffers_starves_nobody),
		TEST(recv_at_the_end_of_file_ends_once),
		TEST(recv_after_a_reset_ends_with_the_error),
		TEST(recv_cancelled_while_idle_ends_with_canceled),
		TEST(recv_cancelled_and_started_again_loses_nothing),
		TEST(recv_into_fills_the_callers_buffer),
		TEST(send_of_many_pieces_arrives_as_one_stream),
		TEST(send_to_a_full_socket_waits_for_room),
		TEST(send_cancelled_while_blocked_sends_nothing),
		TEST(send_to_a_closed_peer_fails_without_a_signal),
		TEST(accept_gives_each_connection_once),
		TEST(accept_without_descriptors_ends_with_emfile),
		TEST(connect_to_nobody_is_refused),
		TEST(connect_to_a_unix_listener_succeeds),
		TEST(recv_from_gives_each_datagram_with_its_sender),
		TEST(recv_from_a_vanished_peer_ends_with_refused),
		TEST(recv_from_a_unix_socket_works),
		TEST(recv_message_fills_the_callers_header),
		TEST(poll_reports_readiness_once),
		TEST(timeout_ends_in_time_and_not_before),
		TEST(read_and_write_keep_to_their_offsets),
		TEST(read_of_an_empty_pipe_waits),
		TEST(write_to_a_full_pipe_waits),
		TEST(splice_to_a_full_socket_waits_for_room),
		TEST(watch_reports_a_level_until_it_is_gone),
		TEST(watch_of_a_regular_file_is_refused),
		TEST(watch_and_recv_live_side_by_side),
		TEST(turn_sleeps_as_long_as_asked),
		TEST(wake_from_another_thread_ends_the_turn),
		TEST(wake_is_never_lost),
		TEST(begin_in_another_thread_carries_everything_over),
		TEST(fork_leaves_two_drivers_that_work),
		TEST(fork_of_an_unused_child_lets_the_peer_see_the_end),
		TEST(shutdown_ends_every_operation_once),
		TEST(shutdown_of_an_unused_driver_is_quiet),
		TEST(token_of_an_ended_operation_names_nothing),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
