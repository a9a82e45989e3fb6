/*
 * What the driver itself ends when a ring is left, for another thread's or after a run,
 * and what must not be noticed of it.
 *
 *     test_uring_leave uring [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>

#include "driver_fixture.h"
#include "ring/uring.h"

/* More than the driver takes for a failure that lasts. */
#define CHANGES 20

static void *drive(void *argument)
{
	struct bench *bench = argument;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_turn(bench, 0);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	return NULL;
}

static void drive_elsewhere(struct bench *bench)
{
	pthread_t thread;

	CHECK_EQUAL(pthread_create(&thread, NULL, drive, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

static void what_waits_for_long_outlives_any_number_of_threads(struct bench *bench)
{
	struct record reader = { 0 }, level = { 0 }, shared = { 0 }, own = { 0 }, timer = { 0 };
	struct record *all[] = { &reader, &level, &shared, &own, &timer };
	struct sockaddr_in address, other;
	int listeners[2] = { make_listener(&address), make_listener(&other) };
	int client;
	int pair[2];

	bench_open(bench);
	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, pair[0], UL_STREAM_TCP,
	                               &reader.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->poll(bench->driver, &level, pair[1], POLLIN | UL_POLL_LEVEL,
	                               &level.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->accept(bench->driver, &shared, listeners[0], true,
	                                 &shared.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->accept(bench->driver, &own, listeners[1], false, &own.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 600 * (uint64_t)SECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	for (int change = 0; change < CHANGES; change++)
		drive_elsewhere(bench);
	/* An accept is cancelled at the end of each run, in whatever thread. */
	for (int run = 0; run < CHANGES; run++)
		drive(bench);
	for (int index = 0; index < 5; index++)
		CHECK_EQUAL(all[index]->ends, 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	UNTIL(bench, reader.size == 3);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQUAL(connect(client, (struct sockaddr *)&other, sizeof(other)), 0);
	UNTIL(bench, own.completions == 1);
	CHECK(own.result >= 0);
	close(own.result);
	close(client);
	for (int index = 0; index < 5; index++)
		bench_cancel(bench, all[index]);
	close_pair(pair);
	close_pair(listeners);
	record_free(&reader);
	bench_close(bench);
}

static void timeout_passes_however_often_the_thread_changes(struct bench *bench)
{
	struct record timer = { 0 }, endless = { 0 };
	int64_t deadline = now_ns() + PATIENCE_NS;

	bench_open(bench);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 200 * MILLISECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &endless, UINT64_MAX, &endless.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	while (timer.ends == 0) {
		CHECK(now_ns() < deadline);
		drive_elsewhere(bench);
	}
	CHECK_EQUAL(timer.result, -ETIME);
	CHECK_EQUAL(endless.ends, 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_cancel(bench, &endless);
	bench_close(bench);
}

/* Without EXT_ARG the end of a wait is an entry of its own, which outlives its turn. */
static void turn_ends_in_time_although_an_earlier_ones_timeout_passed_between_runs(
	struct bench *bench)
{
	struct record acceptor = { 0 }, timer = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);

	bench_open(bench);
	CHECK_EQUAL(bench->table->accept(bench->driver, &acceptor, listener, false,
	                                 &acceptor.token), -EINPROGRESS);
	/* A turn of 50 ms ends early; its timeout stays armed, and passes. */
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 1000000, &timer.token),
	            -EINPROGRESS);
	UNTIL(bench, timer.ends == 1);
	usleep(60000);
	bench->table->end(bench->driver);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_turn(bench, 0);
	bench_turn(bench, 0);
	/* A turn that sleeps for ever is killed. */
	alarm(PATIENCE_NS / SECOND_NS);
	for (int turn = 0; turn < 3; turn++)
		bench_turn(bench, 10 * MILLISECOND_NS);
	alarm(0);
	bench_cancel(bench, &acceptor);
	close(listener);
	bench_close(bench);
}

static void read_under_way_is_not_repeated_into_memory_that_may_still_be_filled(
	struct bench *bench)
{
	struct record reader = { 0 };
	char byte = 0;
	int fds[2];

	bench_open(bench);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQUAL(submit_transfer(bench, &reader, IORING_OP_READ, fds[0], &byte, 1, -1),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	drive_elsewhere(bench);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(fds[1], "x", 1), 1);
	UNTIL(bench, reader.ends == 1);
	if (reader.result == -ECANCELED || reader.result == -ENOTBLK)
		CHECK_EQUAL((reader.flags & UL_KEEP) != 0, has(bench, UL_FEATURE_SINGLE_ISSUER));
	else
		CHECK_EQUAL(byte, 'x');
	close_pair(fds);
	bench_close(bench);
}

static void splice_that_waits_for_bytes_waits_in_the_next_threads_ring(struct bench *bench)
{
	struct record splicer = { 0 };
	const struct uring_slot *slot;
	int in[2], out[2];
	char buffer[8];

	bench_open(bench);
	CHECK_EQUAL(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQUAL(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	CHECK_EQUAL(bench->table->splice(bench->driver, &splicer, in[0], -1, out[1], -1, 8,
	                                 SPLICE_F_NONBLOCK, &splicer.token), -EINPROGRESS);
	/* The answer is that there is nothing yet, and the poll for it is not submitted. */
	slot = uring_slot_find(uring_of(bench->driver), splicer.token);
	UNTIL(bench, slot->phase == PHASE_POLLING);
	CHECK(uring_unsubmitted(uring_of(bench->driver), slot));
	/* Without an end of the run, which would submit it. */
	drive_elsewhere(bench);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(splicer.completions, 0);
	CHECK_EQUAL(write(in[1], "abc", 3), 3);
	UNTIL(bench, splicer.ends == 1);
	CHECK_EQUAL(splicer.result, 3);
	CHECK_EQUAL(read(out[0], buffer, 8), 3);
	close_pair(in);
	close_pair(out);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(what_waits_for_long_outlives_any_number_of_threads),
		TEST(timeout_passes_however_often_the_thread_changes),
		TEST(turn_ends_in_time_although_an_earlier_ones_timeout_passed_between_runs),
		TEST(splice_that_waits_for_bytes_waits_in_the_next_threads_ring),
		TEST(read_under_way_is_not_repeated_into_memory_that_may_still_be_filled),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
