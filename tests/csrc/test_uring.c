/*
 * What only the ring can get wrong: its queues.
 *
 *     test_uring uring [disabled features [one test]]
 */
#include <poll.h>

#include "driver_fixture.h"
#include "ring/queue.h"

static void cancel_before_submission_ends_without_a_word(struct bench *bench)
{
	struct record sender = { 0 };
	struct iovec iov = { "never", 5 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->submissions[IORING_OP_SEND], 1);
	CHECK_EQUAL(bench->table->cancel(bench->driver, sender.token), 0);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->submissions[IORING_OP_SEND], 0);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->submissions[IORING_OP_NOP], 1);
	/* The descriptor is free to be closed at once. */
	CHECK_EQUAL(bench->table->close(bench->driver, sockets[0]), 0);
	bench_quiet(bench);
	CHECK_EQUAL(sender.completions, 0);
	CHECK_EQUAL(drain_socket(sockets[1]), 0);
	close(sockets[1]);
	bench_close(bench);
}

#define PAIRS 60

static void tiny_submission_queue_takes_everything_in_order(struct bench *bench)
{
	struct record readers[PAIRS] = { 0 };
	struct record senders[PAIRS] = { 0 };
	struct record cancelled = { 0 };
	int sockets[PAIRS][2];
	char letters[PAIRS];

	bench->options.sq_entries = 4;
	bench_open(bench);
	for (int index = 0; index < PAIRS; index++)
		make_tcp_pair(sockets[index]);
	for (int round = 1; round <= 3; round++) {
		for (int index = 0; index < PAIRS; index++) {
			struct iovec iov = { &letters[index], 1 };

			letters[index] = (char)('A' + index + round);
			if (round == 1)
				CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index],
				                               sockets[index][0], 0,
				                               &readers[index].token),
				            -EINPROGRESS);
			CHECK_EQUAL(bench->table->send(bench->driver, &senders[index],
			                               sockets[index][1], &iov, 1,
			                               &senders[index].token), -EINPROGRESS);
		}
		/* From the middle of the backlog. */
		CHECK_EQUAL(bench->table->poll(bench->driver, &cancelled, sockets[0][0], POLLPRI,
		                               &cancelled.token), -EINPROGRESS);
		CHECK_EQUAL(bench->table->cancel(bench->driver, cancelled.token), 0);
		for (int index = 0; index < PAIRS; index++) {
			UNTIL(bench, senders[index].ends == round &&
			             readers[index].size == (size_t)round);
			CHECK_EQUAL(readers[index].data[round - 1], letters[index]);
		}
	}
	for (int index = 0; index < PAIRS; index++)
		CHECK_EQUAL(bench->table->cancel(bench->driver, readers[index].token),
		            -EINPROGRESS);
	for (int index = 0; index < PAIRS; index++) {
		UNTIL(bench, readers[index].ends == 1);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	CHECK_EQUAL(cancelled.completions, 0);
	bench_close(bench);
}

static void completion_queue_overflow_loses_nothing(struct bench *bench)
{
	struct record readers[PAIRS] = { 0 };
	int sockets[PAIRS][2];

	bench->options.sq_entries = 4;
	bench->options.cq_entries = 4;
	bench_open(bench);
	for (int index = 0; index < PAIRS; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0], 0,
		                               &readers[index].token), -EINPROGRESS);
	}
	bench_quiet(bench);
	for (size_t round = 1; round <= 30; round++) {
		for (int index = 0; index < PAIRS; index++)
			CHECK_EQUAL(write(sockets[index][1], "abcd", 4), 4);
		for (int index = 0; index < PAIRS; index++)
			UNTIL(bench, readers[index].size == round * 4);
	}
	for (int index = 0; index < PAIRS; index++) {
		bench_cancel(bench, &readers[index]);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	if (has(bench, UL_FEATURE_MULTISHOT_RECV))
		CHECK(bench->table->statistics(bench->driver)->cq_overflows > 0);
	bench_close(bench);
}

static void overflow_at_the_end_of_a_run_is_there_in_the_next(struct bench *bench)
{
	struct record timers[40] = { 0 };

	bench->options.sq_entries = 4;
	bench->options.cq_entries = 4;
	bench_open(bench);
	for (int index = 0; index < 40; index++)
		CHECK_EQUAL(bench->table->timeout(bench->driver, &timers[index], 1,
		                                  &timers[index].token), -EINPROGRESS);
	for (int index = 0; index < 3; index++)
		CHECK_EQUAL(bench->table->turn(bench->driver, 10 * MILLISECOND_NS), 0);
	bench->table->end(bench->driver);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	for (int index = 0; index < 40; index++) {
		UNTIL(bench, timers[index].ends == 1);
		CHECK_EQUAL(timers[index].result, -ETIME);
	}
	bench_close(bench);
}

static void queue_of_one_entry_ends_each_turn_at_its_deadline(struct bench *bench)
{
	struct record timer = { 0 };

	bench->options.sq_entries = 1;
	bench->options.cq_entries = 4;
	bench_open(bench);
	for (int round = 1; round <= 3; round++) {
		/* Leaves the end of a long turn armed, which the short one may not wait for. */
		CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, MILLISECOND_NS,
		                                  &timer.token), -EINPROGRESS);
		while (timer.ends != round)
			bench_turn(bench, 3600000 * MILLISECOND_NS);
		CHECK_EQUAL(bench->table->turn(bench->driver, 10 * MILLISECOND_NS), 0);
		bench_harvest(bench);
	}
	bench_close(bench);
}

static void turn_with_nothing_to_do_makes_no_system_call(struct bench *bench)
{
	struct record reader = { 0 };
	uint64_t enters;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	enters = bench->table->statistics(bench->driver)->enters;
	CHECK(!bench->table->immediate(bench->driver));
	for (int round = 0; round < 1000; round++)
		CHECK_EQUAL(bench_turn(bench, 0), 0);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->enters, enters);
	CHECK_EQUAL(write(sockets[1], "x", 1), 1);
	UNTIL(bench, reader.size == 1);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void registered_descriptor_serves_long_runs(struct bench *bench)
{
	struct record timer = { 0 };

	bench_open(bench);
	for (int run = 0; run < 3; run++) {
		for (int round = 0; round < 100; round++)
			CHECK_EQUAL(RESULT_OF(bench, &timer,
			                      bench->table->timeout(bench->driver, &timer, 1000,
			                                            &timer.token)), -ETIME);
		CHECK_EQUAL((uring_of(bench->driver)->enter_flags &
		             IORING_ENTER_REGISTERED_RING) != 0,
		            has(bench, UL_FEATURE_REGISTERED_FD));
		bench->table->end(bench->driver);
		CHECK_EQUAL(uring_of(bench->driver)->enter_fd,
		            uring_of(bench->driver)->ring.ring_fd);
		CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	}
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(cancel_before_submission_ends_without_a_word),
		TEST(tiny_submission_queue_takes_everything_in_order),
		TEST(completion_queue_overflow_loses_nothing),
		TEST(overflow_at_the_end_of_a_run_is_there_in_the_next),
		TEST(queue_of_one_entry_ends_each_turn_at_its_deadline),
		TEST(turn_with_nothing_to_do_makes_no_system_call),
		TEST(registered_descriptor_serves_long_runs),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
