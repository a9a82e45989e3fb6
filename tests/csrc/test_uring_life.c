/*
 * What only the ring can get wrong: its receive buffers, its thread, the probe.
 *
 *     test_uring_life uring [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>

#include "driver_fixture.h"
#include "ring/uring.h"

/* --- Receive buffers ------------------------------------------------------ */

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
	CHECK_EQUAL(bench->table->recv(bench->driver, &flooded, pair[0], 0, &flooded.token),
	            -EINPROGRESS);
	for (int index = 0; index < 10; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0], 0,
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
	bench_open(bench);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
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
	/* What came before the move to bulk, and then that there is more to take. */
	CHECK(count >= 3 && count <= 5);
	CHECK_EQUAL(completions[count - 1].flags, UL_READABLE | UL_MORE);
	for (int index = 0; index < count - 1; index++) {
		char letters[4];

		memset(letters, 'a' + index, 4);
		CHECK_EQUAL(memcmp(completions[index].data, letters, 4), 0);
	}
	for (int index = 0; index < count; index++)
		record_add(bench, &completions[index]);
	UNTIL(bench, reader.size == 24);
	CHECK_EQUAL(memcmp(reader.data, "aaaabbbbccccddddeeeeffff", 24), 0);
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
	CHECK_EQUAL(bench->table->submit(bench->driver, &record, &request, &record.token),
	            -EOPNOTSUPP);
	CHECK_EQUAL(record.token, 0);
	bench_close(bench);
}

/* --- Threads -------------------------------------------------------------- */

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
	/* A request's EAGAIN is its answer, so this one is to wait. */
	CHECK_EQUAL(fcntl(fds[1], F_SETFL, 0), 0);
	CHECK_EQUAL(submit_transfer(bench, &writer, IORING_OP_WRITE, fds[1], "x", 1, -1),
	            -EINPROGRESS);
	bench_turn(bench, 0);
	bench->table->end(bench->driver);
	/* The kernel has not seen this one: it is done by the next thread. */
	CHECK_EQUAL(bench->table->poll(bench->driver, &late, fds[1], POLLOUT, &late.token),
	            -EINPROGRESS);
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	if (writer.ends == 1) {
		CHECK(writer.result == -ECANCELED || writer.result == -ENOTBLK);
		/* Nobody but its thread could ask the old ring whether that is over. */
		CHECK_EQUAL((writer.flags & UL_KEEP) != 0, has(bench, UL_FEATURE_SINGLE_ISSUER));
	}
	CHECK_EQUAL(late.ends, 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	while (read(fds[0], block, sizeof(block)) > 0)
		continue;
	UNTIL(bench, late.ends == 1);
	CHECK(late.result & POLLOUT);
	UNTIL(bench, writer.ends == 1);
	CHECK(writer.result == -ECANCELED || writer.result == -ENOTBLK || writer.result == 1);
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
	struct record sender = { 0 };
	struct record unseen = { 0 };
	pthread_t thread;
	struct iovec iov = { "tail", 4 };
	bool foreign;
	int sockets[2];
	int full[2];

	bench_open(bench);
	foreign = has(bench, UL_FEATURE_SINGLE_ISSUER) &&
	          !has(bench, UL_FEATURE_DEFER_TASKRUN);
	make_tcp_pair(sockets);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, sockets[0], 0, &reader.token),
	            -EINPROGRESS);
	make_pair(full);
	fill_socket(full[0]);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, full[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	bench_quiet(bench);
	bench->table->end(bench->driver);
	CHECK_EQUAL(bench->table->poll(bench->driver, &unseen, sockets[1], POLLPRI,
	                               &unseen.token), -EINPROGRESS);
	CHECK_EQUAL(pthread_create(&thread, NULL, shut_down, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	bench_harvest(bench);
	CHECK_EQUAL(reader.ends, 1);
	CHECK_EQUAL(sender.ends, 1);
	CHECK_EQUAL(unseen.ends, 1);
	CHECK_EQUAL(sender.result, -ECANCELED);
	CHECK_EQUAL((sender.flags & UL_KEEP) != 0, foreign);
	CHECK_EQUAL(unseen.flags & UL_KEEP, 0);
	bench->table->destroy(bench->driver);
	close_pair(sockets);
	close_pair(full);
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

/* --- Shut down ------------------------------------------------------------ */

static void shutdown_gives_back_what_was_received_and_accepted_but_not_harvested(
	struct bench *bench)
{
	struct record reader = { 0 }, server = { 0 }, datagrams = { 0 };
	const struct pool *pools;
	struct sockaddr_in address, here;
	int listener = make_listener(&address);
	int udp = make_udp(&here);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fds, after;
	char byte;
	int pair[2];

	CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	make_tcp_pair(pair);
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	CHECK_EQUAL(sendto(udp, "abc", 3, 0, (struct sockaddr *)&here, sizeof(here)), 3);
	bench_open(bench);
	bench_quiet(bench);
	fds = dup(0);
	close(fds);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, pair[0], UL_STREAM_TCP,
	                               &reader.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->recv_from(bench->driver, &datagrams, udp, &datagrams.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->accept(bench->driver, &server, listener, false, &server.token),
	            -EINPROGRESS);
	for (int turn = 0; turn < 3; turn++)
		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
	/* Accepted, where an accept does not begin with a poll. */
	CHECK(fcntl(fds, F_GETFD) >= 0 || !has(bench, UL_FEATURE_MULTISHOT_ACCEPT));
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	CHECK_EQUAL(reader.size + datagrams.size, 0);
	CHECK_EQUAL(reader.ends + datagrams.ends + server.ends, 3);
	CHECK_EQUAL(reader.completions + datagrams.completions + server.completions, 3);
	CHECK_EQUAL(server.result, -ECANCELED);
	pools = uring_of(bench->driver)->pools;
	for (int pool = 0; pool < POOLS; pool++)
		for (uint32_t index = 0; index < pools[pool].count; index++)
			CHECK(pools[pool].places[index] == BUFFER_FREE ||
			      pools[pool].places[index] == BUFFER_IN_RING);
	bench->table->destroy(bench->driver);
	after = dup(0);
	CHECK(after <= fds);
	close(after);
	close(listener);
	/* The client is not left with a connection that nobody serves. */
	CHECK(arrives(client));
	CHECK(recv(client, &byte, 1, 0) <= 0);
	close(client);
	close(udp);
	close_pair(pair);
}

static void driver_that_is_shut_down_starts_nothing(struct bench *bench)
{
	struct ul_request request = { .opcode = IORING_OP_FSYNC, .fd = 0 };
	const struct ul_table *table;
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct iovec iov[2] = { { "abc", 3 }, { "def", 3 } };
	struct ul_driver *driver;
	ul_token tokens[11];

	bench_open(bench);
	table = bench->table;
	driver = bench->driver;
	table->end(driver);
	table->shutdown(driver);
	memset(tokens, 0xff, sizeof(tokens));
	CHECK_EQUAL(table->recv(driver, NULL, 0, UL_STREAM_TCP, &tokens[0]), -ESHUTDOWN);
	CHECK_EQUAL(table->recv_from(driver, NULL, 0, &tokens[1]), -ESHUTDOWN);
	CHECK_EQUAL(table->send(driver, NULL, 0, iov, 1, &tokens[2]), -ESHUTDOWN);
	CHECK_EQUAL(table->send(driver, NULL, 0, iov, 2, &tokens[3]), -ESHUTDOWN);
	CHECK_EQUAL(table->accept(driver, NULL, 0, false, &tokens[4]), -ESHUTDOWN);
	CHECK_EQUAL(table->connect(driver, NULL, 0, (struct sockaddr *)&address, sizeof(address),
	                           &tokens[5]), -ESHUTDOWN);
	CHECK_EQUAL(table->poll(driver, NULL, 0, POLLIN, &tokens[6]), -ESHUTDOWN);
	CHECK_EQUAL(table->timeout(driver, NULL, 1, &tokens[7]), -ESHUTDOWN);
	CHECK_EQUAL(table->splice(driver, NULL, 0, -1, 0, -1, 1, 0, &tokens[8]), -ESHUTDOWN);
	CHECK_EQUAL(table->submit(driver, NULL, &request, &tokens[9]), -ESHUTDOWN);
	CHECK_EQUAL(table->watch(driver, NULL, 0, POLLIN, &tokens[10]), -ESHUTDOWN);
	for (int index = 0; index < 11; index++)
		CHECK_EQUAL(tokens[index], 0);
	CHECK_EQUAL(table->begin(driver), -ESHUTDOWN);
	/* Nor does it sleep, for nothing would end that. */
	CHECK(table->immediate(driver));
	CHECK_EQUAL(table->turn(driver, UL_FOREVER), 0);
	CHECK_EQUAL(bench_harvest(bench), 0);
	table->destroy(driver);
}

/* closerange() by somebody who owns none of them. */
static void turn_of_a_ring_that_somebody_has_closed_fails_and_its_end_does_not_wait(
	struct bench *bench)
{
	struct record timer = { 0 };
	struct uring *uring;
	int64_t start;

	bench_open(bench);
	uring = uring_of(bench->driver);
	bench_quiet(bench);
	CHECK_EQUAL(close(uring->ring.ring_fd), 0);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 1000, &timer.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->turn(bench->driver, TURN_NS), -EBADF);
	start = now_ns();
	bench->table->end(bench->driver);
	bench->table->shutdown(bench->driver);
	/* Nothing is left to wait for. */
	CHECK(now_ns() - start < SECOND_NS / 2);
	bench_harvest(bench);
	CHECK_EQUAL(timer.ends, 1);
	CHECK_EQUAL(timer.result, -ECANCELED);
	bench->table->destroy(bench->driver);
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
	struct ul_driver *driver;
	int fds[512];
	int count = 0;

	while (count < 512 && (fds[count] = dup(0)) >= 0)
		count++;
	if (count < 512) {
		/* One descriptor less each time: every step of opening fails once. */
		for (int left = 0; left < 3; left++) {
			CHECK_EQUAL(ul_open(UL_KIND_URING, &bench->options, &failure, &driver), -1);
			CHECK(driver == NULL);
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
		TEST(flooding_socket_leaves_the_others_their_turn),
		TEST(lent_buffers_are_nobody_elses),
		TEST(request_runs_any_one_shot_operation),
		TEST(write_under_way_when_the_thread_changes_is_not_repeated),
		TEST(shutdown_from_another_thread_says_what_to_keep),
		TEST(turn_in_a_thread_that_did_not_begin_it_makes_a_new_ring),
		TEST(shutdown_gives_back_what_was_received_and_accepted_but_not_harvested),
		TEST(driver_that_is_shut_down_starts_nothing),
		TEST(turn_of_a_ring_that_somebody_has_closed_fails_and_its_end_does_not_wait),
		TEST(probe_of_every_mask_finds_a_ring_that_works),
		TEST(open_with_a_limit_on_descriptors_fails_cleanly),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
