/*
 * A kernel that is short of memory for a while: it refuses where the tests say so.
 *
 *     test_uring_shortage uring [disabled features [one test]]
 *
 * Linked with io_uring_enter2() and io_uring_queue_init_params() wrapped, and what registers
 * the ring's descriptor.
 */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#include "driver_fixture.h"
#include "ring/uring.h"

/* Of the calls from now on so many are refused, with this. */
static int refused_enters;
static int enter_error;
/* So many of the rings that would have more entries than there is room for. */
static int refused_setups;
static unsigned room;
static int setups;

int __real_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete,
                           unsigned flags, void *argument, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete,
                           unsigned flags, void *argument, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete,
                           unsigned flags, void *argument, size_t size)
{
	if (refused_enters > 0) {
		refused_enters--;
		return enter_error;
	}
	return __real_io_uring_enter2(fd, to_submit, min_complete, flags, argument, size);
}

int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
	setups++;
	if (refused_setups > 0 && entries > room) {
		refused_setups--;
		return -ENOMEM;
	}
	return __real_io_uring_queue_init_params(entries, ring, params);
}

static bool refuses_numbers;
static int numbers_asked;

int __real_io_uring_register_ring_fd(struct io_uring *ring);
int __wrap_io_uring_register_ring_fd(struct io_uring *ring);
int __wrap_io_uring_register_ring_fd(struct io_uring *ring)
{
	numbers_asked++;
	return refuses_numbers ? -ENOMEM : __real_io_uring_register_ring_fd(ring);
}

static void what_was_sent_last_leaves_although_memory_is_short(struct bench *bench)
{
	static const int errors[] = { -EAGAIN, -ENOMEM, -EINTR };
	struct iovec iov = { "last", 4 };
	char buffer[8];
	int pair[2];

	for (int index = 0; index < 3; index++) {
		struct record sender = { 0 };

		bench_open(bench);
		make_tcp_pair(pair);
		CHECK_EQUAL(bench->table->send(bench->driver, &sender, pair[0], &iov, 1,
		                               &sender.token), -EINPROGRESS);
		enter_error = errors[index];
		refused_enters = 3;
		bench_close(bench);
		close(pair[0]);
		CHECK(arrives(pair[1]));
		CHECK_EQUAL(recv(pair[1], buffer, 8, 0), 4);
		close(pair[1]);
		CHECK_EQUAL(sender.ends, 1);
	}
}

/* The entries that it has; it is closed again. */
static unsigned entries_of_a_ring(struct bench *bench, unsigned *wanted)
{
	uint32_t sizes[4];

	CHECK_EQUAL(bench_make(bench), 0);
	ul_ring_size(bench->driver, sizes);
	bench->table->destroy(bench->driver);
	*wanted = sizes[2];
	return sizes[0];
}

static void ring_waits_for_the_room_that_a_closed_one_gives_back_late(struct bench *bench)
{
	unsigned wanted;

	for (int count = 0; count < 3; count++) {
		entries_of_a_ring(bench, &wanted);
		room = 16;
		refused_setups = 5;
		CHECK_EQUAL(entries_of_a_ring(bench, &wanted), wanted);
		CHECK_EQUAL(refused_setups, 0);
	}
}

static void ring_for_which_there_is_no_room_is_smaller_and_the_next_does_not_wait(
	struct bench *bench)
{
	unsigned wanted;

	room = 32;
	refused_setups = INT_MAX;
	CHECK_EQUAL(entries_of_a_ring(bench, &wanted), 32);
	CHECK(wanted > 32);
	setups = 0;
	CHECK_EQUAL(entries_of_a_ring(bench, &wanted), 32);
	/* One for each size, and the rungs of the ladder that this kernel lacks. */
	CHECK(setups < 15);
	room = 1;
	CHECK_EQUAL(bench_make(bench), -ENOMEM);
	refused_setups = 0;
	CHECK_EQUAL(entries_of_a_ring(bench, &wanted), wanted);
}

static void ring_that_gets_no_number_is_entered_by_its_descriptor(struct bench *bench)
{
	struct record timer = { 0 };
	bool wanted;

	bench_open(bench);
	wanted = has(bench, UL_FEATURE_REGISTERED_FD);
	refuses_numbers = true;
	numbers_asked = 0;
	/* The first run is told so, and the next does not ask again. */
	for (int run = 0; run < 2; run++) {
		for (int round = 0; round < 50; round++)
			CHECK_EQUAL(RESULT_OF(bench, &timer,
			                      bench->table->timeout(bench->driver, &timer, 1000,
			                                            &timer.token)), -ETIME);
		CHECK(!has(bench, UL_FEATURE_REGISTERED_FD));
		CHECK_EQUAL(numbers_asked, wanted);
		bench->table->end(bench->driver);
		CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	}
	refuses_numbers = false;
	bench_close(bench);
}

/* Without EXT_ARG its timeout is an entry, for which there is no room. */
static void turn_whose_queue_stays_full_does_not_sleep_for_ever(struct bench *bench)
{
	struct record timer = { 0 };
	int64_t start;

	bench->options.sq_entries = 1;
	bench->options.cq_entries = 4;
	bench_open(bench);
	bench_quiet(bench);
	CHECK_EQUAL(bench->table->timeout(bench->driver, &timer, 600 * (uint64_t)SECOND_NS,
	                                  &timer.token), -EINPROGRESS);
	enter_error = -EAGAIN;
	refused_enters = 1;
	start = now_ns();
	/* A turn that sleeps for ever is killed. */
	alarm(PATIENCE_NS / SECOND_NS);
	bench_turn(bench, 10 * MILLISECOND_NS);
	bench_turn(bench, 10 * MILLISECOND_NS);
	alarm(0);
	CHECK_EQUAL(refused_enters, 0);
	CHECK(now_ns() - start < SECOND_NS);
	CHECK_EQUAL(timer.ends, 0);
	bench_cancel(bench, &timer);
	bench_close(bench);
}

static void watches_that_the_kernel_was_never_asked_for_are_in_the_next_ring(
	struct bench *bench)
{
	struct record timers[4] = { 0 };
	struct record watcher = { 0 };
	pthread_t thread;
	int pair[2];

	bench->options.sq_entries = 2;
	bench->options.cq_entries = 4;
	bench_open(bench);
	bench_quiet(bench);
	make_pair(pair);
	for (int index = 0; index < 4; index++)
		CHECK_EQUAL(bench->table->timeout(bench->driver, &timers[index],
		                                  600 * (uint64_t)SECOND_NS,
		                                  &timers[index].token), -EINPROGRESS);
	CHECK_EQUAL(bench->table->watch(bench->driver, &watcher, pair[0], EPOLLIN,
	                                &watcher.token), 0);
	enter_error = -EAGAIN;
	refused_enters = INT_MAX;
	bench_turn(bench, 0);
	CHECK_EQUAL(uring_of(bench->driver)->watches_slot->list, LIST_BACKLOG);
	bench->table->end(bench->driver);
	refused_enters = 0;
	CHECK_EQUAL(pthread_create(&thread, NULL, drive_for_a_while, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	UNTIL(bench, watcher.completions > 0);
	CHECK_EQUAL(watcher.result, EPOLLIN);
	CHECK_EQUAL(bench->table->watch(bench->driver, NULL, pair[0], 0, &watcher.token), 0);
	for (int index = 0; index < 4; index++) {
		CHECK_EQUAL(timers[index].ends, 0);
		bench_cancel(bench, &timers[index]);
	}
	close_pair(pair);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(what_was_sent_last_leaves_although_memory_is_short),
		TEST(ring_that_gets_no_number_is_entered_by_its_descriptor),
		TEST(turn_whose_queue_stays_full_does_not_sleep_for_ever),
		TEST(watches_that_the_kernel_was_never_asked_for_are_in_the_next_ring),
		TEST(ring_waits_for_the_room_that_a_closed_one_gives_back_late),
		TEST(ring_for_which_there_is_no_room_is_smaller_and_the_next_does_not_wait),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
