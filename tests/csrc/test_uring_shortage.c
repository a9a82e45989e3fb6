/*
 * A kernel that is short of memory for a while: it refuses where the tests say so.
 *
 *     test_uring_shortage uring [disabled features [one test]]
 *
 * Linked with io_uring_enter2() and io_uring_queue_init_params() wrapped.
 */
#include <limits.h>

#include "driver_fixture.h"

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

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(what_was_sent_last_leaves_although_memory_is_short),
		TEST(ring_waits_for_the_room_that_a_closed_one_gives_back_late),
		TEST(ring_for_which_there_is_no_room_is_smaller_and_the_next_does_not_wait),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
