/*
 * What only the ring can get wrong: its queues, its buffers, its threads, and
 * answers of the kernel that are too rare to wait for.  Those are put into the
 * list of completion entries that a former ring left behind, where the driver
 * reads them as any other.
 *
 *     test_uring uring [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "driver_fixture.h"
#include "uring.h"

/* Answer `token` as the kernel would. */
static void answer(struct bench *bench, uint64_t user_data, int result, uint32_t flags)
{
	struct uring *uring = uring_of(bench->driver);

	uring->kept = realloc(uring->kept, (uring->kept_count + 1) * sizeof(*uring->kept));
	CHECK(uring->kept != NULL);
	memset(&uring->kept[uring->kept_count], 0, sizeof(*uring->kept));
	uring->kept[uring->kept_count].user_data = user_data;
	uring->kept[uring->kept_count].res = result;
	uring->kept[uring->kept_count].flags = flags;
	uring->kept_count++;
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
	CHECK_EQUAL(bench->table->cancel(bench->driver, sender.token), 0);
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
				                               sockets[index][0],
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
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0],
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
		CHECK(bench->table->statistics(bench->driver)->overflowed > 0);
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

static void turn_with_nothing_to_do_makes_no_system_call(struct bench *bench)
{
	struct record reader = { 0 };
	uint64_t enters;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
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
		CHECK_EQUAL(bench->table->recv_into(bench->driver, &record, sockets[1], buffer, 8,
		                                    0, &record.token), -EINPROGRESS);
		answer_instead(bench, record.token, answers[round]);
		UNTIL(bench, record.ends == round * 2 + 2);
		CHECK_EQUAL(record.result, 5);
	}
	/* An answer that comes again and again is not asked for for ever. */
	CHECK_EQUAL(bench->table->recv_into(bench->driver, &record, sockets[1], buffer, 8, 0,
	                                    &record.token), -EINPROGRESS);
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
		CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
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

		CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, &server.token),
		            -EINPROGRESS);
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
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
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	uring_withdraw(uring, uring_slot_find(uring, reader.token));
	/* The kernel would take the ring's oldest buffer, and so does this. */
	index = uring->pools[POOL_SMALL].ring->bufs[0].bid;
	memcpy(ul_pool_data(&uring->pools[POOL_SMALL], index), "raced", 5);
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

/* --- Receive buffers ------------------------------------------------------ */

static unsigned pool_of(struct bench *bench, const struct record *reader)
{
	struct uring *uring = uring_of(bench->driver);

	return uring_slot_find(uring, reader->token)->pool;
}

static void bulk_stream_moves_to_large_buffers_and_back(struct bench *bench)
{
	static char block[1024 * 1024];
	struct record reader = { 0 };
	struct uring *uring;
	size_t written = 0;
	int sockets[2];

	bench_open(bench);
	make_tcp_pair(sockets);
	uring = uring_of(bench->driver);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK(uring->pools[POOL_BULK].base == NULL);
	while (written < sizeof(block)) {
		ssize_t sent = write(sockets[1], block, sizeof(block) - written);

		if (sent > 0)
			written += (size_t)sent;
		bench_turn(bench, 0);
	}
	UNTIL(bench, reader.size == written);
	CHECK_EQUAL(pool_of(bench, &reader), POOL_BULK);
	for (int round = 1; round < 40; round++) {
		CHECK_EQUAL(write(sockets[1], "small", 5), 5);
		UNTIL(bench, reader.size == written + (size_t)round * 5);
	}
	CHECK_EQUAL(pool_of(bench, &reader), POOL_SMALL);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

struct flood {
	int fd;
	_Atomic bool stop;
};

static void *flood(void *argument)
{
	static const char block[65536];
	struct flood *state = argument;

	while (!state->stop)
		if (send(state->fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			usleep(50);
	return NULL;
}

static void flooding_socket_leaves_the_others_their_turn(struct bench *bench)
{
	struct record flooded = { 0 };
	struct record readers[10] = { 0 };
	struct flood state;
	pthread_t thread;
	int sockets[10][2];
	int pair[2];

	bench_open(bench);
	make_tcp_pair(pair);
	state = (struct flood){ .fd = pair[1] };
	CHECK_EQUAL(bench->table->recv(bench->driver, &flooded, pair[0], &flooded.token),
	            -EINPROGRESS);
	for (int index = 0; index < 10; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0],
		                               &readers[index].token), -EINPROGRESS);
	}
	CHECK_EQUAL(pthread_create(&thread, NULL, flood, &state), 0);
	for (size_t round = 1; round <= 30; round++) {
		int turns = 0;

		for (int index = 0; index < 10; index++)
			CHECK_EQUAL(write(sockets[index][1], "x", 1), 1);
		for (int index = 0; index < 10; index++)
			while (readers[index].size < round) {
				bench_turn(bench, TURN_NS);
				flooded.size = 0;
				CHECK(turns++ < 200);
			}
	}
	state.stop = true;
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	for (int index = 0; index < 10; index++) {
		bench_cancel(bench, &readers[index]);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	bench_cancel(bench, &flooded);
	close_pair(pair);
	record_free(&flooded);
	bench_close(bench);
}

static void lent_buffers_are_nobody_elses(struct bench *bench)
{
	struct ul_completion completions[64];
	struct record reader = { 0 };
	int count = 0;
	int sockets[2];

	bench->options.buffer_count = 4;
	bench->options.buffer_size = 4;
	bench->options.bulk_count = 1;
	bench->options.bulk_size = 4;
	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(write(sockets[1], "aaaabbbbccccddddeeeeffff", 24), 24);
	/* Nothing is given back: what is lent keeps its bytes, and no more comes. */
	for (int turn = 0; turn < 20; turn++) {
		int more;

		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
		while ((more = bench->table->harvest(bench->driver, completions + count,
		                                     64 - count)) > 0)
			count += more;
	}
	/* All of the small pool, or what came before the move to the only bulk buffer. */
	CHECK(count >= 3 && count <= 5);
	for (int index = 0; index < count; index++) {
		char letters[4];

		memset(letters, 'a' + index, 4);
		CHECK_EQUAL(memcmp(completions[index].data, letters, 4), 0);
	}
	for (int index = 0; index < count; index++)
		record_add(bench, &completions[index]);
	UNTIL(bench, reader.size == 24);
	CHECK_EQUAL(memcmp(reader.data, "aaaabbbbccccddddeeeeffff", 24), 0);
	CHECK(bench->table->statistics(bench->driver)->starved > 0);
	bench_cancel(bench, &reader);
	close_pair(sockets);
	record_free(&reader);
	bench_close(bench);
}

/* --- Requests ------------------------------------------------------------- */

static void request_runs_any_one_shot_operation(struct bench *bench)
{
	struct record record = { 0 };
	struct ul_request request = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
	                              .address = (uintptr_t)"/dev/null", .op_flags = O_RDONLY };

	bench_open(bench);
	CHECK(RESULT_OF(bench, &record, bench->table->submit(bench->driver, &record, &request,
	                                                     &record.token)) >= 0);
	close(record.result);
	request.address = (uintptr_t)"/no/such/file";
	CHECK_EQUAL(RESULT_OF(bench, &record, bench->table->submit(bench->driver, &record, &request,
	                                                           &record.token)), -ENOENT);
	request.opcode = 250;
	CHECK_EQUAL(RESULT_OF(bench, &record, bench->table->submit(bench->driver, &record, &request,
	                                                           &record.token)), -EINVAL);
	bench_close(bench);
}

/* --- Threads -------------------------------------------------------------- */

static void *drive_for_a_while(void *argument)
{
	struct bench *bench = argument;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_quiet(bench);
	bench->table->end(bench->driver);
	return NULL;
}

static void write_under_way_when_the_thread_changes_is_not_repeated(struct bench *bench)
{
	static char block[65536];
	struct record writer = { 0 };
	struct record late = { 0 };
	pthread_t thread;
	int fds[2];

	bench_open(bench);
	CHECK_EQUAL(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	while (write(fds[1], block, sizeof(block)) > 0)
		continue;
	CHECK_EQUAL(bench->table->write(bench->driver, &writer, fds[1], "x", 1, -1, &writer.token),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	/* The kernel has not seen this one: it is done by the next thread. */
	CHECK_EQUAL(bench->table->poll(bench->driver, &late, fds[1], POLLOUT, &late.token),
	            -EINPROGRESS);
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(writer.ends, 1);
	CHECK_EQUAL(writer.result, -ECANCELED);
	CHECK_EQUAL(late.ends, 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	while (read(fds[0], block, sizeof(block)) > 0)
		continue;
	UNTIL(bench, late.ends == 1);
	CHECK(late.result & POLLOUT);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->rebuilt, 2);
	close(fds[0]);
	close(fds[1]);
	bench_close(bench);
}

static void *shut_down(void *argument)
{
	struct bench *bench = argument;

	bench->table->shutdown(bench->driver);
	return NULL;
}

static void shutdown_from_another_thread_says_what_to_keep(struct bench *bench)
{
	struct record reader = { 0 };
	struct record receiver = { 0 };
	struct record unseen = { 0 };
	pthread_t thread;
	char buffer[8];
	bool foreign;
	int sockets[2];

	bench_open(bench);
	foreign = has(bench, UL_FEATURE_SINGLE_ISSUER);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], &reader.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->recv_into(bench->driver, &receiver, sockets[1], buffer, 8, 0,
	                                    &receiver.token), -EINPROGRESS);
	bench_quiet(bench);
	bench->table->end(bench->driver);
	CHECK_EQUAL(bench->table->poll(bench->driver, &unseen, sockets[1], POLLPRI,
	                               &unseen.token), -EINPROGRESS);
	CHECK_EQUAL(pthread_create(&thread, NULL, shut_down, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	bench_harvest(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(receiver.ends, 1);
	CHECK_EQUAL(unseen.ends, 1);
	CHECK_EQUAL(receiver.result, -ECANCELED);
	CHECK_EQUAL((receiver.flags & UL_KEEP) != 0, foreign);
	CHECK_EQUAL(unseen.flags & UL_KEEP, 0);
	bench->table->destroy(bench->driver);
	close_pair(sockets);
}

static void turn_in_a_thread_that_did_not_begin_it_makes_a_new_ring(struct bench *bench)
{
	struct record timer = { 0 };
	pthread_t thread;

	bench_open(bench);
	/* Begun elsewhere without an end, as no loop should. */
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(RESULT_OF(bench, &timer, bench->table->timeout(bench->driver, &timer, 1000,
	                                                           &timer.token)), -ETIME);
	bench_close(bench);
}

/* --- Probing -------------------------------------------------------------- */

static void probe_of_every_mask_finds_a_ring_that_works(struct bench *bench)
{
	struct ul_probe probe;

	for (unsigned bit = 0; bit < UL_FEATURE_COUNT; bit++) {
		CHECK(ul_feature_name(bit) != NULL);
		CHECK_EQUAL(ul_probe(&probe, UINT64_C(1) << bit), 0);
		CHECK_EQUAL(probe.features >> bit & 1, 0);
	}
	CHECK(ul_feature_name(UL_FEATURE_COUNT) == NULL);
	CHECK_EQUAL(ul_probe(&probe, UINT64_MAX), 0);
	CHECK_EQUAL(probe.features, 0);
	(void)bench;
}

static void open_with_a_limit_on_descriptors_fails_cleanly(struct bench *bench)
{
	struct ul_failure failure;
	int fds[512];
	int count = 0;

	while (count < 512 && (fds[count] = dup(0)) >= 0)
		count++;
	if (count < 512) {
		/* One descriptor less each time: every step of opening fails once. */
		for (int left = 0; left < 3; left++) {
			CHECK(ul_open(UL_KIND_URING, &bench->options, &failure) == NULL);
			CHECK_EQUAL(failure.error, EMFILE);
			close(fds[--count]);
		}
	}
	while (count > 0)
		close(fds[--count]);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(cancel_before_submission_ends_without_a_word),
		TEST(tiny_submission_queue_takes_everything_in_order),
		TEST(completion_queue_overflow_loses_nothing),
		TEST(overflow_at_the_end_of_a_run_is_there_in_the_next),
		TEST(turn_with_nothing_to_do_makes_no_system_call),
		TEST(registered_descriptor_serves_long_runs),
		TEST(one_shot_answered_with_eagain_is_done_again),
		TEST(stream_interrupted_by_the_kernel_goes_on),
		TEST(accept_interrupted_by_a_client_goes_on),
		TEST(connect_started_twice_succeeds_once),
		TEST(cancel_that_found_nothing_is_repeated),
		TEST(data_with_the_last_entry_is_delivered),
		TEST(bulk_stream_moves_to_large_buffers_and_back),
		TEST(flooding_socket_leaves_the_others_their_turn),
		TEST(lent_buffers_are_nobody_elses),
		TEST(request_runs_any_one_shot_operation),
		TEST(write_under_way_when_the_thread_changes_is_not_repeated),
		TEST(shutdown_from_another_thread_says_what_to_keep),
		TEST(turn_in_a_thread_that_did_not_begin_it_makes_a_new_ring),
		TEST(probe_of_every_mask_finds_a_ring_that_works),
		TEST(open_with_a_limit_on_descriptors_fails_cleanly),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
