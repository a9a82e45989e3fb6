/*
 * Each allocation and each system call of the driver's fails once, in turn: whatever was asked
 * for is refused, ends with an error, or is done all the same; each operation ends once; the
 * driver goes on; and nothing is left behind.
 *
 *     test_faults KIND [disabled features [one test]]
 */
#include <poll.h>

#include "driver_fixture.h"
#include "faults.h"
#include "ring/uring.h"
#include "selector/calls.h"
#include "selector/selector.h"

/* Of one path, while it is tried. */
#define DRIVER(call)                                                                  \
	({                                                                            \
		faults_armed = true;                                                  \
		__auto_type result_ = (call);                                         \
		faults_armed = false;                                                 \
		result_;                                                              \
	})
#define DRIVER_DO(call)                                                               \
	do {                                                                          \
		faults_armed = true;                                                  \
		call;                                                                 \
		faults_armed = false;                                                 \
	} while (0)

#define FDS 256
#define RECORDS 12

/* What a path works on; made and unmade with no fault. */
struct place {
	struct record records[RECORDS];
	bool asked[RECORDS];         /* an operation of it is in flight */
	int tcp[2];
	int pipe[2];
	int udp[2];
	int listener;
	int client;
	int connecting;
	struct sockaddr_in address;
	struct sockaddr_in udp_address;
	bool watched;
	int opened;
	char path[32];
	char data[64];
};

static const struct slots *slots_of(const struct bench *bench)
{
	return is_ring(bench) ? &((struct uring *)bench->driver)->slots :
	       &((struct selector *)bench->driver)->slots;
}

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < FDS; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void place_make(struct place *place)
{
	memset(place, 0, sizeof(*place));
	make_tcp_pair(place->tcp);
	CHECK_EQUAL(pipe2(place->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	place->udp[0] = make_udp(&place->udp_address);
	place->udp[1] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK_EQUAL(connect(place->udp[1], (struct sockaddr *)&place->udp_address,
	                    sizeof(place->udp_address)), 0);
	place->listener = make_listener(&place->address);
	place->client = -1;
	place->connecting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	place->opened = -1;
	strcpy(place->path, "/tmp/faults-XXXXXX");
	for (int index = 0; index < RECORDS; index++)
		record_reserve(&place->records[index], 1 << 18);
}

static void place_unmake(struct place *place)
{
	close_pair(place->tcp);
	close_pair(place->pipe);
	close_pair(place->udp);
	close(place->listener);
	close(place->connecting);
	if (place->client >= 0)
		close(place->client);
	for (int index = 0; index < RECORDS; index++)
		record_free(&place->records[index]);
}

/* Note what a verb answered. */
static void ask(struct place *place, int index, int result)
{
	struct record *record = &place->records[index];

	place->asked[index] = result == -EINPROGRESS;
	CHECK((record->token != 0) == place->asked[index]);
	if (result != -EINPROGRESS)
		record_result(record, result, 0);
}

static void turn(struct bench *bench, int64_t timeout_ns)
{
	struct ul_completion completions[16];
	int count;

	/* A shortage or an interrupt is no broken driver. */
	CHECK_EQUAL(DRIVER(bench->table->turn(bench->driver, timeout_ns)), 0);
	while ((count = DRIVER(bench->table->harvest(bench->driver, completions, 16))) > 0)
		for (int index = 0; index < count; index++) {
			if (completions[index].flags & UL_WATCH)
				continue;
			if (completions[index].flags & UL_READABLE) {
				faults_armed = true;
				record_take(bench, completions[index].owner,
				            completions[index].token);
				faults_armed = false;
				continue;
			}
			record_add(bench, &completions[index]);
		}
	CHECK_EQUAL(count, 0);
}

#define TURN_UNTIL(condition)                                                         \
	do {                                                                          \
		int64_t deadline_ = now_ns() + PATIENCE_NS;                           \
		while (!(condition)) {                                                \
			CHECK(now_ns() < deadline_);                                  \
			turn(bench, 20 * MILLISECOND_NS);                             \
		}                                                                     \
	} while (0)

/* Opened and begun; false when a fault has forbidden it, and then nothing is left. */
static bool opened(struct bench *bench)
{
	int result = DRIVER(bench_make(bench));

	if (result != 0) {
		CHECK(result < 0);
		bench->driver = NULL;
		return false;
	}
	result = DRIVER(bench->table->begin(bench->driver));
	if (result != 0)
		CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	return true;
}

static void closed(struct bench *bench, struct place *place)
{
	DRIVER_DO(bench->table->end(bench->driver));
	DRIVER_DO(bench->table->shutdown(bench->driver));
	bench_harvest(bench);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 0);
	for (int index = 0; index < RECORDS; index++)
		CHECK_EQUAL(place->records[index].ends <= 1, 1);
	DRIVER_DO(bench->table->destroy(bench->driver));
}

/* No fault strikes any more: everything works. */
static void works(struct bench *bench)
{
	struct record reader = { 0 }, sender = { 0 }, timer = { 0 };
	struct iovec iov = { "abc", 3 };
	int pair[2];

	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->recv(bench->driver, &reader, pair[0], UL_STREAM_TCP,
	                               &reader.token), -EINPROGRESS);
	CHECK_EQUAL(RESULT_OF(bench, &sender, bench->table->send(bench->driver, &sender, pair[1],
	                                                         &iov, 1, &sender.token)), 3);
	UNTIL(bench, reader.size == 3);
	CHECK_EQUAL(RESULT_OF(bench, &timer, bench->table->timeout(bench->driver, &timer, 1000,
	                                                           &timer.token)), -ETIME);
	bench->table->wake(bench->driver);
	bench_turn(bench, 10 * SECOND_NS);
	bench_cancel(bench, &reader);
	CHECK_EQUAL(bench->table->close(bench->driver, pair[0]), 0);
	close(pair[1]);
	record_free(&reader);
}

static void streams(struct bench *bench, struct place *place)
{
	struct record *reader = &place->records[0];
	struct iovec iov[3] = { { "one", 3 }, { "two", 3 }, { "three", 5 } };
	char big[65536];
	int sent;

	memset(big, 'b', sizeof(big));
	ask(place, 0, DRIVER(bench->table->recv(bench->driver, reader, place->tcp[0],
	                                        UL_STREAM_TCP, &reader->token)));
	ask(place, 1, DRIVER(bench->table->send(bench->driver, &place->records[1], place->tcp[1],
	                                        iov, 3, &place->records[1].token)));
	TURN_UNTIL(place->records[1].ends == 1);
	sent = place->records[1].result > 0 ? place->records[1].result : 0;
	TURN_UNTIL(reader->size == (size_t)sent || reader->ends == 1);
	/* In bulk, which makes it a stream that is taken from. */
	for (int round = 0; round < 4 && reader->ends == 0; round++) {
		ssize_t more = write(place->tcp[1], big, sizeof(big));

		CHECK(more > 0);
		sent += (int)more;
		TURN_UNTIL(reader->size >= (size_t)sent || reader->ends == 1);
	}
	/* Nothing is lost but by an end that is told. */
	if (reader->ends == 0) {
		CHECK_EQUAL(reader->size, sent);
		DRIVER_DO(bench->table->cancel(bench->driver, reader->token));
		TURN_UNTIL(reader->ends == 1 ||
		           bench->table->statistics(bench->driver)->in_flight == 0);
	}
}

/* A send that has to wait, of more pieces than there is room for in an operation. */
static void full_stream(struct bench *bench, struct place *place)
{
	struct record *sender = &place->records[10];
	char big[65536];
	struct iovec iov[20];

	memset(big, 'b', sizeof(big));
	while (write(place->tcp[0], big, sizeof(big)) > 0)
		;
	for (int index = 0; index < 20; index++)
		iov[index] = (struct iovec){ big, 100 };
	ask(place, 10, DRIVER(bench->table->send(bench->driver, sender, place->tcp[0], iov, 20,
	                                         &sender->token)));
	turn(bench, 0);
	while (sender->ends == 0) {
		while (read(place->tcp[1], big, sizeof(big)) > 0)
			;
		turn(bench, MILLISECOND_NS);
	}
	CHECK(sender->result > 0 || fault.struck);
}

static void sockets(struct bench *bench, struct place *place)
{
	struct record *records = place->records;
	ul_token token;

	ask(place, 2, DRIVER(bench->table->accept(bench->driver, &records[2], place->listener,
	                                          false, &records[2].token)));
	ask(place, 3, DRIVER(bench->table->connect(
		bench->driver, &records[3], place->connecting, (struct sockaddr *)&place->address,
		sizeof(place->address), &records[3].token)));
	TURN_UNTIL(records[3].ends == 1);
	if (records[3].result == 0)
		TURN_UNTIL(records[2].completions > 0);
	if (records[2].completions > 0 && records[2].results[0] >= 0)
		close(records[2].results[0]);
	if (records[2].ends == 0) {
		DRIVER_DO(bench->table->cancel(bench->driver, records[2].token));
		TURN_UNTIL(records[2].ends == 1 ||
		           bench->table->statistics(bench->driver)->in_flight == 0);
	}
	ask(place, 4, DRIVER(bench->table->recv_from(bench->driver, &records[4], place->udp[0],
	                                             &records[4].token)));
	CHECK_EQUAL(write(place->udp[1], "datagram", 8), 8);
	TURN_UNTIL(records[4].completions > 0);
	if (records[4].result >= 0)
		CHECK_EQUAL(records[4].size, 8);
	ask(place, 5, DRIVER(bench->table->poll(bench->driver, &records[5], place->pipe[0], POLLIN,
	                                        &records[5].token)));
	place->watched = DRIVER(bench->table->watch(bench->driver, &records[11], place->pipe[0],
	                                            EPOLLIN, &token)) == 0;
	CHECK_EQUAL(write(place->pipe[1], "x", 1), 1);
	ask(place, 6, DRIVER(bench->table->timeout(bench->driver, &records[6], 1000,
	                                           &records[6].token)));
	TURN_UNTIL(records[5].ends == 1 && records[6].ends == 1);
	CHECK(records[6].result == -ETIME || fault.struck);
	if (place->watched)
		CHECK_EQUAL(bench->table->watch(bench->driver, NULL, place->pipe[0], 0, &token), 0);
}

static void requests(struct bench *bench, struct place *place)
{
	struct record *records = place->records;
	struct ul_request request = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
	                              .address = (uintptr_t)place->path, .length = 0600,
	                              .op_flags = O_RDWR | O_CREAT | O_CLOEXEC };
	int fd;

	fd = mkstemp(place->path);
	CHECK(fd >= 0);
	close(fd);
	ask(place, 7, DRIVER(bench->table->submit(bench->driver, &records[7], &request,
	                                          &records[7].token)));
	TURN_UNTIL(records[7].ends == 1);
	fd = records[7].result;
	CHECK_EQUAL(unlink(place->path), 0);
	if (fd < 0)
		return;
	request = (struct ul_request){ .opcode = IORING_OP_WRITE, .fd = fd,
	                               .address = (uintptr_t)"contents", .length = 8 };
	ask(place, 8, DRIVER(bench->table->submit(bench->driver, &records[8], &request,
	                                          &records[8].token)));
	TURN_UNTIL(records[8].ends == 1);
	request = (struct ul_request){ .opcode = IORING_OP_READ, .fd = fd,
	                               .address = (uintptr_t)place->data, .length = 64 };
	ask(place, 9, DRIVER(bench->table->submit(bench->driver, &records[9], &request,
	                                          &records[9].token)));
	TURN_UNTIL(records[9].ends == 1);
	if (records[8].result == 8 && records[9].result > 0)
		CHECK_EQUAL(memcmp(place->data, "contents", 8), 0);
	close(fd);
}

struct elsewhere {
	struct bench *bench;
	int result;
};

static void *drive(void *argument)
{
	struct elsewhere *elsewhere = argument;
	struct bench *bench = elsewhere->bench;
	int result = DRIVER(bench->table->begin(bench->driver));

	elsewhere->result = result;
	if (result != 0 && bench->table->begin(bench->driver) != 0)
		return NULL;
	turn(bench, 0);
	turn(bench, 0);
	DRIVER_DO(bench->table->end(bench->driver));
	return argument;
}

/* What waits moves to another thread's ring, and back. */
static void threads(struct bench *bench, struct place *place)
{
	struct record *reader = &place->records[0], *timer = &place->records[6];
	struct record *server = &place->records[2];
	struct elsewhere elsewhere = { .bench = bench };
	pthread_t thread;
	void *went;

	ask(place, 0, DRIVER(bench->table->recv(bench->driver, reader, place->tcp[0],
	                                        UL_STREAM_TCP, &reader->token)));
	ask(place, 6, DRIVER(bench->table->timeout(bench->driver, timer,
	                                           600 * (uint64_t)SECOND_NS, &timer->token)));
	/* Which no end of a run leaves in the kernel. */
	ask(place, 2, DRIVER(bench->table->accept(bench->driver, server, place->listener, false,
	                                          &server->token)));
	turn(bench, 0);
	DRIVER_DO(bench->table->end(bench->driver));
	CHECK_EQUAL(__real_pthread_create(&thread, NULL, drive, &elsewhere), 0);
	CHECK_EQUAL(pthread_join(thread, &went), 0);
	CHECK(went != NULL);
	if (DRIVER(bench->table->begin(bench->driver)) != 0)
		CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(place->tcp[1], "abc", 3), 3);
	if (place->asked[0])
		TURN_UNTIL(reader->size == 3 || reader->ends == 1);
	place->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQUAL(connect(place->client, (struct sockaddr *)&place->address,
	                    sizeof(place->address)), 0);
	TURN_UNTIL(server->completions > 0);
	if (server->results[0] >= 0)
		close(server->results[0]);
	else
		CHECK(fault.struck);
	if (server->ends == 0)
		bench_cancel(bench, server);
	DRIVER_DO(bench->table->wake(bench->driver));
	turn(bench, SECOND_NS);
	if (place->asked[6] && timer->ends == 0)
		bench_cancel(bench, timer);
	else
		CHECK(fault.struck);
}

/* --- In a forked child ---------------------------------------------------- */

/* What the child is left with works, though it may have taken two tries; 0, or -errno. */
static int child_begins(struct bench *bench, const struct record *poller, int peer)
{
	int result = DRIVER(bench->table->begin(bench->driver));

	if (result != 0)
		CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(peer, "abc", 3), 3);
	UNTIL(bench, poller->ends == 1);
	CHECK(poller->result == POLLIN || fault.struck);
	works(bench);
	return result;
}

static void each_child_begins(struct bench *bench)
{
	struct record watcher = { 0 }, timer = { 0 };
	int refused = 0, reached = 1;
	int pair[2], watched[2];

	bench_open(bench);
	if (!bench_can_fork(bench)) {
		bench_close(bench);
		return;
	}
	make_tcp_pair(pair);
	make_pair(watched);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 600 * (uint64_t)SECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, watched[0], EPOLLIN,
	                                &watcher.token), 0);
	bench_quiet(bench);
	for (fault.at = 1; reached != 0; fault.at++) {
		reached = 0;
		for (fault.variant = 0;; fault.variant++) {
			struct record poller = { 0 };
			int status = 0;
			pid_t child;

			CHECK_EQUAL(bench->table->poll(bench->driver, &poller, pair[0], POLLIN,
			                               &poller.token), -EINPROGRESS);
			bench_turn(bench, 0);
			child = fork();
			CHECK(child >= 0);
			if (child == 0) {
				int result;

				alarm(PATIENCE_NS / SECOND_NS);
				fault.calls = 0;
				fault.reached = fault.struck = false;
				result = child_begins(bench, &poller, pair[1]);
				CHECK(result == 0 || fault.struck);
				_exit(2 * fault.reached + 4 * fault.struck + 8 * (result != 0));
			}
			CHECK_EQUAL(waitpid(child, &status, 0), child);
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 1);
			reached |= WEXITSTATUS(status) & 2;
			refused += (WEXITSTATUS(status) & 8) != 0;
			UNTIL(bench, poller.ends == 1);
			drain_socket(pair[0]);
			if ((WEXITSTATUS(status) & 4) == 0)
				break;
		}
	}
	fprintf(stderr, "%ld calls, %d refusals; ", fault.at - 2, refused);
	CHECK(refused > 2);
	fault.at = 0;
	bench_cancel(bench, &timer);
	CHECK_EQUAL(bench->table->watch(bench->driver, NULL, watched[0], 0, &watcher.token), 0);
	close_pair(pair);
	close_pair(watched);
	bench_close(bench);
}

/* --- With no place in the table of operations ----------------------------- */

#define VERBS 10

static int verb(struct bench *bench, struct place *place, int full, int which, ul_token *token)
{
	const struct ul_table *table = bench->table;
	struct ul_request request = { .opcode = IORING_OP_FSYNC, .fd = place->listener };
	static char big[20000];
	struct iovec iov[20];
	void *owner = &place->records[0];

	for (int index = 0; index < 20; index++)
		iov[index] = (struct iovec){ big, 1000 };
	switch (which) {
	case 0:
		return table->recv(bench->driver, owner, place->tcp[0], UL_STREAM_TCP, token);
	case 1:
		return table->recv_from(bench->driver, owner, place->udp[0], token);
	case 2:
		return table->send(bench->driver, owner, full, iov, 1, token);
	case 3:
		return table->send(bench->driver, owner, full, iov, 2, token);
	case 4:
		return table->send(bench->driver, owner, full, iov, 20, token);
	case 5:
		return table->accept(bench->driver, owner, place->listener, true, token);
	case 6:
		return table->connect(bench->driver, owner, place->connecting,
		                      (struct sockaddr *)&place->address,
		                      sizeof(place->address), token);
	case 7:
		return table->poll(bench->driver, owner, place->pipe[0], POLLIN, token);
	case 8:
		return table->timeout(bench->driver, owner, 600 * (uint64_t)SECOND_NS, token);
	default:
		return table->submit(bench->driver, owner, &request, token);
	}
}

static void verb_for_which_there_is_no_memory_starts_nothing(struct bench *bench)
{
	struct ul_options options = bench->options;

	for (int which = 0; which < VERBS; which++) {
		struct place place;
		bool grew = false;
		int full[2];

		place_make(&place);
		make_pair(full);
		fill_socket(full[0]);
		for (fault.at = 1, fault.reached = true; fault.reached; fault.at++) {
			struct record timer = { 0 };
			uint64_t in_flight;
			ul_token token = 1;
			int result;

			fault.variant = 0;
			fault.calls = 0;
			fault.reached = fault.struck = false;
			bench->options = options;
			bench_open(bench);
			/* Up to the end of the first block of slots. */
			while (slots_of(bench)->first_free != 0)
				CHECK_EQUAL(bench->table->timeout(bench->driver, &timer,
				                                  600 * (uint64_t)SECOND_NS,
				                                  &timer.token), -EINPROGRESS);
			in_flight = bench->table->statistics(bench->driver)->in_flight;
			result = DRIVER(verb(bench, &place, full[0], which, &token));
			if (result != -EINPROGRESS) {
				CHECK(token == 0);
				CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight,
				            in_flight);
			}
			if (fault.struck && strcmp(fault.name, "realloc") == 0 &&
			    result == -ENOMEM)
				grew = true;
			CHECK(fault.struck || result == -EINPROGRESS || result >= 0);
			bench_close(bench);
		}
		/* A connect is made at once where that can be. */
		CHECK(grew || (which == 6 && !is_ring(bench)));
		close_pair(full);
		place_unmake(&place);
	}
	fault.at = 0;
}

/* As a thread does, for a file that is to block. */
static void open_whose_flags_cannot_be_set_leaves_no_descriptor(struct bench *bench)
{
	struct ul_request request = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
	                              .address = (uintptr_t)"/", .op_flags = O_RDONLY };
	int fds = count_fds();
	int64_t result;

	if (is_ring(bench))
		return;
	fault.at = 1;
	fault.variant = fault.calls = 0;
	CHECK_EQUAL(DRIVER(calls_make(&request)), -EPERM);
	CHECK_EQUAL(strcmp(fault.name, "fcntl"), 0);
	CHECK_EQUAL(count_fds(), fds);
	fault.at = 0;
	result = calls_make(&request);
	CHECK(result >= 0);
	close((int)result);
}

static void probe_survives_each_failure(struct bench *bench)
{
	int failures = 0;

	if (!is_ring(bench))
		return;
	for (fault.at = 1, fault.reached = true; fault.reached; fault.at++)
		for (fault.variant = 0, fault.struck = true; fault.struck; fault.variant++) {
			struct ul_probe probe;
			long blocks = faults_blocks;
			int fds = count_fds();
			int result;

			fault.calls = 0;
			fault.reached = fault.struck = false;
			result = DRIVER(ul_probe(&probe, bench->options.disable));
			CHECK_EQUAL(probe.error, -result);
			CHECK_EQUAL(strlen(probe.reason) != 0, result != 0);
			CHECK(result == 0 || fault.struck);
			CHECK_EQUAL(count_fds(), fds);
			CHECK_EQUAL(faults_blocks, blocks);
			failures += result != 0;
		}
	fprintf(stderr, "%ld calls, %d failures; ", fault.at - 2, failures);
	CHECK(failures > 5);
	fault.at = 0;
}

/* --- Paths, tried --------------------------------------------------------- */

/* Until a call is asked to fail that is not made any more: all of the path's have. */
static void each_fails(struct bench *bench, void (*path)(struct bench *, struct place *))
{
	struct ul_options options = bench->options;
	int struck = 0;

	/* The first time makes what a process keeps. */
	for (fault.at = 0;; fault.at++) {
		for (fault.variant = 0;; fault.variant++) {
			struct place place;
			long blocks = faults_blocks;
			int fds = count_fds();

			fault.calls = 0;
			fault.reached = fault.struck = false;
			fault.name = "nothing";
			bench->options = options;
			place_make(&place);
			if (opened(bench)) {
				path(bench, &place);
				works(bench);
				closed(bench, &place);
			}
			place_unmake(&place);
			CHECK_EQUAL(count_fds(), fds);
			if (fault.at != 0)
				CHECK_EQUAL(faults_blocks, blocks);
			struck += fault.struck;
			if (!fault.struck)
				break;
		}
		if (fault.at != 0 && !fault.reached)
			break;
	}
	fprintf(stderr, "%ld calls, %d failures; ", fault.at - 1, struck);
	CHECK(struck > 20);
	fault.at = 0;
}

static void streams_survive_each_failure(struct bench *bench)
{
	each_fails(bench, streams);
}

static void sockets_timers_and_watches_survive_each_failure(struct bench *bench)
{
	each_fails(bench, sockets);
}

static void send_that_waits_survives_each_failure(struct bench *bench)
{
	each_fails(bench, full_stream);
}

static void requests_survive_each_failure(struct bench *bench)
{
	each_fails(bench, requests);
}

static void begin_in_a_forked_child_survives_each_failure(struct bench *bench)
{
	each_child_begins(bench);
}

static void change_of_thread_survives_each_failure(struct bench *bench)
{
	each_fails(bench, threads);
}

/* A test that fails ends the program. */
static void say_which(void)
{
	if (fault.at != 0)
		fprintf(stderr, "when call %ld, of %s, had failed with errno %d\n", fault.at,
		        fault.name, fault.error);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(streams_survive_each_failure),
		TEST(sockets_timers_and_watches_survive_each_failure),
		TEST(send_that_waits_survives_each_failure),
		TEST(requests_survive_each_failure),
		TEST(change_of_thread_survives_each_failure),
		TEST(begin_in_a_forked_child_survives_each_failure),
		TEST(verb_for_which_there_is_no_memory_starts_nothing),
		TEST(open_whose_flags_cannot_be_set_leaves_no_descriptor),
		TEST(probe_survives_each_failure),
	};

	atexit(say_which);
	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
