/*
 * What both drivers promise, through the table alone: streams of bulk, which
 * their owner receives itself.
 *
 *     test_driver_bulk uring|selector [disabled features [one test]]
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "driver_fixture.h"

/* What is written in one go and makes a stream a bulk stream. */
#define MUCH 50000

static void write_all(struct bench *bench, int fd, size_t position, size_t size)
{
	static unsigned char data[MUCH];
	int64_t deadline = now_ns() + PATIENCE_NS;
	size_t written = 0;

	CHECK(size <= sizeof(data));
	for (size_t index = 0; index < size; index++)
		data[index] = pattern(position + index);
	while (written < size) {
		ssize_t sent = write(fd, data + written, size - written);

		if (sent > 0)
			written += (size_t)sent;
		else
			bench_turn(bench, 0);
		CHECK(now_ns() < deadline);
	}
}

/* A recv stream of which everything written so far has arrived, in bulk. */
static void bulk_start(struct bench *bench, struct record *reader, int sockets[2])
{
	int64_t deadline = now_ns() + PATIENCE_NS;
	size_t written = reader->size;

	reader->lazy = false;
	reader->readable = 0;
	CHECK_EQUAL(bench->table->recv(bench->driver, reader, sockets[0], 0, &reader->token),
	            -EINPROGRESS);
	while (reader->readable == 0) {
		write_all(bench, sockets[1], written, MUCH);
		written += MUCH;
		UNTIL(bench, reader->size == written);
		CHECK(now_ns() < deadline);
	}
	bench_quiet(bench);
	reader->lazy = true;
	reader->readable = 0;
	CHECK(is_pattern(reader->data, reader->size));
}

static void bulk_open(struct bench *bench, struct record *reader, int sockets[2])
{
	bench_open(bench);
	make_tcp_pair(sockets);
	bulk_start(bench, reader, sockets);
}

static void bulk_end(struct bench *bench, struct record *reader, int sockets[2])
{
	CHECK(is_pattern(reader->data, reader->size));
	close_pair(sockets);
	record_free(reader);
	bench_close(bench);
}

static void readable_is_said_once_until_it_is_taken(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	for (int round = 1; round <= 5; round++) {
		size_t size = reader.size;

		write_all(bench, sockets[1], size, 1000);
		UNTIL(bench, reader.readable == round);
		write_all(bench, sockets[1], size + 1000, 2000);
		bench_quiet(bench);
		CHECK_EQUAL(reader.readable, round);
		CHECK_EQUAL(reader.size, size);
		CHECK_EQUAL(record_take(bench, &reader, reader.token), 3000);
		CHECK_EQUAL(record_take(bench, &reader, reader.token), -ENOENT);
		bench_quiet(bench);
		CHECK_EQUAL(reader.readable, round);
	}
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void take_of_a_part_leaves_the_rest_for_the_next_turn(struct bench *bench)
{
	struct record reader = { 0 };
	struct iovec iov = { .iov_len = 700 };
	int sockets[2];
	int takes = 0;

	bulk_open(bench, &reader, sockets);
	write_all(bench, sockets[1], reader.size, 2100);
	record_reserve(&reader, 4096);
	while (takes < 3) {
		UNTIL(bench, reader.readable == takes + 1);
		iov.iov_base = reader.data + reader.size;
		CHECK_EQUAL(bench->table->take(bench->driver, reader.token, &iov, 1), 700);
		reader.size += 700;
		takes++;
	}
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void take_of_what_is_gone_says_so_and_goes_on(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	for (int round = 1; round <= 20; round++) {
		CHECK_EQUAL(write(sockets[1], "gone", 4), 4);
		UNTIL(bench, reader.readable == round);
		CHECK_EQUAL(drain_socket(sockets[0]), 4);
		CHECK_EQUAL(record_take(bench, &reader, reader.token), -EAGAIN);
		bench_quiet(bench);
		CHECK_EQUAL(reader.readable, round);
	}
	write_all(bench, sockets[1], reader.size, 10);
	UNTIL(bench, reader.readable == 21);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), 10);
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void take_without_being_asked_is_refused(struct bench *bench)
{
	struct record reader = { 0 };
	struct record poll = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -ENOENT);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &poll, 60 * SECOND_NS, &poll.token),
	            -EINPROGRESS);
	CHECK_EQUAL(record_take(bench, &reader, poll.token), -ENOENT);
	CHECK_EQUAL(record_take(bench, &reader, 0), -ENOENT);
	CHECK_EQUAL(record_take(bench, &reader, UINT64_MAX), -ENOENT);
	bench_cancel(bench, &poll);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -ENOENT);
	bulk_end(bench, &reader, sockets);
}

static void take_at_the_end_of_file_ends_the_stream(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	write_all(bench, sockets[1], reader.size, 1000);
	CHECK_EQUAL(shutdown(sockets[1], SHUT_WR), 0);
	UNTIL(bench, reader.readable == 1);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), 1000);
	UNTIL(bench, reader.readable == 2);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), 0);
	CHECK_EQUAL(reader.ends, 1);
	bench_quiet(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(reader.readable, 2);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -ENOENT);
	CHECK_EQUAL(bench->table->cancel(bench->driver, reader.token), -ENOENT);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 0);
	bulk_end(bench, &reader, sockets);
}

static void take_after_a_reset_ends_with_the_error(struct bench *bench)
{
	struct record reader = { 0 };
	struct linger linger = { 1, 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	setsockopt(sockets[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sockets[1]);
	UNTIL(bench, reader.readable == 1);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -ECONNRESET);
	bench_quiet(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 0);
	close(sockets[0]);
	record_free(&reader);
	bench_close(bench);
}

static void cancel_of_a_readable_stream_leaves_the_bytes(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	for (int round = 1; round <= 10; round++) {
		size_t size = reader.size;
		ul_token token = reader.token;

		write_all(bench, sockets[1], size, 3000);
		UNTIL(bench, reader.readable == 1);
		bench_cancel(bench, &reader);
		CHECK_EQUAL(reader.result, -ECANCELED);
		CHECK_EQUAL(record_take(bench, &reader, token), -ENOENT);
		CHECK_EQUAL(reader.size, size);
		reader.lazy = false;
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0,
		                               &reader.token),
		            -EINPROGRESS);
		UNTIL(bench, reader.size == size + 3000);
		bench_cancel(bench, &reader);
		bulk_start(bench, &reader, sockets);
	}
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void other_streams_have_their_turn_before_the_next_take(struct bench *bench)
{
	struct record readers[2] = { 0 };
	struct iovec iov = { .iov_len = 100 };
	int sockets[2][2];

	bench_open(bench);
	for (int index = 0; index < 2; index++) {
		make_tcp_pair(sockets[index]);
		bulk_start(bench, &readers[index], sockets[index]);
		record_reserve(&readers[index], 4096);
		write_all(bench, sockets[index][1], readers[index].size, 1000);
	}
	for (int round = 1; round <= 10; round++) {
		UNTIL(bench, readers[0].readable == round && readers[1].readable == round);
		for (int index = 0; index < 2; index++) {
			struct record *reader = &readers[index];

			iov.iov_base = reader->data + reader->size;
			CHECK_EQUAL(bench->table->take(bench->driver, reader->token, &iov, 1), 100);
			reader->size += 100;
		}
	}
	for (int index = 0; index < 2; index++) {
		CHECK(is_pattern(readers[index].data, readers[index].size));
		bench_cancel(bench, &readers[index]);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	bench_close(bench);
}

static void stream_of_little_is_lent_again(struct bench *bench)
{
	struct record reader = { 0 };
	int64_t deadline = now_ns() + PATIENCE_NS;
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	reader.lazy = false;
	do {
		size_t size = reader.size;

		reader.readable = 0;
		write_all(bench, sockets[1], size, 5);
		UNTIL(bench, reader.size == size + 5);
		CHECK(now_ns() < deadline);
	} while (reader.readable != 0);
	CHECK(reader.flags & UL_LENT);
	bench_cancel(bench, &reader);
	/* And in bulk once more. */
	bulk_start(bench, &reader, sockets);
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

/* An AF_UNIX receive stops behind passed descriptors: no further edge tells. */
static void take_across_passed_descriptors_loses_nothing(struct bench *bench)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = "ab", .iov_len = 2 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1,
	                          .msg_control = &control,
	                          .msg_controllen = sizeof(control.space) };
	struct record reader = { 0 };
	int sockets[2];
	size_t size;

	bench_open(bench);
	make_pair(sockets);
	bulk_start(bench, &reader, sockets);
	reader.lazy = false;
	size = reader.size;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&control.header), &sockets[0], sizeof(int));
	CHECK_EQUAL(sendmsg(sockets[1], &message, 0), 2);
	CHECK_EQUAL(sendmsg(sockets[1], &message, 0), 2);
	CHECK_EQUAL(send(sockets[1], "cd", 2, 0), 2);
	UNTIL(bench, reader.size == size + 6);
	CHECK_EQUAL(memcmp(reader.data + size, "ababcd", 6), 0);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

static void watch_beside_a_readable_stream_disturbs_nothing(struct bench *bench)
{
	struct record reader = { 0 };
	struct record watcher = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	fill_socket(sockets[0]);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, sockets[0], EPOLLOUT,
	                                &watcher.token), 0);
	for (int round = 1; round <= 5; round++) {
		write_all(bench, sockets[1], reader.size, 1000);
		UNTIL(bench, reader.readable == round);
		bench_quiet(bench);
		CHECK_EQUAL(record_take(bench, &reader, reader.token), 1000);
	}
	CHECK_EQUAL(watcher.completions, 0);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, sockets[0], 0, &watcher.token),
	            0);
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void shutdown_ends_a_readable_stream_once(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	write_all(bench, sockets[1], reader.size, 1000);
	UNTIL(bench, reader.readable == 1);
	bench->table->shutdown(bench->driver);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -ENOENT);
	bench_harvest(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(reader.result, -ECANCELED);
	bulk_end(bench, &reader, sockets);
}

/* The rest of a stream that is readable, in this thread or process. */
static void take_on(struct bench *bench, struct record *reader, int sockets[2])
{
	bench_quiet(bench);
	CHECK_EQUAL(reader->readable, 1);
	CHECK_EQUAL(record_take(bench, reader, reader->token), 1000);
	reader->lazy = false;
	write_all(bench, sockets[1], reader->size, 1000);
	UNTIL(bench, reader->readable == 2);
	CHECK(is_pattern(reader->data, reader->size));
}

struct elsewhere {
	struct bench *bench;
	struct record *reader;
	int *sockets;
};

static void *take_elsewhere(void *argument)
{
	struct elsewhere *elsewhere = argument;
	struct bench *bench = elsewhere->bench;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	take_on(bench, elsewhere->reader, elsewhere->sockets);
	bench_cancel(bench, elsewhere->reader);
	bench->table->end(bench->driver);
	return NULL;
}

static void readable_stream_is_taken_in_another_thread(struct bench *bench)
{
	struct record reader = { 0 };
	struct elsewhere elsewhere;
	pthread_t thread;
	int sockets[2];

	bulk_open(bench, &reader, sockets);
	write_all(bench, sockets[1], reader.size, 1000);
	UNTIL(bench, reader.readable == 1);
	bench->table->end(bench->driver);
	elsewhere = (struct elsewhere){ bench, &reader, sockets };
	CHECK_EQUAL(pthread_create(&thread, NULL, take_elsewhere, &elsewhere), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bulk_end(bench, &reader, sockets);
}

static void readable_stream_is_taken_in_a_forked_child(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];
	int status;
	pid_t child;

	if (!bench_can_fork(bench))
		return;
	bulk_open(bench, &reader, sockets);
	write_all(bench, sockets[1], reader.size, 1000);
	UNTIL(bench, reader.readable == 1);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		take_on(bench, &reader, sockets);
		bench_cancel(bench, &reader);
		bulk_end(bench, &reader, sockets);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	/* The child has received it all. */
	CHECK_EQUAL(record_take(bench, &reader, reader.token), -EAGAIN);
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void hold_on(struct bench *bench, struct record *reader, bool for_good)
{
	reader->lazy = true;
	bench->table->hold(bench->driver, reader->token, for_good);
	/* Without deferred work the kernel receives at any system call until it is told. */
	if (is_ring(bench) && !has(bench, UL_FEATURE_DEFER_TASKRUN))
		bench_quiet(bench);
}

/* A recv stream that has been told to receive nothing by itself. */
static void held_open(struct bench *bench, struct record *reader, int sockets[2], bool submitted,
                      bool for_good)
{
	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, reader, sockets[0], 0, &reader->token),
	            -EINPROGRESS);
	if (submitted)
		bench_quiet(bench);
	hold_on(bench, reader, for_good);
}

static void held_stream_leaves_everything_to_take(struct bench *bench)
{
	for (int submitted = 0; submitted < 2; submitted++) {
		struct record reader = { 0 };
		int sockets[2];

		held_open(bench, &reader, sockets, submitted, false);
		write_all(bench, sockets[1], 0, 1000);
		UNTIL(bench, reader.readable == 1);
		write_all(bench, sockets[1], 1000, 500);
		bench_quiet(bench);
		CHECK_EQUAL(reader.readable, 1);
		CHECK_EQUAL(reader.size, 0);
		/* It is all in the socket, for whoever else may have it. */
		reader.data = malloc(1500);
		CHECK_EQUAL(recv(sockets[0], reader.data, 1500, MSG_PEEK), 1500);
		free(reader.data);
		reader.data = NULL;
		CHECK_EQUAL(record_take(bench, &reader, reader.token), 1500);
		bench_cancel(bench, &reader);
		bulk_end(bench, &reader, sockets);
	}
}

static void hold_of_a_stream_that_had_data_before_takes_effect_with_the_next_turn(
	struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	for (int round = 0; round < 20; round++) {
		size_t before = reader.size;

		write_all(bench, sockets[1], before, 100);
		UNTIL(bench, reader.size == before + 100);
	}
	hold_on(bench, &reader, false);
	hold_on(bench, &reader, false);
	write_all(bench, sockets[1], reader.size, 100);
	UNTIL(bench, reader.readable == 1);
	CHECK_EQUAL(reader.size, 2000);
	record_take(bench, &reader, reader.token);
	CHECK_EQUAL(reader.size, 2100);
	bench_cancel(bench, &reader);
	bulk_end(bench, &reader, sockets);
}

static void held_stream_of_little_is_lent_again_unless_it_is_for_good(struct bench *bench)
{
	for (int for_good = 0; for_good < 2; for_good++) {
		struct record reader = { 0 };
		int sockets[2];

		held_open(bench, &reader, sockets, true, for_good);
		reader.lazy = false;
		for (int round = 0; round < 40; round++) {
			size_t before = reader.size;

			write_all(bench, sockets[1], before, 10);
			UNTIL(bench, reader.size == before + 10);
		}
		CHECK_EQUAL(reader.readable == 40, for_good);
		bench_cancel(bench, &reader);
		bulk_end(bench, &reader, sockets);
	}
}

static void hold_and_cancel_end_the_stream_once_and_leave_the_bytes(struct bench *bench)
{
	for (int submitted = 0; submitted < 2; submitted++) {
		struct record reader = { 0 };
		int sockets[2];

		held_open(bench, &reader, sockets, submitted, false);
		write_all(bench, sockets[1], 0, 1000);
		if (bench->table->cancel(bench->driver, reader.token) == -EINPROGRESS)
			UNTIL(bench, reader.ends == 1);
		bench_quiet(bench);
		CHECK(reader.ends <= 1);
		CHECK_EQUAL(drain_socket(sockets[0]), 1000);
		/* Of what is gone it is no crash. */
		bench->table->hold(bench->driver, reader.token, true);
		bulk_end(bench, &reader, sockets);
	}
}

static void end_of_file_of_a_held_stream_is_found_by_take(struct bench *bench)
{
	struct record reader = { 0 };
	int sockets[2];

	held_open(bench, &reader, sockets, true, false);
	CHECK_EQUAL(shutdown(sockets[1], SHUT_WR), 0);
	UNTIL(bench, reader.readable == 1);
	CHECK_EQUAL(reader.ends, 0);
	CHECK_EQUAL(record_take(bench, &reader, reader.token), 0);
	CHECK_EQUAL(reader.ends, 1);
	bulk_end(bench, &reader, sockets);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(readable_is_said_once_until_it_is_taken),
		TEST(take_of_a_part_leaves_the_rest_for_the_next_turn),
		TEST(take_of_what_is_gone_says_so_and_goes_on),
		TEST(take_without_being_asked_is_refused),
		TEST(take_at_the_end_of_file_ends_the_stream),
		TEST(take_after_a_reset_ends_with_the_error),
		TEST(cancel_of_a_readable_stream_leaves_the_bytes),
		TEST(other_streams_have_their_turn_before_the_next_take),
		TEST(stream_of_little_is_lent_again),
		TEST(take_across_passed_descriptors_loses_nothing),
		TEST(watch_beside_a_readable_stream_disturbs_nothing),
		TEST(shutdown_ends_a_readable_stream_once),
		TEST(readable_stream_is_taken_in_another_thread),
		TEST(readable_stream_is_taken_in_a_forked_child),
		TEST(held_stream_leaves_everything_to_take),
		TEST(hold_of_a_stream_that_had_data_before_takes_effect_with_the_next_turn),
		TEST(held_stream_of_little_is_lent_again_unless_it_is_for_good),
		TEST(hold_and_cancel_end_the_stream_once_and_leave_the_bytes),
		TEST(end_of_file_of_a_held_stream_is_found_by_take),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
