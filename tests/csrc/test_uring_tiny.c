/*
 * What a ring of few entries and few buffers can get wrong: things that wait in
 * lists of ours where otherwise they never do.
 *
 *     test_uring_tiny uring [disabled features [one test]]
 */
#include <poll.h>
#include <pthread.h>

#include "driver_fixture.h"
#include "ring/uring.h"

#define MANY 10

static void open_tiny(struct bench *bench)
{
	bench->options.sq_entries = 2;
	bench->options.cq_entries = 4;
	bench->options.buffer_count = 2;
	bench->options.buffer_size = 64;
	bench_open(bench);
}

static void make_readers(struct bench *bench, struct record *readers, int (*sockets)[2])
{
	for (int index = 0; index < MANY; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->recv(bench->driver, &readers[index], sockets[index][0], 0,
		                               &readers[index].token), -EINPROGRESS);
	}
	bench_quiet(bench);
}

static void stream_that_waits_after_a_full_buffer_holds_none(struct bench *bench)
{
	static const char block[64];
	const struct pool *pool;
	struct record readers[MANY] = { 0 };
	int sockets[MANY][2];

	open_tiny(bench);
	make_readers(bench, readers, sockets);
	pool = &uring_of(bench->driver)->pools[POOL_SMALL];
	for (int index = 0; index < MANY; index++) {
		CHECK_EQUAL(write(sockets[index][1], block, sizeof(block)), sizeof(block));
		UNTIL(bench, readers[index].size == sizeof(block));
		bench_quiet(bench);
		CHECK_EQUAL(pool->free_count + pool->in_ring, pool->count);
	}
	for (int index = 0; index < MANY; index++) {
		CHECK_EQUAL(write(sockets[index][1], "x", 1), 1);
		UNTIL(bench, readers[index].size == sizeof(block) + 1);
		bench_cancel(bench, &readers[index]);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	bench_close(bench);
}

static void what_was_sent_last_leaves_at_the_end_of_the_run(struct bench *bench)
{
	struct record senders[MANY] = { 0 };
	struct iovec iov = { "last", 4 };
	int sockets[MANY][2];

	open_tiny(bench);
	for (int index = 0; index < MANY; index++) {
		make_tcp_pair(sockets[index]);
		CHECK_EQUAL(bench->table->send(bench->driver, &senders[index], sockets[index][0],
		                               &iov, 1, &senders[index].token), -EINPROGRESS);
	}
	bench->table->end(bench->driver);
	for (int index = 0; index < MANY; index++) {
		CHECK(arrives(sockets[index][1]));
		CHECK_EQUAL(drain_socket(sockets[index][1]), 4);
	}
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	for (int index = 0; index < MANY; index++) {
		UNTIL(bench, senders[index].ends == 1);
		CHECK_EQUAL(senders[index].result, 4);
		close_pair(sockets[index]);
	}
	bench_close(bench);
}

/* How many accepts the kernel has, those in a poll, which takes no wake-ups, or the others. */
static int armed_accepts(const struct bench *bench, bool polling)
{
	const struct uring *uring = uring_of(bench->driver);
	int count = 0;

	for (uint32_t number = 1; number <= uring_slot_count(uring); number++) {
		const struct uring_slot *slot = uring_slot_number(uring, number);

		count += slot != NULL && slot->base.verb == URING_ACCEPT &&
		         slot->base.state == STATE_IN_KERNEL &&
		         (slot->base.flags & SLOT_LEFT_OVER) == 0 &&
		         (slot->phase == PHASE_POLLING) == polling;
	}
	return count;
}

static void accepts_of_many_listeners_are_parked_between_runs(struct bench *bench)
{
	struct record listeners[MANY] = { 0 };
	struct sockaddr_in addresses[MANY];
	int fds[MANY];

	open_tiny(bench);
	for (int index = 0; index < MANY; index++) {
		fds[index] = make_listener(&addresses[index]);
		CHECK_EQUAL(bench->table->accept(bench->driver, &listeners[index], fds[index],
		                                 false, &listeners[index].token), -EINPROGRESS);
	}
	bench_quiet(bench);
	/* An accept of Linux 5.10 does not wait on a socket that must not block. */
	if (armed_accepts(bench, true) == MANY)
		CHECK(!has(bench, UL_FEATURE_MULTISHOT_ACCEPT));
	else
		CHECK_EQUAL(armed_accepts(bench, false), MANY);
	bench->table->end(bench->driver);
	CHECK_EQUAL(armed_accepts(bench, false), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	for (int index = 0; index < MANY; index++) {
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		CHECK_EQUAL(connect(client, (struct sockaddr *)&addresses[index],
		                    sizeof(addresses[index])), 0);
		UNTIL(bench, listeners[index].completions == 1);
		CHECK(listeners[index].result >= 0);
		close(listeners[index].result);
		close(client);
		bench_cancel(bench, &listeners[index]);
		close(fds[index]);
	}
	bench_close(bench);
}

static void shutdown_ends_also_what_was_still_to_be_cancelled(struct bench *bench)
{
	struct record readers[MANY] = { 0 };
	int sockets[MANY][2];

	open_tiny(bench);
	make_readers(bench, readers, sockets);
	for (int index = 0; index < MANY; index++)
		CHECK_EQUAL(bench->table->cancel(bench->driver, readers[index].token),
		            -EINPROGRESS);
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	for (int index = 0; index < MANY; index++) {
		CHECK_EQUAL(readers[index].ends, 1);
		CHECK_EQUAL(readers[index].result, -ECANCELED);
		/* The kernel has let go of each. */
		CHECK_EQUAL(readers[index].flags & UL_KEEP, 0);
		close_pair(sockets[index]);
		record_free(&readers[index]);
	}
	bench->table->destroy(bench->driver);
}

static void poll_of_the_drivers_own_on_the_backlog_moves_to_a_new_ring(struct bench *bench)
{
	struct record polls[MANY] = { 0 };
	uint64_t one = 1;
	pthread_t thread;
	int sockets[2];

	open_tiny(bench);
	make_tcp_pair(sockets);
	bench_quiet(bench);
	/* As a wake() that ends a sleep. */
	CHECK_EQUAL(write(uring_of(bench->driver)->wake_fd, &one, sizeof(one)), sizeof(one));
	CHECK_EQUAL(bench->table->turn(bench->driver, TURN_NS), 0);
	for (int index = 0; index < MANY; index++)
		CHECK_EQUAL(bench->table->poll(bench->driver, &polls[index], sockets[0], POLLPRI,
		                               &polls[index].token), -EINPROGRESS);
	/* Arms that poll again, behind all these. */
	bench_harvest(bench);
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	for (int index = 0; index < MANY; index++) {
		CHECK_EQUAL(polls[index].completions, 0);
		bench_cancel(bench, &polls[index]);
	}
	close_pair(sockets);
	bench_close(bench);
}

/*
 * Two sends have ended and nobody has harvested them, and the cancel of the second waits for
 * room in the queue.
 */
struct late_cancel {
	struct record senders[2], timers[2];
	int sockets[2];
};

static void cancel_late(struct bench *bench, struct late_cancel *late)
{
	struct iovec iov = { "abc", 3 };
	char buffer[8];

	memset(late, 0, sizeof(*late));
	open_tiny(bench);
	make_tcp_pair(late->sockets);
	bench_quiet(bench);
	for (int index = 0; index < 2; index++)
		CHECK_EQUAL(bench->table->send(bench->driver, &late->senders[index],
		                               late->sockets[0], &iov, 1,
		                               &late->senders[index].token), -EINPROGRESS);
	for (int turn = 0; turn < 2; turn++)
		CHECK_EQUAL(bench->table->turn(bench->driver, MILLISECOND_NS), 0);
	CHECK(arrives(late->sockets[1]));
	while (recv(late->sockets[1], buffer, 8, MSG_PEEK) != 6)
		usleep(100);
	for (int index = 0; index < 2; index++)
		CHECK_EQUAL(bench->table->timeout(bench->driver, &late->timers[index],
		                                  600 * (uint64_t)SECOND_NS,
		                                  &late->timers[index].token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->cancel(bench->driver, late->senders[1].token), -EINPROGRESS);
	CHECK_EQUAL(uring_of(bench->driver)->lists[LIST_BACKLOG].count, 1);
}

/* Both have ended once, as sent, and were not sent again. */
static void check_late(struct bench *bench, struct late_cancel *late)
{
	bench_quiet(bench);
	for (int index = 0; index < 2; index++) {
		CHECK_EQUAL(late->senders[index].completions, 1);
		CHECK_EQUAL(late->senders[index].result, 3);
		CHECK_EQUAL(late->timers[index].completions, 0);
	}
	CHECK_EQUAL(drain_socket(late->sockets[1]), 6);
}

static void end_late(struct bench *bench, struct late_cancel *late)
{
	for (int index = 0; index < 2; index++)
		bench_cancel(bench, &late->timers[index]);
	close_pair(late->sockets);
	bench_close(bench);
}

static void cancel_of_what_is_harvested_first_is_not_submitted(struct bench *bench)
{
	struct late_cancel late;
	const uint64_t *submissions;

	cancel_late(bench, &late);
	bench_harvest(bench);
	CHECK_EQUAL(late.senders[1].ends, 1);
	CHECK_EQUAL(uring_of(bench->driver)->lists[LIST_BACKLOG].count, 0);
	check_late(bench, &late);
	submissions = bench->table->statistics(bench->driver)->submissions;
	CHECK_EQUAL(submissions[IORING_OP_ASYNC_CANCEL], 0);
	end_late(bench, &late);
}

static void cancel_of_what_has_ended_is_not_taken_to_another_threads_ring(struct bench *bench)
{
	struct late_cancel late;
	pthread_t thread;

	cancel_late(bench, &late);
	/* Without an end of the run, which would have submitted it. */
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	check_late(bench, &late);
	end_late(bench, &late);
}

static void cancel_of_what_has_ended_is_not_the_forked_childs(struct bench *bench)
{
	struct late_cancel late;
	int status = 0;
	pid_t child;

	cancel_late(bench, &late);
	if (bench_can_fork(bench)) {
		child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			alarm(PATIENCE_NS / SECOND_NS);
			CHECK_EQUAL(bench->table->begin(bench->driver), 0);
			bench_quiet(bench);
			for (int index = 0; index < 2; index++) {
				CHECK_EQUAL(late.senders[index].completions, 1);
				CHECK_EQUAL(late.senders[index].result, 3);
			}
			_exit(0);
		}
		CHECK_EQUAL(waitpid(child, &status, 0), child);
		CHECK_EQUAL(status, 0);
	}
	check_late(bench, &late);
	end_late(bench, &late);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(stream_that_waits_after_a_full_buffer_holds_none),
		TEST(what_was_sent_last_leaves_at_the_end_of_the_run),
		TEST(accepts_of_many_listeners_are_parked_between_runs),
		TEST(shutdown_ends_also_what_was_still_to_be_cancelled),
		TEST(poll_of_the_drivers_own_on_the_backlog_moves_to_a_new_ring),
		TEST(cancel_of_what_is_harvested_first_is_not_submitted),
		TEST(cancel_of_what_has_ended_is_not_taken_to_another_threads_ring),
		TEST(cancel_of_what_has_ended_is_not_the_forked_childs),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
