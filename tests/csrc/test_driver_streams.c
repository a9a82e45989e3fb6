/*
 * What both drivers promise, through the table alone: streams of bytes.
 *
 *     test_driver_streams uring|selector [disabled features [one test]]
 */
#include "driver_fixture.h"
#include "poison.h"

/* --- Streams -------------------------------------------------------------- */

static void echo_once(struct bench *bench, int sockets[2])
{
	const struct ul_table *table = bench->table;
	struct record reader = { 0 };
	struct record sender = { 0 };
	struct iovec iov = { "hello", 5 };

	CHECK_EQUAL(table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
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
	CHECK_EQUAL(table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
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
	bench_open(bench);
	for (int index = 0; index < CROWD; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0], 0,
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0,
		                               &reader.token),
		            -EINPROGRESS);
		bench_turn(bench, 0);
		bench_cancel(bench, &reader);
		CHECK_EQUAL(reader.size, 0);
	}
	close_pair(sockets);
	bench_close(bench);
}

/* The peer sees the end before the terminal completion is harvested. */
static void recv_cancelled_is_released_within_the_next_turn(struct bench *bench)
{
	struct record reader = { 0 };
	const struct ul_table *table;
	int sockets[2];
	char byte;

	bench_open(bench);
	table = bench->table;
	make_tcp_pair(sockets);
	CHECK_EQUAL(table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	CHECK(!table->released(bench->driver, reader.token));
	if (table->cancel(bench->driver, reader.token) == -EINPROGRESS)
		CHECK_EQUAL(table->turn(bench->driver, 0), 0);
	CHECK(table->released(bench->driver, reader.token));
	CHECK_EQUAL(table->close(bench->driver, sockets[0]), 0);
	CHECK(arrives(sockets[1]));
	CHECK_EQUAL(recv(sockets[1], &byte, 1, 0), 0);
	close(sockets[1]);
	bench_quiet(bench);
	CHECK_EQUAL(reader.size, 0);
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
	bench_open(bench);
	make_tcp_pair(sockets);
	for (int round = 0; round < 600; round++) {
		unsigned choice;

		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0,
		                               &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	UNTIL(bench, reader.size == written);
	CHECK(is_pattern(reader.data, written));
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

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
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[1], 0,
		                               &reader.token),
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
	size_t found = 0;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	filled = fill_socket(sockets[0]);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	CHECK_EQUAL(sender.ends, 0);
	while (sender.ends == 0) {
		found += drain_socket(sockets[1]);
		bench_turn(bench, MILLISECOND_NS);
	}
	CHECK_EQUAL(sender.result, 4);
	while (found < filled + 4)
		found += drain_socket(sockets[1]);
	CHECK_EQUAL(found, filled + 4);
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

static void outcome_of_a_send_is_told_once_before_or_by_its_completion(struct bench *bench)
{
	struct record sender = { 0 };
	struct record next = { 0 };
	struct iovec iov = { "tail", 4 };
	ul_token token;
	int result;
	int sockets[2];

	bench_open(bench);
	make_pair(sockets);
	result = bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token);
	if (result == -EINPROGRESS) {
		CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, true), -EINPROGRESS);
		CHECK_EQUAL(bench->table->turn(bench->driver, 0), 0);
		/* Asked without being taken, it is still owed. */
		CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, false), 4);
		CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, false), 4);
		CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, true), 4);
		CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, true), -EINPROGRESS);
		CHECK_EQUAL(bench->table->cancel(bench->driver, sender.token), -ENOENT);
		/* In the same slot, and not ended by the entry of the other. */
		token = sender.token;
		CHECK_EQUAL(bench->table->send(bench->driver, &next, sockets[0], &iov, 1,
		                               &next.token), -EINPROGRESS);
		CHECK(next.token != token);
		bench_harvest(bench);
		CHECK_EQUAL(sender.completions + next.completions, 0);
		UNTIL(bench, next.ends == 1);
		CHECK_EQUAL(next.result, 4);
		CHECK_EQUAL(bench->table->outcome(bench->driver, next.token, true), -EINPROGRESS);
		CHECK_EQUAL(sender.completions, 0);
		CHECK_EQUAL(drain_socket(sockets[1]), 8);
	} else {
		CHECK_EQUAL(result, 4);
	}
	fill_socket(sockets[0]);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, sockets[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	CHECK_EQUAL(bench->table->outcome(bench->driver, sender.token, true), -EINPROGRESS);
	bench_cancel(bench, &sender);
	CHECK_EQUAL(sender.result, -ECANCELED);
	close_pair(sockets);
	bench_close(bench);
}

static void send_cancelled_after_it_has_ended_is_released(struct bench *bench)
{
	struct record first = { 0 };
	struct record second = { 0 };
	struct iovec iov = { "tail", 4 };
	int sockets[2];
	int others[2];

	bench_open(bench);
	make_pair(sockets);
	make_pair(others);
	if (bench->table->send(bench->driver, &first, sockets[0], &iov, 1, &first.token) ==
	    -EINPROGRESS) {
		CHECK_EQUAL(bench->table->send(bench->driver, &second, others[0], &iov, 1,
		                               &second.token), -EINPROGRESS);
		CHECK_EQUAL(bench->table->turn(bench->driver, 0), 0);
		/* Looks at both entries. */
		CHECK_EQUAL(bench->table->outcome(bench->driver, first.token, true), 4);
		CHECK_EQUAL(bench->table->cancel(bench->driver, second.token), -EINPROGRESS);
		CHECK(bench->table->released(bench->driver, second.token));
		CHECK_EQUAL(bench->table->outcome(bench->driver, second.token, true), -EINPROGRESS);
		UNTIL(bench, second.ends == 1);
		CHECK_EQUAL(second.result, 4);
		CHECK_EQUAL(first.completions, 0);
	}
	close_pair(sockets);
	close_pair(others);
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

/* The first buffer that `size` bytes of a stream are lent in; not given back. */
static unsigned char *lent_for(struct bench *bench, int peer, const char *bytes, int size)
{
	struct ul_completion completion;
	int64_t deadline = now_ns() + PATIENCE_NS;

	CHECK_EQUAL(write(peer, bytes, (size_t)size), size);
	for (;;) {
		CHECK(now_ns() < deadline);
		CHECK_EQUAL(bench->table->turn(bench->driver, TURN_NS), 0);
		if (bench->table->harvest(bench->driver, &completion, 1) == 1)
			break;
	}
	CHECK(completion.flags & UL_LENT);
	CHECK_EQUAL(completion.result, size);
	CHECK_EQUAL(memcmp(completion.data, bytes, (size_t)size), 0);
	return completion.data;
}

/* In builds with assertions, as these tests are. */
static void buffer_that_came_back_shows_nobody_what_it_held(struct bench *bench)
{
	struct record reader = { 0 };
	unsigned char *first, *second;
	int pair[2];

	bench_open(bench);
	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, pair[0], UL_STREAM_TCP,
	                               &reader.token), -EINPROGRESS);
	first = lent_for(bench, pair[1], "a password", 10);
	bench->table->recycle(bench->driver, first);
	for (int position = 0; position < 10; position++)
		CHECK_EQUAL(first[position], POISON);
	/* Whichever it is of those that were used: behind its bytes is no stranger's. */
	for (int round = 0; round < 600; round++) {
		second = lent_for(bench, pair[1], "hi", 2);
		CHECK(memcmp(second + 2, "password", 8) != 0);
		bench->table->recycle(bench->driver, second);
		if (second == first)
			break;
	}
	CHECK(second == first);
	bench_cancel(bench, &reader);
	close_pair(pair);
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
		TEST(recv_cancelled_is_released_within_the_next_turn),
		TEST(recv_cancelled_and_started_again_loses_nothing),
		TEST(send_of_many_pieces_arrives_as_one_stream),
		TEST(send_to_a_full_socket_waits_for_room),
		TEST(send_cancelled_while_blocked_sends_nothing),
		TEST(outcome_of_a_send_is_told_once_before_or_by_its_completion),
		TEST(send_cancelled_after_it_has_ended_is_released),
		TEST(send_to_a_closed_peer_fails_without_a_signal),
		TEST(buffer_that_came_back_shows_nobody_what_it_held),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
