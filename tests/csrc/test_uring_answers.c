/*
 * Answers of the kernel that are too rare to wait for, or another kernel's.  They are put
 * into the list of completion entries that a former ring left behind, where the driver reads
 * them as any other.
 *
 *     test_uring_answers uring [disabled features [one test]]
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

/* Cancelled, and the kernel, which knows of neither, answers all the same. */
static void cancel_and_answer(struct bench *bench, ul_token token, int result, uint32_t flags)
{
	struct uring *uring = uring_of(bench->driver);

	CHECK_EQUAL(uring->sq_tail - uring->sq_head, 1);
	uring_withdraw(uring, uring_slot_find(uring, token));
	CHECK_EQUAL(bench->table->cancel(bench->driver, token), -EINPROGRESS);
	uring->sq_tail = uring->sq_head;
	answer(bench, token, result, flags);
}

/* What would be asked for once more is over, for its owner has given it up. */
static void answer_that_means_once_more_ends_what_was_cancelled(struct bench *bench)
{
	static const int receives[] = { -EAGAIN, -EINTR, -ENOBUFS, -ECANCELED };
	static const int accepts[] = { -EAGAIN, -EINTR, -ECONNABORTED, -ECANCELED };
	static const int connects[] = { -EALREADY, -EINPROGRESS, -EINTR, -ENOMEM, -ECANCELED };
	static const int sends[] = { -EAGAIN, -EINTR, -ENOMEM, -ECANCELED };
	struct record records[5] = { 0 };
	struct iovec iov = { "never", 5 };
	struct sockaddr_in address, datagrams;
	int listener = make_listener(&address);
	int udp = make_udp(&datagrams);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	bench_quiet(bench);
	for (int round = 1; round <= 5; round++) {
		if (round <= 4) {
			CHECK_EQUAL(bench->table->recv(bench->driver, &records[0], sockets[0],
			                               UL_STREAM_TCP, &records[0].token),
			            -EINPROGRESS);
			cancel_and_answer(bench, records[0].token, receives[round - 1], 0);
			CHECK_EQUAL(bench->table->recv_from(bench->driver, &records[1], udp,
			                                    &records[1].token), -EINPROGRESS);
			cancel_and_answer(bench, records[1].token, receives[round - 1], 0);
			CHECK_EQUAL(bench->table->accept(bench->driver, &records[2], listener,
			                                 false, &records[2].token), -EINPROGRESS);
			cancel_and_answer(bench, records[2].token, accepts[round - 1], 0);
			CHECK_EQUAL(bench->table->send(bench->driver, &records[3], sockets[0], &iov,
			                               1, &records[3].token), -EINPROGRESS);
			cancel_and_answer(bench, records[3].token, sends[round - 1], 0);
		}
		CHECK_EQUAL(bench->table->connect(bench->driver, &records[4], client,
		                                  (struct sockaddr *)&address, sizeof(address),
		                                  &records[4].token), -EINPROGRESS);
		cancel_and_answer(bench, records[4].token, connects[round - 1], 0);
		bench_harvest(bench);
		for (int index = 0; index < 5; index++) {
			CHECK_EQUAL(records[index].ends, index == 4 || round < 5 ? round : 4);
			CHECK_EQUAL(records[index].result, -ECANCELED);
			CHECK_EQUAL(records[index].completions, records[index].ends);
		}
		CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 0);
	}
	close_pair(sockets);
	close(listener);
	close(client);
	close(udp);
	bench_close(bench);
}

static void connection_that_came_before_the_cancel_is_the_owners(struct bench *bench)
{
	struct record server = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int connection = dup(0);

	bench_open(bench);
	bench_quiet(bench);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, false, &server.token),
	            -EINPROGRESS);
	cancel_and_answer(bench, server.token, connection, 0);
	bench_harvest(bench);
	CHECK_EQUAL(server.completions, 1);
	CHECK_EQUAL(server.ends, 1);
	CHECK_EQUAL(server.result, connection);
	close(connection);
	close(listener);
	bench_close(bench);
}

/* A connect that was asked for once more may find that the first has made it. */
static void socket_that_is_connected_already_is_an_error_the_first_time_only(
	struct bench *bench)
{
	struct record client = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	bench_open(bench);
	CHECK_EQUAL(bench->table->connect(bench->driver, &client, fd, (struct sockaddr *)&address,
	                                  sizeof(address), &client.token), -EINPROGRESS);
	answer_instead(bench, client.token, -EISCONN);
	UNTIL(bench, client.ends == 1);
	CHECK_EQUAL(client.result, -EISCONN);
	CHECK_EQUAL(bench->table->connect(bench->driver, &client, fd, (struct sockaddr *)&address,
	                                  sizeof(address), &client.token), -EINPROGRESS);
	answer_instead(bench, client.token, -EINTR);
	bench_harvest(bench);
	answer_instead(bench, client.token, -EISCONN);
	UNTIL(bench, client.ends == 2);
	CHECK_EQUAL(client.result, 0);
	close(fd);
	close(listener);
	bench_close(bench);
}

/* The poll that waits for it and the connect itself fail in turn. */
static void poll_that_fails_again_and_again_ends_what_waits_for_it(struct bench *bench)
{
	struct record client = { 0 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	bench_open(bench);
	CHECK_EQUAL(bench->table->connect(bench->driver, &client, fd, (struct sockaddr *)&address,
	                                  sizeof(address), &client.token), -EINPROGRESS);
	for (int round = 0; client.ends == 0; round++) {
		CHECK(round < 1000);
		answer_instead(bench, client.token, round % 2 == 0 ? -EALREADY : -EIO);
		bench_harvest(bench);
	}
	CHECK_EQUAL(client.completions, 1);
	CHECK_EQUAL(client.result, -EIO);
	close(fd);
	close(listener);
	bench_close(bench);
}

static void stream_whose_move_to_bulk_never_succeeds_goes_on_and_can_be_cancelled(
	struct bench *bench)
{
	struct uring *uring;
	struct uring_slot *slot;
	struct record reader = { 0 };
	int sockets[2];

	bench_open(bench);
	uring = uring_of(bench->driver);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], UL_STREAM_TCP,
	                               &reader.token), -EINPROGRESS);
	slot = uring_slot_find(uring, reader.token);
	bench_quiet(bench);
	if (slot->phase != PHASE_POLLING) {
		bench->table->hold(bench->driver, reader.token, false);
		for (int round = 0; slot->phase == PHASE_MOVING; round++) {
			CHECK(round < 1000);
			/* The kernel never sees that cancel. */
			CHECK_EQUAL(uring->sq_tail - uring->sq_head, 1);
			uring->sq_tail = uring->sq_head;
			answer(bench, TAGGED(TAG_CANCEL, reader.token), -EALREADY, 0);
			bench_harvest(bench);
		}
		CHECK_EQUAL(uring->sq_tail, uring->sq_head);
	}
	CHECK_EQUAL(reader.completions, 0);
	CHECK_EQUAL(write(sockets[1], "abc", 3), 3);
	UNTIL(bench, reader.size == 3);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(reader.result, -ECANCELED);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

/* Less than a sender's name and an empty datagram take: its buffer is not lost. */
static void entry_that_is_too_short_for_a_datagram_is_none(struct bench *bench)
{
	static const uint32_t more[] = { IORING_CQE_F_MORE, 0 };
	struct record reader = { 0 };
	struct sockaddr_in address;
	const struct pool *pool;
	int udp = make_udp(&address);
	int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	bench_open(bench);
	pool = &uring_of(bench->driver)->pools[POOL_DATAGRAM];
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &reader, udp, &reader.token),
	            -EINPROGRESS);
	if (pool->ring != NULL) {
		struct uring *uring = uring_of(bench->driver);

		uring_withdraw(uring, uring_slot_find(uring, reader.token));
		for (int index = 0; index < 2; index++) {
			uint32_t buffer = pool->ring->bufs[index].bid;

			answer(bench, reader.token, 4, more[index] | IORING_CQE_F_BUFFER |
			                                       buffer << IORING_CQE_BUFFER_SHIFT);
		}
		bench_harvest(bench);
		CHECK_EQUAL(reader.completions, 0);
		CHECK_EQUAL(pool->free_count + pool->in_ring, pool->count);
	}
	CHECK_EQUAL(sendto(sender, "datagram", 8, 0, (struct sockaddr *)&address,
	                   sizeof(address)), 8);
	UNTIL(bench, reader.completions == 1);
	CHECK_EQUAL(reader.size, 8);
	CHECK_EQUAL(memcmp(reader.data, "datagram", 8), 0);
	bench_cancel(bench, &reader);
	close(sender);
	close(udp);
	record_free(&reader);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(one_shot_answered_with_eagain_is_done_again),
		TEST(stream_interrupted_by_the_kernel_goes_on),
		TEST(accept_interrupted_by_a_client_goes_on),
		TEST(connect_started_twice_succeeds_once),
		TEST(cancel_that_found_nothing_is_repeated),
		TEST(data_with_the_last_entry_is_delivered),
		TEST(answer_that_means_once_more_ends_what_was_cancelled),
		TEST(connection_that_came_before_the_cancel_is_the_owners),
		TEST(socket_that_is_connected_already_is_an_error_the_first_time_only),
		TEST(poll_that_fails_again_and_again_ends_what_waits_for_it),
		TEST(stream_whose_move_to_bulk_never_succeeds_goes_on_and_can_be_cancelled),
		TEST(entry_that_is_too_short_for_a_datagram_is_none),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
