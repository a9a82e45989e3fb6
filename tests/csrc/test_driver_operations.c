/*
 * What both drivers promise, through the table alone: connections, datagrams,
 * readiness, time and files.
 *
 *     test_driver_operations uring|selector [disabled features [one test]]
 */
#include <poll.h>
#include <sys/resource.h>

#include "driver_fixture.h"

/* --- Connections ---------------------------------------------------------- */

static void accept_gives_each_connection_once(struct bench *bench, bool shared)
{
	struct record server = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int clients[30];

	bench_open(bench);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, shared, &server.token),
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

static void own_accept_gives_each_connection_once(struct bench *bench)
{
	accept_gives_each_connection_once(bench, false);
}

static void shared_accept_gives_each_connection_once(struct bench *bench)
{
	accept_gives_each_connection_once(bench, true);
}

static void accept_without_descriptors_ends_with_emfile(struct bench *bench, bool shared)
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
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, shared, &server.token),
	            -EINPROGRESS);
	CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	UNTIL(bench, server.ends == 1);
	CHECK_EQUAL(server.result, -EMFILE);
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, shared, &server.token),
	            -EINPROGRESS);
	UNTIL(bench, server.completions == 2);
	CHECK(server.result >= 0);
	close(server.result);
	bench_cancel(bench, &server);
	close(client);
	close(listener);
	bench_close(bench);
}

static void own_accept_without_descriptors_ends_with_emfile(struct bench *bench)
{
	accept_without_descriptors_ends_with_emfile(bench, false);
}

static void shared_accept_without_descriptors_ends_with_emfile(struct bench *bench)
{
	accept_without_descriptors_ends_with_emfile(bench, true);
}

static int connected_to(const struct sockaddr_in *address)
{
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_EQUAL(connect(client, (const struct sockaddr *)address, sizeof(*address)), 0);
	return client;
}

static void shared_accept_leaves_connections_to_the_other_while_not_driven(struct bench *bench)
{
	struct bench other = { .kind = bench->kind, .options = bench->options };
	struct record busy = { 0 };
	struct record idle = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int clients[4];

	bench_open(bench);
	bench_open(&other);
	CHECK_EQUAL(bench->table->accept(bench->driver, &busy, listener, true, &busy.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(other.table->accept(other.driver, &idle, listener, true, &idle.token),
	            -EINPROGRESS);
	bench_quiet(&other);
	clients[0] = connected_to(&address);
	UNTIL(bench, busy.completions == 1);
	bench_quiet(&other);
	CHECK_EQUAL(idle.completions, 0);
	for (int index = 1; index < 4; index++) {
		clients[index] = connected_to(&address);
		UNTIL(&other, idle.completions == index);
	}
	bench_quiet(bench);
	CHECK_EQUAL(busy.completions, 1);
	/* And the other way round, after it was in vain. */
	close(clients[0]);
	clients[0] = connected_to(&address);
	UNTIL(bench, busy.completions == 2);
	close(busy.results[0]);
	close(busy.results[1]);
	for (int index = 0; index < 3; index++)
		close(idle.results[index]);
	for (int index = 0; index < 4; index++)
		close(clients[index]);
	bench_cancel(bench, &busy);
	bench_cancel(&other, &idle);
	close(listener);
	bench_close(&other);
	bench_close(bench);
}

/* More than one turn's share, in portions smaller than that. */
static void shared_accept_of_a_burst_goes_on_in_the_next_turn(struct bench *bench)
{
	struct record server = { 0 };
	struct ul_completion out[7];
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int clients[100];
	int turns = 0;
	int total = 0;
	int count;

	bench_open(bench);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, true, &server.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	for (int index = 0; index < 100; index++)
		clients[index] = connected_to(&address);
	while (total < 100) {
		CHECK(turns++ < 10);
		CHECK_EQUAL(bench->table->turn(bench->driver, PATIENCE_NS), 0);
		while ((count = bench->table->harvest(bench->driver, out, 7)) > 0) {
			for (int index = 0; index < count; index++) {
				CHECK_EQUAL(out[index].flags, UL_MORE);
				CHECK(out[index].owner == &server && out[index].result >= 0);
				close(out[index].result);
				close(clients[total++]);
			}
		}
	}
	CHECK(turns > 1);
	bench_cancel(bench, &server);
	close(listener);
	bench_close(bench);
}

static void shared_accept_cancelled_at_any_moment_takes_nothing(struct bench *bench)
{
	struct record server = { 0 };
	struct ul_completion out[2];
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int clients[5];
	int accepted = 0;
	int fd;

	bench_open(bench);
	for (int index = 0; index < 5; index++)
		clients[index] = connected_to(&address);
	/* Never submitted. */
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, true, &server.token),
	            -EINPROGRESS);
	bench_cancel(bench, &server);
	CHECK_EQUAL(server.completions, 0);
	/* Readable, and not harvested. */
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, true, &server.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->turn(bench->driver, PATIENCE_NS), 0);
	bench_cancel(bench, &server);
	CHECK_EQUAL(server.result, -ECANCELED);
	/* Harvested in part: what was given is given, and the rest is for others. */
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, true, &server.token),
	            -EINPROGRESS);
	while (accepted == 0) {
		CHECK_EQUAL(bench->table->turn(bench->driver, PATIENCE_NS), 0);
		accepted = bench->table->harvest(bench->driver, out, 2);
	}
	CHECK_EQUAL(accepted, 2);
	CHECK(out[0].result >= 0 && out[1].result >= 0);
	close(out[0].result);
	close(out[1].result);
	bench_cancel(bench, &server);
	CHECK_EQUAL(server.result, -ECANCELED);
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		accepted++;
		close(fd);
	}
	CHECK_EQUAL(accepted, 5);
	for (int index = 0; index < 5; index++)
		close(clients[index]);
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

static void recv_from_gives_each_datagram_with_its_sender(struct bench *bench)
{
	static unsigned char large[60000];
	struct record reader = { 0 };
	struct sockaddr_in here;
	struct sockaddr_in there;
	int receiver = make_udp(&here);
	int fd = make_udp(&there);

	memset(large, 'L', sizeof(large));
	bench_open(bench);
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &reader, receiver, &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(sendto(fd, "ping", 4, 0, (struct sockaddr *)&here, sizeof(here)), 4);
	UNTIL(bench, reader.completions == 1);
	CHECK_EQUAL(reader.size, 4);
	CHECK_EQUAL(memcmp(reader.data, "ping", 4), 0);
	CHECK_EQUAL(reader.address_size, sizeof(there));
	CHECK_EQUAL(memcmp(&reader.address, &there, sizeof(there)), 0);
	/* An empty one is one. */
	CHECK_EQUAL(sendto(fd, "", 0, 0, (struct sockaddr *)&here, sizeof(here)), 0);
	UNTIL(bench, reader.completions == 2);
	CHECK_EQUAL(reader.result, 0);
	CHECK(reader.flags & UL_MORE);
	CHECK_EQUAL(sendto(fd, large, sizeof(large), 0, (struct sockaddr *)&here, sizeof(here)),
	            sizeof(large));
	UNTIL(bench, reader.completions == 3);
	CHECK_EQUAL(reader.result, sizeof(large));
	for (int index = 0; index < 200; index++) {
		CHECK_EQUAL(sendto(fd, "x", 1, 0, (struct sockaddr *)&here, sizeof(here)), 1);
		if (index % 20 == 19)
			UNTIL(bench, reader.completions == 4 + index);
	}
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

static void level_poll_reports_in_each_turn_while_it_holds(struct bench *bench)
{
	struct record poller = { 0 };
	int sockets[2];
	int reported;

	bench_open(bench);
	make_pair(sockets);
	CHECK_EQUAL(bench->table->poll(bench->driver, &poller, sockets[0],
	                               POLLIN | UL_POLL_LEVEL, &poller.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(poller.completions, 0);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, poller.completions == 3);
	CHECK_EQUAL(poller.result, POLLIN);
	CHECK_EQUAL(poller.ends, 0);
	drain_socket(sockets[0]);
	bench_turn(bench, 0);
	reported = poller.completions;
	bench_quiet(bench);
	CHECK_EQUAL(poller.completions, reported);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, poller.completions > reported);
	/* Also one that was answered, and whose next entry is only queued. */
	bench_cancel(bench, &poller);
	CHECK_EQUAL(poller.result, -ECANCELED);
	CHECK_EQUAL(poller.ends, 1);
	close_pair(sockets);
	bench_close(bench);
}

static void polls_of_one_descriptor_report_each_its_own_events(struct bench *bench)
{
	struct record level = { 0 };
	struct record room = { 0 };
	struct record once = { 0 };
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	CHECK_EQUAL(bench->table->poll(bench->driver, &level, sockets[0],
	                               POLLIN | UL_POLL_LEVEL, &level.token),
	            -EINPROGRESS);
	started(&once, bench->table->poll(bench->driver, &once, sockets[0], POLLIN, &once.token));
	CHECK_EQUAL(bench->table->poll(bench->driver, &room, sockets[0],
	                               POLLOUT | UL_POLL_LEVEL, &room.token),
	            -EINPROGRESS);
	UNTIL(bench, room.completions == 2);
	CHECK_EQUAL(level.completions + once.completions, 0);
	bench_cancel(bench, &room);
	bench_quiet(bench);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, once.ends == 1 && level.completions == 2);
	CHECK_EQUAL(once.completions, 1);
	CHECK_EQUAL(room.ends, 1);
	bench_cancel(bench, &level);
	bench_quiet(bench);
	close_pair(sockets);
	bench_close(bench);
}

static void poll_reports_no_readiness_that_was_not_asked_for(struct bench *bench)
{
	static char filling[4096], drained[65536];
	struct record poller = { 0 };
	int ends[2];

	bench_open(bench);
	CHECK_EQUAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	while (write(ends[1], filling, sizeof(filling)) > 0)
		;
	started(&poller, bench->table->poll(bench->driver, &poller, ends[1], POLLOUT,
	                                    &poller.token));
	bench_quiet(bench);
	CHECK_EQUAL(poller.ends, 0);
	while (read(ends[0], drained, sizeof(drained)) > 0)
		;
	UNTIL(bench, poller.ends == 1);
	CHECK_EQUAL(poller.result, POLLOUT);
	close(ends[0]);
	close(ends[1]);
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
	CHECK_EQUAL(RESULT_OF(bench, &file, submit_transfer(bench, &file, IORING_OP_WRITE, fd,
	                                                    "abcdef", 6, 10)), 6);
	CHECK_EQUAL(RESULT_OF(bench, &file, submit_transfer(bench, &file, IORING_OP_WRITE, fd,
	                                                    "0123", 4, -1)), 4);
	CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 4);
	CHECK_EQUAL(RESULT_OF(bench, &file, submit_transfer(bench, &file, IORING_OP_READ, fd,
	                                                    buffer, 16, 12)), 4);
	CHECK_EQUAL(memcmp(buffer, "cdef", 4), 0);
	CHECK_EQUAL(RESULT_OF(bench, &file, submit_transfer(bench, &file, IORING_OP_READ, fd,
	                                                    buffer, 16, 16)), 0);
	close(fd);
	bench_close(bench);
}

static void splice_to_a_full_socket_waits_for_room_where_there_is_splice(struct bench *bench)
{
	struct record mover = { 0 };
	int sockets[2];
	int fds[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(write(fds[1], "spliced", 7), 7);
	if (!is_ring(bench)) {
		CHECK_EQUAL(bench->table->splice(bench->driver, &mover, fds[0], -1, sockets[0], -1,
		                                 100, 0, &mover.token), -EOPNOTSUPP);
		CHECK_EQUAL(mover.token, 0);
		goto close;
	}
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
close:
	close(fds[0]);
	close(fds[1]);
	close_pair(sockets);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(own_accept_gives_each_connection_once),
		TEST(shared_accept_gives_each_connection_once),
		TEST(own_accept_without_descriptors_ends_with_emfile),
		TEST(shared_accept_without_descriptors_ends_with_emfile),
		TEST(shared_accept_leaves_connections_to_the_other_while_not_driven),
		TEST(shared_accept_of_a_burst_goes_on_in_the_next_turn),
		TEST(shared_accept_cancelled_at_any_moment_takes_nothing),
		TEST(connect_to_nobody_is_refused),
		TEST(connect_to_a_unix_listener_succeeds),
		TEST(recv_from_gives_each_datagram_with_its_sender),
		TEST(recv_from_a_vanished_peer_ends_with_refused),
		TEST(recv_from_a_unix_socket_works),
		TEST(poll_reports_readiness_once),
		TEST(level_poll_reports_in_each_turn_while_it_holds),
		TEST(polls_of_one_descriptor_report_each_its_own_events),
		TEST(poll_reports_no_readiness_that_was_not_asked_for),
		TEST(timeout_ends_in_time_and_not_before),
		TEST(read_and_write_keep_to_their_offsets),
		TEST(splice_to_a_full_socket_waits_for_room_where_there_is_splice),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
