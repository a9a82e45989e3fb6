/*
 * What is particular to the selector driver: watches and operations on one
 * descriptor, stale files, wake, fork, shutdown.  What both drivers share is in
 * test_driver_*.c.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>

#include "selector_fixture.h"
#include "selector/selector.h"

static void test_timeouts_end_in_the_order_of_their_deadlines(void)
{
	static const int milliseconds[] = { 9, 1, 5, 3, 7, 3, 0 };
	enum { COUNT = sizeof(milliseconds) / sizeof(milliseconds[0]) };
	static const int order[] = { 6, 1, 3, 5, 2, 0 };
	static int owners[COUNT];
	ul_token tokens[COUNT];
	int index;

	for (index = 0; index < COUNT; index++)
		CHECK_EQUAL(verbs->timeout(driver, &owners[index],
		                           (uint64_t)milliseconds[index] * 1000000,
		                           &tokens[index]), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, tokens[4]), 0);
	for (index = 0; index < COUNT - 1; index++) {
		struct ul_completion done = next_completion();

		CHECK_EQUAL(done.result, -ETIME);
		CHECK_EQUAL((int *)done.owner - owners, order[index]);
	}
	CHECK_EQUAL(verbs->timeout(driver, &first, UINT64_MAX, &tokens[0]), -EINPROGRESS);
	nothing_happens();
	CHECK_EQUAL(verbs->cancel(driver, tokens[0]), 0);
}

static void test_cancel_of_what_has_ended_already_lets_it_be_delivered(void)
{
	struct ul_completion done;
	ul_token token;
	int spins = 0;

	CHECK_EQUAL(verbs->timeout(driver, &first, 0, &token), -EINPROGRESS);
	while (verbs->cancel(driver, token) == 0 && spins++ < 3)
		CHECK_EQUAL(verbs->timeout(driver, &first, 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->timeout(driver, &first, 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), -EINPROGRESS);
	done = next_completion();
	CHECK(done.token == token);
	CHECK_EQUAL(done.result, -ETIME);
	CHECK_EQUAL(verbs->cancel(driver, token), -ENOENT);
}

static void test_watch_is_level_triggered_and_ends_when_told(void)
{
	struct ul_completion out[8];
	ul_token token;
	ul_token other;
	int pair[2];
	int round;

	pair_make(pair);
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	for (round = 0; round < 3; round++) {
		CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
		CHECK_EQUAL(verbs->harvest(driver, out, 8), 1);
		CHECK(out[0].owner == &first && out[0].token == token);
		CHECK(out[0].flags & UL_WATCH);
		CHECK_EQUAL(out[0].result, EPOLLIN);
	}
	/* Seen by the turn, unwatched before the harvest. */
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(verbs->watch(driver, NULL, pair[0], 0, &other), 0);
	CHECK_EQUAL(verbs->harvest(driver, out, 8), 0);
	nothing_happens();
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(verbs->watch(driver, &second, pair[0], EPOLLOUT, &other), 0);
	CHECK(token != other);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(verbs->harvest(driver, out, 8), 1);
	CHECK(out[0].owner == &second && out[0].token == other);
	CHECK_EQUAL(out[0].result, EPOLLOUT);
	CHECK_EQUAL(verbs->cancel(driver, other), -ENOENT);
	/* close() ends it as well. */
	pair_close(pair);
	nothing_happens();
}

static void test_watch_and_operations_share_a_descriptor(void)
{
	struct ul_completion out[8];
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	ul_token watch;
	ul_token stream;
	ul_token sending;
	int pair[2];
	size_t filled;
	int count;
	int index;
	int sends = 0;
	int receives = 0;
	bool sleeps;

	pair_make(pair);
	filled = fill_socket(pair[0]);
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLOUT, &watch), 0);
	CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &stream), -EINPROGRESS);
	CHECK_EQUAL(verbs->send(driver, &third, pair[0], &iov, 1, &sending), -EINPROGRESS);
	nothing_happens();
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	CHECK_EQUAL(settle(out, 8), 1);
	CHECK(out[0].owner == &second);
	verbs->recycle(driver, out[0].data);
	CHECK_EQUAL(drain_socket(pair[1]), filled);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	count = verbs->harvest(driver, out, 8);
	CHECK_EQUAL(count, 2);
	CHECK(out[0].owner == &first && out[1].owner == &third);
	/* The watch goes, the stream stays; then the other way round. */
	CHECK_EQUAL(verbs->watch(driver, NULL, pair[0], 0, &watch), 0);
	nothing_happens();
	CHECK_EQUAL(write(pair[1], "d", 1), 1);
	CHECK_EQUAL(settle(out, 8), 1);
	verbs->recycle(driver, out[0].data);
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLIN, &watch), 0);
	CHECK_EQUAL(verbs->cancel(driver, stream), 0);
	CHECK_EQUAL(write(pair[1], "e", 1), 1);
	count = settle(out, 8);
	CHECK(count > 1);
	for (index = 0; index < count; index++) {
		sends += out[index].owner == &third;
		receives += out[index].owner == &second;
	}
	CHECK_EQUAL(sends + receives, 0);
	CHECK_EQUAL(verbs->watch(driver, NULL, pair[0], 0, &watch), 0);
	/* With nobody left, nothing keeps the turn from sleeping. */
	CHECK_EQUAL(verbs->timeout(driver, &first, 2000000, &sending), -EINPROGRESS);
	sleeps = verbs->turn(driver, SECOND) == 0 && verbs->harvest(driver, out, 8) == 1;
	CHECK(sleeps && out[0].result == -ETIME);
	pair_close(pair);
}

static void test_harvest_of_one_at_a_time_loses_nothing(void)
{
	struct ul_completion out;
	ul_token polls[3];
	ul_token stream;
	ul_token token;
	int pair[2];
	int index;
	int watches = 0;
	int others = 0;

	pair_make(pair);
	for (index = 0; index < 3; index++)
		CHECK_EQUAL(verbs->poll(driver, &second, pair[0], POLLIN, &polls[index]),
		            -EINPROGRESS);
	CHECK_EQUAL(verbs->recv(driver, &third, pair[0], 0, &stream), -EINPROGRESS);
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	while (verbs->harvest(driver, &out, 1) == 1) {
		watches += out.owner == &first;
		others += out.owner != &first;
		if (out.flags & UL_LENT)
			verbs->recycle(driver, out.data);
	}
	CHECK_EQUAL(watches, 1);
	CHECK_EQUAL(others, 4);
	CHECK_EQUAL(verbs->cancel(driver, stream), 0);
	pair_close(pair);
}

static void test_descriptor_closed_behind_our_back_starts_anew(void)
{
	struct ul_completion done;
	ul_token token;
	int pair[2];
	int other[2];

	pair_make(pair);
	pair_make(other);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	/* Registered still, as far as we know; but the number is another file's. */
	CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
	CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(write(other[1], "x", 1), 1);
	done = next_completion();
	CHECK(done.owner == &second);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
	pair_close(other);
}

static void stale_file(uint32_t events, ul_token *token, int pair[2], int other[2])
{
	pair_make(pair);
	pair_make(other);
	if (events != 0)
		CHECK_EQUAL(verbs->watch(driver, &first, pair[0], events, token), 0);
	else
		CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, token), -EINPROGRESS);
}

static void test_file_that_outlives_its_descriptor_reaches_no_stranger(void)
{
	struct ul_completion done;
	ul_token token;
	ul_token again;
	uint32_t events;
	int pair[2];
	int other[2];
	int duplicate;
	uint64_t rebuilt;

	for (events = 0; events <= EPOLLIN; events += EPOLLIN) {
		stale_file(events, &token, pair, other);
		rebuilt = verbs->statistics(driver)->rebuilt;
		duplicate = dup(pair[0]);
		if (events == 0) {
			CHECK_EQUAL(verbs->cancel(driver, token), 0);
			CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
		}
		CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
		CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &again), -EINPROGRESS);
		if (events != 0)
			CHECK_EQUAL(verbs->watch(driver, NULL, pair[0], 0, &token), 0);
		CHECK_EQUAL(write(pair[1], "x", 1), 1);
		nothing_happens();
		/* Level-triggered it would keep us awake: only then a new set is made. */
		CHECK_EQUAL(verbs->statistics(driver)->rebuilt, rebuilt + (events != 0));
		CHECK_EQUAL(write(other[1], "y", 1), 1);
		done = next_completion();
		CHECK(done.owner == &second);
		CHECK_EQUAL(done.data[0], 'y');
		verbs->recycle(driver, done.data);
		CHECK_EQUAL(verbs->cancel(driver, again), 0);
		close(duplicate);
		pair_close(pair);
		pair_close(other);
	}
}

/* epoll has it still: the same file by the same number. */
static void test_file_that_comes_back_under_its_number_is_received(void)
{
	struct ul_completion done;
	ul_token token;
	int duplicate;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	duplicate = dup(pair[0]);
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
	CHECK_EQUAL(dup2(duplicate, pair[0]), pair[0]);
	CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	done = next_completion();
	CHECK(done.owner == &second && done.token == token);
	CHECK_EQUAL(done.result, 1);
	verbs->recycle(driver, done.data);
	nothing_happens();
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	close(duplicate);
	pair_close(pair);
}

static void test_close_between_turn_and_harvest_drops_what_was_seen(void)
{
	ul_token tokens[2];
	int pair[2];
	int other[2];

	pair_make(pair);
	pair_make(other);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &tokens[0]), -EINPROGRESS);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(write(other[1], "y", 1), 1);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(verbs->cancel(driver, tokens[0]), 0);
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
	/* The number is taken at once. */
	CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
	nothing_happens();
	CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &tokens[1]), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	/* Operations that the owner forgot end, rather than hang. */
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
	CHECK_EQUAL(next_completion().result, -ECANCELED);
	close(pair[1]);
	pair_close(other);
}

static void *wake_soon(void *unused)
{
	usleep(20000);
	verbs->wake(driver);
	return unused;
}

static void test_wake_ends_the_turn_that_sleeps_or_the_next_one(void)
{
	pthread_t thread;
	uint64_t wakes = verbs->statistics(driver)->wakes;
	uint64_t enters;

	CHECK_EQUAL(pthread_create(&thread, NULL, wake_soon, NULL), 0);
	CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(verbs->statistics(driver)->wakes, wakes + 1);
	/* Called while nobody sleeps: no system call, and no sleep. */
	verbs->wake(driver);
	verbs->wake(driver);
	CHECK(verbs->immediate(driver));
	CHECK_EQUAL(verbs->statistics(driver)->wakes, wakes + 1);
	enters = verbs->statistics(driver)->enters;
	CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	CHECK(verbs->statistics(driver)->enters <= enters + 1);
	CHECK(!verbs->immediate(driver));
}

static void *wake_often(void *count)
{
	int index;

	for (index = 0; index < 20000; index++) {
		__atomic_store_n((int *)count, index + 1, __ATOMIC_RELEASE);
		verbs->wake(driver);
	}
	return NULL;
}

static void test_wakes_from_a_thread_are_never_lost(void)
{
	pthread_t thread;
	int count = 0;

	CHECK_EQUAL(pthread_create(&thread, NULL, wake_often, &count), 0);
	/* As the core does: look at what was queued, then sleep without an end. */
	while (__atomic_load_n(&count, __ATOMIC_ACQUIRE) < 20000)
		CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	verbs->turn(driver, 0);
	verbs->turn(driver, 0);
}

static void child_of_fork(int pair[2], ul_token stream, ul_token connecting)
{
	struct ul_completion out[8];
	ul_token token;
	int own[2];
	int count;

	/* Before the rebuild nothing of the parent's may be used or taken. */
	CHECK_EQUAL(verbs->harvest(driver, out, 8), 0);
	verbs->wake(driver);
	pair_make(own);
	CHECK_EQUAL(verbs->recv(driver, &third, own[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->watch(driver, &third, own[0], EPOLLOUT, &token), 0);
	CHECK_EQUAL(verbs->watch(driver, &third, own[0], 0, &token), 0);
	CHECK_EQUAL(verbs->recv(driver, &third, own[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->begin(driver), 0);
	/* What waited goes on: the parent's operations are ours now, as copies. */
	CHECK_EQUAL(write(own[1], "x", 1), 1);
	count = settle(out, 8);
	CHECK_EQUAL(count, 2);
	CHECK(out[0].owner != out[1].owner);
	while (count-- > 0)
		verbs->recycle(driver, out[count].data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->cancel(driver, stream), 0);
	CHECK_EQUAL(verbs->cancel(driver, connecting), 0);
	verbs->wake(driver);
	CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	pair_close(own);
	pair_close(pair);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 0);
	driver_end();
}

static void test_fork_leaves_the_parents_set_alone(void)
{
	struct ul_completion done;
	ul_token stream;
	ul_token waiting;
	uint64_t wakes = verbs->statistics(driver)->wakes;
	int pair[2];
	int status;
	pid_t child;

	pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &second, pair[1], 0, &waiting), -EINPROGRESS);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &stream), -EINPROGRESS);
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		child_of_fork(pair, stream, waiting);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	/* The child received the bytes: the socket is one. Ours goes on. */
	CHECK_EQUAL(write(pair[1], "def", 3), 3);
	done = next_completion();
	CHECK(done.owner == &first);
	CHECK_EQUAL(done.result, 3);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->statistics(driver)->wakes, wakes);
	CHECK_EQUAL(verbs->cancel(driver, stream), 0);
	CHECK_EQUAL(verbs->cancel(driver, waiting), 0);
	pair_close(pair);
}

/* The table of descriptors has a hole before it. */
static void test_fork_carries_over_what_waits_for_a_high_number(void)
{
	const int number = 3 * DESCRIPTORS_PER_BLOCK + 1;
	struct ul_completion done;
	ul_token token;
	pid_t child;
	int status;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(dup3(pair[0], number, O_CLOEXEC), number);
	CHECK_EQUAL(verbs->recv(driver, &first, number, 0, &token), -EINPROGRESS);
	child = fork();
	if (child == 0) {
		alarm(20);
		CHECK_EQUAL(write(pair[1], "x", 1), 1);
		done = next_completion();
		CHECK(done.owner == &first && done.token == token);
		CHECK_EQUAL(done.result, 1);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->close(driver, number), 0);
	pair_close(pair);
}

static void test_fork_ends_what_waits_for_a_closed_descriptor(void)
{
	ul_token token;
	int pair[2];
	int high;
	int status;
	pid_t child;

	pair_make(pair);
	/* A number that the new set does not take. */
	high = fcntl(pair[0], F_DUPFD_CLOEXEC, 200);
	CHECK_EQUAL(verbs->recv(driver, &first, high, 0, &token), -EINPROGRESS);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(high);
		CHECK_EQUAL(next_completion().result, -EBADF);
		driver_end();
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->close(driver, high), 0);
	pair_close(pair);
}

static void test_fork_and_destroy_without_a_turn(void)
{
	ul_token token;
	int pair[2];
	int status;
	pid_t child;

	pair_make(pair);
	CHECK_EQUAL(verbs->watch(driver, &first, pair[0], EPOLLIN, &token), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		driver_end();
		pair_make(pair);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK(next_completion().owner == &first);
	pair_close(pair);
}

static void test_shutdown_ends_everything_once(void)
{
	struct iovec iov[6] = { { .iov_base = "x", .iov_len = 1 } };
	struct ul_completion out[8];
	ul_token token;
	int pair[2];
	int count;
	int index;

	pair_make(pair);
	fill_socket(pair[0]);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->recv_from(driver, &first, pair[0], &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->send(driver, &first, pair[0], iov, 6, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->timeout(driver, &first, 1000, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->watch(driver, &second, pair[0], EPOLLOUT, &token), 0);
	verbs->end(driver);
	verbs->shutdown(driver);
	count = verbs->harvest(driver, out, 8);
	CHECK_EQUAL(count, 4);
	for (index = 0; index < count; index++) {
		CHECK(out[index].owner == &first);
		CHECK_EQUAL(out[index].result, -ECANCELED);
		CHECK_EQUAL(out[index].flags, 0);
	}
	CHECK_EQUAL(verbs->harvest(driver, out, 8), 0);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 0);
	pair_close(pair);
	verbs->destroy(driver);
	driver_make();
}

static void test_what_cannot_be_done_says_so(void)
{
	struct ul_request request = { 0 };
	struct ul_options options = { .size = 1 };
	struct ul_driver *none;
	ul_token token = 1;
	int ends[2];

	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EOPNOTSUPP);
	CHECK_EQUAL(token, 0);
	CHECK_EQUAL(verbs->recv(driver, &first, -1, 0, &token), -EBADF);
	CHECK_EQUAL(verbs->accept(driver, &first, -1, false, &token), -EBADF);
	CHECK_EQUAL(verbs->recv_from(driver, &first, 1 << 30, &token), -EBADF);
	CHECK_EQUAL(verbs->watch(driver, &first, 1 << 30, EPOLLIN, &token), -EBADF);
	CHECK_EQUAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(verbs->recv(driver, &first, ends[0], 0, &token), -ENOTSOCK);
	pair_close(ends);
	CHECK_EQUAL(verbs->cancel(driver, 0), -ENOENT);
	CHECK_EQUAL(verbs->cancel(driver, ~UINT64_C(0)), -ENOENT);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 0);
	CHECK_EQUAL(selector_open(&options, &none), -EINVAL);
}

int main(void)
{
	driver_make();
	test_timeouts_end_in_the_order_of_their_deadlines();
	test_cancel_of_what_has_ended_already_lets_it_be_delivered();
	test_watch_is_level_triggered_and_ends_when_told();
	test_watch_and_operations_share_a_descriptor();
	test_harvest_of_one_at_a_time_loses_nothing();
	test_descriptor_closed_behind_our_back_starts_anew();
	test_file_that_outlives_its_descriptor_reaches_no_stranger();
	test_file_that_comes_back_under_its_number_is_received();
	test_close_between_turn_and_harvest_drops_what_was_seen();
	test_wake_ends_the_turn_that_sleeps_or_the_next_one();
	test_wakes_from_a_thread_are_never_lost();
	test_fork_leaves_the_parents_set_alone();
	test_fork_carries_over_what_waits_for_a_high_number();
	test_fork_ends_what_waits_for_a_closed_descriptor();
	test_fork_and_destroy_without_a_turn();
	test_shutdown_ends_everything_once();
	test_what_cannot_be_done_says_so();
	driver_end();
	return 0;
}
