/*
 * What only the ring can get wrong: its queues, and answers of the kernel that
 * are too rare to wait for.  Those are put into the list of completion entries
 * that a former ring left behind, where the driver reads them as any other.
 *
 *     test_uring uring [disabled features [one test]]
 */
#include <poll.h>

#include "driver_fixture.h"
#include "ring/queue.h"

/* Answer `token` as the kernel would. */
static void answer(struct bench *bench, uint64_t user_data, int result, uint32_t flags)
{
	struct uring *uring = uring_of(bench->driver);

	uring->left_over = realloc(uring->left_over,
	                           (uring->left_over_count + 1) * sizeof(*uring->left_over));
	CHECK(uring->left_over != NULL);
	memset(&uring->left_over[uring->left_over_count], 0, sizeof(*uring->left_over));
	uring->left_over[uring->left_over_count].user_data = user_data;
	uring->left_over[uring->left_over_count].res = result;
	uring->left_over[uring->left_over_count].flags = flags;
	uring->left_over_count++;
}

/* The same, of an operation that the kernel is kept from seeing. */
static void answer_instead(struct bench *bench, ul_token token, int result)
{
	struct uring *uring = uring_of(bench->driver);
	struct uring_slot *slot = uring_slot_find(uring, token);

	CHECK(slot != NULL);
	uring_withdraw(uring, slot);
	answer(bench, token, result, 0);
}

/* --- Queues --------------------------------------------------------------- */

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

/* --- Answers that are rare ------------------------------------------------ */

static void one_shot_answered_with_eagain_is_done_again(struct bench *bench)
{
	struct record record = { 0 };
	struct iovec iov = { "again", 5 };
	char buffer[8];
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	for (int round = 0; round < 3; round++) {
		static const int answers[] = { -EAGAIN, -EINTR, -ECANCELED };

		CHECK_EQUAL(bench->table->send(bench->driver, &record, sockets[0], &iov, 1,
		                               &record.token), -EINPROGRESS);
		answer_instead(bench, record.token, answers[round]);
		UNTIL(bench, record.ends == round * 2 + 1);
		CHECK_EQUAL(record.result, 5);
		CHECK_EQUAL(bench->table->poll(bench->driver, &record, sockets[1], POLLIN,
		                               &record.token), -EINPROGRESS);
		answer_instead(bench, record.token, answers[round]);
		UNTIL(bench, record.ends == round * 2 + 2);
		CHECK_EQUAL(record.result, POLLIN);
		CHECK_EQUAL(recv(sockets[1], buffer, sizeof(buffer), 0), 5);
	}
	/* An answer that comes again and again is not asked for for ever. */
	CHECK_EQUAL(bench->table->poll(bench->driver, &record, sockets[1], POLLIN, &record.token),
	            -EINPROGRESS);
	for (int round = 0; record.ends == 6; round++) {
		CHECK(round < 1000);
		answer_instead(bench, record.token, -ECANCELED);
		bench_turn(bench, 0);
		if (record.ends == 6 && round < 3)
			CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 1);
		if (record.ends == 6) {
			/* Keep it from the kernel. */
			struct uring *uring = uring_of(bench->driver);
			struct uring_slot *slot = uring_slot_find(uring, record.token);

			CHECK(slot != NULL && uring_unsubmitted(uring, slot));
		}
	}
	CHECK_EQUAL(record.result, -ECANCELED);
	close_pair(sockets);
	bench_close(bench);
}

static void stream_interrupted_by_the_kernel_goes_on(struct bench *bench)
{
	static const int answers[] = { -EAGAIN, -EINTR, -ECANCELED, -ENOBUFS, -ENOMEM };
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	for (size_t round = 1; round <= sizeof(answers) / sizeof(answers[0]); round++) {
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0,
		                               &reader.token),
		            -EINPROGRESS);
		answer_instead(bench, reader.token, answers[round - 1]);
		bench_quiet(bench);
		CHECK_EQUAL(reader.ends, (int)round - 1);
		CHECK_EQUAL(write(sockets[1], "x", 1), 1);
		UNTIL(bench, reader.size == round);
		bench_cancel(bench, &reader);
		CHECK_EQUAL(reader.result, -ECANCELED);
	}
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void accept_interrupted_by_a_client_goes_on(struct bench *bench)
{
	static const int answers[] = { -ECONNABORTED, -EINTR, -EAGAIN };
	struct record server = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);

	bench_open(bench);
	for (int round = 0; round < 3; round++) {
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int completions = server.completions;

		CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, false,
		                                 &server.token), -EINPROGRESS);
		answer_instead(bench, server.token, answers[round]);
		bench_quiet(bench);
		CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
		UNTIL(bench, server.completions == completions + 1);
		CHECK(server.result >= 0);
		close(server.result);
		bench_cancel(bench, &server);
		close(client);
	}
	close(listener);
	bench_close(bench);
}

static void connect_started_twice_succeeds_once(struct bench *bench)
{
	struct record client = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	bench_open(bench);
	/* As after a change of threads: the first connect is under way. */
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
	      errno == EINPROGRESS);
	CHECK_EQUAL(bench->table->connect(bench->driver, &client, fd, (struct sockaddr *)&address,
	                                  sizeof(address), &client.token), -EINPROGRESS);
	answer_instead(bench, client.token, -EALREADY);
	UNTIL(bench, client.ends == 1);
	CHECK_EQUAL(client.result, 0);
	close(fd);
	close(listener);
	bench_close(bench);
}

static void cancel_that_found_nothing_is_repeated(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	/* The kernel is made to forget the first one. */
	CHECK_EQUAL(bench->table->cancel(bench->driver, reader.token), -EINPROGRESS);
	for (struct uring *uring = uring_of(bench->driver);
	     uring->sq_tail != uring->sq_head; uring->sq_tail--)
		continue;
	answer(bench, TAGGED(TAG_CANCEL, reader.token), -ENOENT, 0);
	UNTIL(bench, reader.ends == 1);
	CHECK_EQUAL(reader.result, -ECANCELED);
	close_pair(sockets);
	bench_close(bench);
}

static void data_with_the_last_entry_is_delivered(struct bench *bench)
{
	struct uring *uring;
	struct record reader = { 0 };
	uint32_t index;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	if (!has(bench, UL_FEATURE_MULTISHOT_RECV)) {
		close_pair(sockets);
		bench_close(bench);
		return;
	}
	uring = uring_of(bench->driver);
	bench_turn(bench, 0);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	uring_withdraw(uring, uring_slot_find(uring, reader.token));
	/* The kernel would take the ring's oldest buffer, and so does this. */
	index = uring->pools[POOL_SMALL].ring->bufs[0].bid;
	memcpy(pool_data(&uring->pools[POOL_SMALL], index), "raced", 5);
	CHECK_EQUAL(bench->table->cancel(bench->driver, reader.token), -EINPROGRESS);
	uring->sq_tail = uring->sq_head;
	answer(bench, reader.token, 5,
	       IORING_CQE_F_BUFFER | index << IORING_CQE_BUFFER_SHIFT);
	bench_harvest(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(reader.result, 5);
	CHECK_EQUAL(memcmp(reader.data, "raced", 5), 0);
	close_pair(sockets);
	record_free(&reader);
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
		TEST(one_shot_answered_with_eagain_is_done_again),
		TEST(stream_interrupted_by_the_kernel_goes_on),
		TEST(accept_interrupted_by_a_client_goes_on),
		TEST(connect_started_twice_succeeds_once),
		TEST(cancel_that_found_nothing_is_repeated),
		TEST(data_with_the_last_entry_is_delivered),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
