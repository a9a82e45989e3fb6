/*
 * What a forked child makes of a ring that it inherits.
 *
 *     test_uring_fork uring [disabled features [one test]]
 */
#include <pthread.h>

#include "driver_fixture.h"
#include "ring/uring.h"

static void say(struct bench *bench, struct record *reader, int peer)
{
	size_t size = reader->size;

	CHECK_EQUAL(write(peer, "abc", 3), 3);
	UNTIL(bench, reader->size == size + 3);
}

static void listen_to(struct bench *bench, struct record *reader, int pair[2])
{
	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->recv(bench->driver, reader, pair[0], UL_STREAM_TCP,
	                               &reader->token), -EINPROGRESS);
	say(bench, reader, pair[1]);
}

static void end_the_old_beside_an_own(struct bench *old)
{
	struct bench own = { .kind = "uring", .options = old->options };
	struct record reader = { 0 };
	int pair[2];

	bench_open(&own);
	listen_to(&own, &reader, pair);
	old->table->shutdown(old->driver);
	bench_harvest(old);
	old->table->destroy(old->driver);
	say(&own, &reader, pair[1]);
	bench_cancel(&own, &reader);
	close_pair(pair);
	bench_close(&own);
}

static void child_that_ends_it_keeps_the_memory_of_its_own(struct bench *bench)
{
	struct record reader = { 0 };
	int pair[2];

	bench_open(bench);
	if (!bench_can_fork(bench)) {
		bench_close(bench);
		return;
	}
	listen_to(bench, &reader, pair);
	IN_CHILD(end_the_old_beside_an_own(bench));
	say(bench, &reader, pair[1]);
	bench_cancel(bench, &reader);
	close_pair(pair);
	record_free(&reader);
	bench_close(bench);
}

static void find_ended(struct bench *bench, struct record *sender, struct record *opener)
{
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	UNTIL(bench, sender->ends == 1 && opener->ends == 1);
	CHECK_EQUAL(sender->result, 3);
	CHECK_EQUAL(close(opener->result), 0);
	bench_close(bench);
}

static void only_end(struct bench *bench, struct record *opener)
{
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	CHECK_EQUAL(close(opener->result), 0);
	bench->table->destroy(bench->driver);
}

/* The queue has its completion entry. */
static bool is_answered(const struct bench *bench, const struct record *record)
{
	const struct uring *uring = uring_of(bench->driver);
	uint32_t tail = io_uring_smp_load_acquire(uring->cq_ktail);

	for (uint32_t head = uring->cq_head; head != tail; head++)
		if (uring->cqes[head & uring->cq_mask].user_data == record->token)
			return true;
	return false;
}

/* Not harvested yet, in a ring whose memory the child does not have. */
static void what_had_ended_before_the_fork_has_ended_in_the_child(struct bench *bench)
{
	struct record sender = { 0 }, opener = { 0 }, acceptor = { 0 };
	struct ul_request request = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
	                              .address = (uintptr_t)"/dev/null" };
	struct iovec iov = { "abc", 3 };
	struct sockaddr_in address;
	int listener = make_listener(&address);
	char buffer[8];
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int before;
	int pair[2];

	bench_open(bench);
	if (!bench_can_fork(bench)) {
		bench_close(bench);
		return;
	}
	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->accept(bench->driver, &acceptor, listener, false,
	                                 &acceptor.token), -EINPROGRESS);
	bench_turn(bench, 0);
	before = dup(0);
	close(before);
	CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, pair[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	CHECK_EQUAL(bench->table->submit(bench->driver, &opener, &request, &opener.token),
	            -EINPROGRESS);
	/* Until all three have happened, as far as the kernel is concerned. */
	for (int64_t deadline = now_ns() + PATIENCE_NS; fcntl(before, F_GETFD) < 0 ||
	     fcntl(before + 1, F_GETFD) < 0 || recv(pair[1], buffer, 8, MSG_PEEK) != 3;) {
		CHECK(now_ns() < deadline);
		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
	}
	/* And until the kernel has said so: a worker's word comes with a later turn. */
	for (int64_t deadline = now_ns() + PATIENCE_NS; !is_answered(bench, &opener) ||
	     !is_answered(bench, &sender);) {
		CHECK(now_ns() < deadline);
		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
	}
	IN_CHILD(find_ended(bench, &sender, &opener));
	IN_CHILD(only_end(bench, &opener));
	CHECK_EQUAL(recv(pair[1], buffer, 8, 0), 3);
	CHECK_EQUAL(recv(pair[1], buffer, 8, MSG_DONTWAIT), -1);
	UNTIL(bench, sender.ends == 1 && opener.ends == 1 && acceptor.completions == 1);
	close(opener.result);
	close(acceptor.result);
	close(client);
	bench_cancel(bench, &acceptor);
	close(listener);
	close_pair(pair);
	bench_close(bench);
}

static void find_sent(struct bench *bench, struct record *sender)
{
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	UNTIL(bench, sender->ends == 1);
	CHECK_EQUAL(sender->result, 3);
	bench_close(bench);
}

struct forker {
	struct bench *bench;
	struct record *sender;
};

static void *fork_here(void *argument)
{
	struct forker *forker = argument;

	IN_CHILD(find_sent(forker->bench, forker->sender));
	return NULL;
}

/* Which may not look into the ring of a thread that runs. */
static void send_that_was_seen_to_have_ended_is_not_repeated_by_another_threads_child(
	struct bench *bench)
{
	struct record sender = { 0 };
	struct forker forker = { bench, &sender };
	struct iovec iov = { "abc", 3 };
	pthread_t thread;
	int64_t deadline = now_ns() + PATIENCE_NS;
	int pair[2];

	bench_open(bench);
	if (!bench_can_fork(bench)) {
		bench_close(bench);
		return;
	}
	make_tcp_pair(pair);
	CHECK_EQUAL(bench->table->send(bench->driver, &sender, pair[0], &iov, 1, &sender.token),
	            -EINPROGRESS);
	do {
		CHECK(now_ns() < deadline);
		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
	} while (bench->table->outcome(bench->driver, sender.token, false) == -EINPROGRESS);
	CHECK_EQUAL(pthread_create(&thread, NULL, fork_here, &forker), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	UNTIL(bench, sender.ends == 1);
	CHECK_EQUAL(sender.result, 3);
	CHECK(arrives(pair[1]));
	CHECK_EQUAL(drain_socket(pair[1]), 3);
	close_pair(pair);
	bench_close(bench);
}

static void *make_rings(void *argument)
{
	const struct bench *bench = argument;
	struct bench own = { .kind = "uring", .options = bench->options };

	for (int count = 0; count < 100; count++) {
		CHECK_EQUAL(bench_make(&own), 0);
		own.table->destroy(own.driver);
	}
	return NULL;
}

/* The number of io_uring descriptors of this process. */
static int count_rings(void)
{
	char path[64], target[64];
	int count = 0;

	for (int fd = 0; fd < 256; fd++) {
		ssize_t size;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		size = readlink(path, target, sizeof(target) - 1);
		target[size > 0 ? size : 0] = '\0';
		count += strstr(target, "io_uring") != NULL;
	}
	return count;
}

/* Its allocator's locks do not survive a fork of a process with threads. */
#ifdef __SANITIZE_ADDRESS__
#define CAN_ALLOCATE false
#else
#define CAN_ALLOCATE true
#endif

static void child_forked_while_rings_are_made_has_none_and_can_make_one(struct bench *bench)
{
	pthread_t thread;

	if (!bench_can_fork(bench))
		return;
	CHECK_EQUAL(pthread_create(&thread, NULL, make_rings, bench), 0);
	for (int count = 0; count < 30; count++)
		IN_CHILD({
			CHECK_EQUAL(count_rings(), 0);
			if (CAN_ALLOCATE)
				CHECK_EQUAL(bench_make(bench), 0);
		});
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(child_that_ends_it_keeps_the_memory_of_its_own),
		TEST(what_had_ended_before_the_fork_has_ended_in_the_child),
		TEST(send_that_was_seen_to_have_ended_is_not_repeated_by_another_threads_child),
		TEST(child_forked_while_rings_are_made_has_none_and_can_make_one),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
