/*
 * What both drivers promise, through the table alone: watches, turns, wake-ups,
 * threads, forks and the end.
 *
 *     test_driver_life uring|selector [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "driver_fixture.h"
#include "statistics.h"

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

/* epoll still knows the file, which a duplicate holds open, and no watch is told of it. */
static void watch_of_a_number_closed_by_somebody_else_does_not_keep_the_loop_awake(
	struct bench *bench)
{
	struct record watcher = { 0 };
	int64_t deadline = now_ns() + PATIENCE_NS;
	int64_t start;
	int duplicate;
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	duplicate = dup(sockets[0]);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, sockets[0], EPOLLIN,
	                                &watcher.token), 0);
	bench_quiet(bench);
	close(sockets[0]);
	CHECK_EQUAL(bench->table->watch(bench->driver, NULL, sockets[0], 0, &watcher.token), 0);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	do {
		start = now_ns();
		CHECK(start < deadline);
		bench_turn(bench, 10 * MILLISECOND_NS);
	} while (now_ns() - start < 10 * MILLISECOND_NS);
	CHECK_EQUAL(watcher.completions, 0);
	close(sockets[1]);
	close(duplicate);
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, received[0], 0, &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &other, own[0], 0, &other.token),
	            -EINPROGRESS);
	started(&echo, bench->table->send(bench->driver, &echo, own[1], &iov, 1, &echo.token));
	bench_cancel(bench, reader);
	bench->table->wake(bench->driver);
	UNTIL(bench, other.size == 5 && echo.ends == 1 && timer->ends == 1);
	CHECK_EQUAL(reader->result, -ECANCELED);
	CHECK_EQUAL(timer->result, -ETIME);
	CHECK_EQUAL(bench->table->recv(bench->driver, reader, sockets[0], 0, &reader->token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	bench->table->destroy(bench->driver);
	record_free(&other);
}

static void fork_leaves_two_drivers_that_work(struct bench *bench)
{
	struct record reader = { 0 };
	struct record timer = { 0 };
	int sockets[2];
	int status;
	pid_t child;

	if (!bench_can_fork(bench))
		return;
	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQUAL(table->recv(bench->driver, &records[0], sockets[0], 0, &records[0].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->accept(bench->driver, &records[1], listener, false, &records[1].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->recv_from(bench->driver, &records[2], udp, &records[2].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->send(bench->driver, &records[3], blocked[0], &iov, 1, &records[3].token),
	            -EINPROGRESS);
	CHECK_EQUAL(table->timeout(bench->driver, &records[4], 60 * SECOND_NS, &records[4].token),
	            -EINPROGRESS);
	/* A thread of the selector's would not wait for a pipe. */
	if (is_ring(bench))
		CHECK_EQUAL(submit_transfer(bench, &records[5], IORING_OP_READ, fds[0], buffer, 8,
		                            -1), -EINPROGRESS);
	else
		CHECK_EQUAL(table->poll(bench->driver, &records[5], fds[0], POLLIN,
		                        &records[5].token), -EINPROGRESS);
	CHECK_EQUAL(table->poll(bench->driver, &records[6], sockets[1], POLLIN, &records[6].token),
	            -EINPROGRESS);
	bench_quiet(bench);
	/* One more that is never submitted. */
	CHECK_EQUAL(table->recv(bench->driver, &records[7], sockets[1], 0, &records[7].token),
	            -EINPROGRESS);
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
		CHECK(bench->table->released(bench->driver, old));
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

static void statistics_count_what_was_done(struct bench *bench)
{
	const struct ul_statistics *statistics;
	struct record poller = { 0 };
	struct record timer = { 0 };
	uint64_t turns = 0;
	uint64_t waits;
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	bench_quiet(bench);
	statistics = bench->table->statistics(bench->driver);
	CHECK_EQUAL(statistics->submissions[IORING_OP_CONNECT], 0);
	waits = statistics->waits;
	CHECK_EQUAL(bench_turn(bench, 0), 0);
	CHECK_EQUAL(statistics->waits, waits);
	for (int round = 1; round <= 20; round++) {
		started(&poller, bench->table->poll(bench->driver, &poller, sockets[0], POLLIN,
		                                    &poller.token));
		bench_turn(bench, 0);
		bench_cancel(bench, &poller);
		CHECK(statistics->submissions[IORING_OP_POLL_ADD] >= (uint64_t)round);
	}
	started(&timer, bench->table->timeout(bench->driver, &timer, 2 * MILLISECOND_NS,
	                                      &timer.token));
	UNTIL(bench, timer.ends == 1);
	CHECK(statistics->submissions[IORING_OP_TIMEOUT] >= 1);
	CHECK(statistics->waits > waits);
	CHECK(statistics->waits <= statistics->enters);
	/* A batch counts when the next turn begins. */
	bench_turn(bench, 0);
	for (int index = 0; index < UL_BATCHES; index++)
		turns += statistics->batches[index];
	CHECK_EQUAL(turns, statistics->turns);
	CHECK(statistics->batches[0] > 0);
	CHECK(statistics->batches[1] > 0);
	CHECK_EQUAL(statistics->batches[UL_BATCHES - 1], 0);
	close_pair(sockets);
	bench_close(bench);
}

static void batches_are_counted_by_powers_of_two(struct bench *bench)
{
	static const struct {
		uint64_t completed;
		int index;
	} cases[] = { { 0, 0 }, { 1, 1 }, { 2, 2 }, { 3, 2 }, { 4, 3 }, { 4095, 12 },
	              { 4096, 13 }, { 100000, 13 } };
	size_t number;

	(void)bench;
	for (number = 0; number < sizeof(cases) / sizeof(cases[0]); number++) {
		struct ul_statistics statistics = { .completed = 7 + cases[number].completed };
		uint64_t before = 7;

		statistics_turn(&statistics, &before);
		CHECK_EQUAL(statistics.batches[cases[number].index], 1);
		CHECK_EQUAL(before, statistics.completed);
		CHECK_EQUAL(statistics.turns, 1);
	}
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(watch_reports_a_level_until_it_is_gone),
		TEST(watch_of_a_regular_file_is_refused),
		TEST(watch_of_a_number_closed_by_somebody_else_does_not_keep_the_loop_awake),
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
		TEST(statistics_count_what_was_done),
		TEST(batches_are_counted_by_powers_of_two),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
