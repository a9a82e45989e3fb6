/* The level-triggered watches of the ring driver, by themselves. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "epoll.h"
#include "ring/watches.h"

static struct watches watches;
static char first, second;

static void pair_make(int pair[2])
{
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void pair_close(int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

static int harvest(struct ul_completion *out, int capacity)
{
	return watches_harvest(&watches, out, capacity);
}

static void test_readiness_is_level_triggered_and_names_its_watch(void)
{
	struct ul_completion out[4];
	ul_token token;
	int pair[2];
	int round;

	pair_make(pair);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(watches.count, 1);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	for (round = 0; round < 2; round++) {
		CHECK_EQUAL(harvest(out, 4), 1);
		CHECK(out[0].owner == &first);
		CHECK(out[0].token == token);
		CHECK(out[0].flags & UL_WATCH);
		CHECK_EQUAL(out[0].result, EPOLLIN);
	}
	CHECK(token & WATCH_TOKEN);
	CHECK_EQUAL(watches_set(&watches, NULL, pair[0], 0, &token), 0);
	CHECK_EQUAL(token, 0);
	CHECK_EQUAL(watches.count, 0);
	CHECK_EQUAL(harvest(out, 4), 0);
	/* Ending what is not there is no error, as with remove_reader(). */
	CHECK_EQUAL(watches_set(&watches, NULL, pair[0], 0, &token), 0);
	pair_close(pair);
}

static void test_events_replaced_are_the_only_ones_reported(void)
{
	struct ul_completion out[4];
	ul_token reading;
	ul_token writing;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &reading), 0);
	CHECK_EQUAL(watches_set(&watches, &second, pair[0], EPOLLOUT, &writing), 0);
	CHECK(reading != writing);
	CHECK_EQUAL(watches.count, 1);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].owner == &second);
	CHECK(out[0].token == writing);
	CHECK_EQUAL(out[0].result, EPOLLOUT);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN | EPOLLOUT, &reading), 0);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK_EQUAL(out[0].result, EPOLLIN | EPOLLOUT);
	watches_forget(&watches, pair[0]);
	CHECK_EQUAL(watches.count, 0);
	pair_close(pair);
}

static void test_hang_up_and_error_reach_whoever_watches(void)
{
	struct ul_completion out[4];
	ul_token token;
	int ends[2];

	/* The write end of a pipe without a reader: EPOLLERR, which nobody asked for. */
	CHECK_EQUAL(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQUAL(watches_set(&watches, &first, ends[1], EPOLLIN, &token), 0);
	CHECK_EQUAL(harvest(out, 4), 0);
	close(ends[0]);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].result & EPOLLERR);
	watches_forget(&watches, ends[1]);
	close(ends[1]);
}

static void test_what_epoll_refuses_is_refused_with_its_error(void)
{
	char path[] = "/tmp/watches_XXXXXX";
	struct ul_completion out[4];
	ul_token token = 1;
	int file = mkstemp(path);

	CHECK(file >= 0);
	unlink(path);
	CHECK_EQUAL(watches_set(&watches, &first, file, EPOLLIN, &token), -EPERM);
	CHECK_EQUAL(token, 0);
	CHECK_EQUAL(watches_set(&watches, &first, -1, EPOLLIN, &token), -EBADF);
	CHECK_EQUAL(watches_set(&watches, &first, 1 << 30, EPOLLIN, &token), -EBADF);
	close(file);
	CHECK_EQUAL(watches_set(&watches, &first, file, EPOLLIN, &token), -EBADF);
	CHECK_EQUAL(watches.count, 0);
	CHECK_EQUAL(harvest(out, 4), 0);
}

static void test_descriptor_closed_behind_our_back_is_watched_anew(void)
{
	struct ul_completion out[4];
	ul_token before;
	ul_token after;
	int pair[2];
	int other[2];

	pair_make(pair);
	pair_make(other);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &before), 0);
	/* The number now stands for another file, and its registration is gone. */
	CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
	CHECK_EQUAL(write(other[1], "x", 1), 1);
	CHECK_EQUAL(harvest(out, 4), 0);
	/* Said once: whoever watched the old file is to be forgotten. */
	CHECK_EQUAL(watches_set(&watches, &second, pair[0], EPOLLIN, &after), -ENOENT);
	CHECK_EQUAL(watches.count, 0);
	CHECK_EQUAL(watches_set(&watches, &second, pair[0], EPOLLIN, &after), 0);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].owner == &second);
	CHECK(out[0].token == after);
	/* Closed before the watch ends: nothing to complain about. */
	close(pair[0]);
	CHECK_EQUAL(watches_set(&watches, NULL, pair[0], 0, &after), 0);
	CHECK_EQUAL(watches.count, 0);
	close(pair[1]);
	pair_close(other);
}

static void test_file_that_outlives_its_descriptor_reaches_no_stranger(void)
{
	struct ul_completion out[4];
	ul_token token;
	int pair[2];
	int other[2];
	int duplicate;

	pair_make(pair);
	pair_make(other);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	duplicate = dup(pair[0]);
	CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
	CHECK_EQUAL(watches_set(&watches, &second, pair[0], EPOLLIN, &token), -ENOENT);
	CHECK_EQUAL(watches_set(&watches, &second, pair[0], EPOLLIN, &token), 0);
	/* Ready is the first file, which pair[0] was once. */
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK(watches.stale);
	CHECK_EQUAL(watches_rebuild(&watches), 0);
	CHECK(!watches.stale);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK(!watches.stale);
	CHECK_EQUAL(write(other[1], "x", 1), 1);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].owner == &second);
	watches_forget(&watches, pair[0]);
	close(duplicate);
	pair_close(pair);
	pair_close(other);
}

static void test_many_descriptors_are_all_harvested(void)
{
	enum { PAIRS = 150 };
	static int pairs[PAIRS][2];
	static char seen[PAIRS];
	struct ul_completion out[16];
	ul_token token;
	int index;
	int round;

	for (index = 0; index < PAIRS; index++) {
		pair_make(pairs[index]);
		CHECK_EQUAL(watches_set(&watches, &seen[index], pairs[index][0], EPOLLIN,
		                        &token), 0);
		CHECK_EQUAL(write(pairs[index][1], "x", 1), 1);
	}
	/* epoll gives level-triggered readiness in rotation: nobody starves. */
	for (round = 0; round < 3 * PAIRS / 16; round++) {
		int count = harvest(out, 16);

		CHECK_EQUAL(count, 16);
		while (count-- > 0)
			*(char *)out[count].owner = 1;
	}
	for (index = 0; index < PAIRS; index++) {
		CHECK(seen[index]);
		watches_forget(&watches, pairs[index][0]);
		pair_close(pairs[index]);
	}
	CHECK_EQUAL(watches.count, 0);
}

static void test_nested_set_is_readable_when_a_watch_is_ready(void)
{
	struct ul_completion out[4];
	struct pollfd polled = { .events = POLLIN };
	struct epoll_event event = { .events = EPOLLIN };
	ul_token token;
	int inner = epoll_create1(EPOLL_CLOEXEC);
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(epoll_ctl(inner, EPOLL_CTL_ADD, pair[0], &event), 0);
	CHECK_EQUAL(watches_set(&watches, &first, inner, EPOLLIN, &token), 0);
	polled.fd = watches.epoll_fd;
	CHECK_EQUAL(poll(&polled, 1, 0), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(poll(&polled, 1, 0), 1);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].owner == &first);
	/* A set that watches itself is a mistake that epoll names. */
	CHECK_EQUAL(watches_set(&watches, &first, watches.epoll_fd, EPOLLIN, &token), -EINVAL);
	watches_forget(&watches, inner);
	close(inner);
	pair_close(pair);
}

static void test_child_of_a_fork_leaves_the_parents_set_alone(void)
{
	struct ul_completion out[4];
	ul_token token;
	int pair[2];
	int status;
	pid_t child;

	pair_make(pair);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		ul_token own;
		int ends[2];

		/* Before the rebuild: nothing is seen, nothing is touched. */
		CHECK_EQUAL(harvest(out, 4), 0);
		pair_make(ends);
		CHECK_EQUAL(watches_set(&watches, &second, ends[0], EPOLLOUT, &own), 0);
		CHECK_EQUAL(watches_rebuild(&watches), 0);
		CHECK_EQUAL(harvest(out, 4), 2);
		watches_forget(&watches, pair[0]);
		CHECK_EQUAL(harvest(out, 4), 1);
		CHECK(out[0].owner == &second);
		watches_forget(&watches, ends[0]);
		pair_close(ends);
		pair_close(pair);
		watches_release(&watches);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(harvest(out, 4), 1);
	CHECK(out[0].owner == &first);
	watches_forget(&watches, pair[0]);
	pair_close(pair);
}

static void test_rebuild_drops_what_was_closed_meanwhile(void)
{
	struct ul_completion out[4];
	ul_token token;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	pair_close(pair);
	CHECK_EQUAL(watches_rebuild(&watches), 0);
	CHECK_EQUAL(watches.count, 0);
	CHECK_EQUAL(harvest(out, 4), 0);
}

static void test_set_without_watches_has_no_descriptor(void)
{
	struct ul_completion out[4];

	CHECK_EQUAL(watches.epoll_fd, -1);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK_EQUAL(watches_rebuild(&watches), 0);
	CHECK_EQUAL(watches.epoll_fd, -1);
}

static void test_rebuild_does_not_watch_a_numbers_next_owner(void)
{
	struct ul_completion out[4];
	ul_token token;
	int pair[2], other[2];

	pair_make(pair);
	pair_make(other);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	CHECK_EQUAL(dup2(other[0], pair[0]), pair[0]);
	CHECK_EQUAL(write(other[1], "x", 1), 1);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK_EQUAL(watches_rebuild(&watches), 0);
	CHECK_EQUAL(harvest(out, 4), 0);
	CHECK_EQUAL(watches.count, 0);
	pair_close(pair);
	pair_close(other);
}

int main(void)
{
	watches_init(&watches);
	test_set_without_watches_has_no_descriptor();
	test_readiness_is_level_triggered_and_names_its_watch();
	test_events_replaced_are_the_only_ones_reported();
	test_hang_up_and_error_reach_whoever_watches();
	test_what_epoll_refuses_is_refused_with_its_error();
	test_descriptor_closed_behind_our_back_is_watched_anew();
	test_file_that_outlives_its_descriptor_reaches_no_stranger();
	test_many_descriptors_are_all_harvested();
	test_nested_set_is_readable_when_a_watch_is_ready();
	test_child_of_a_fork_leaves_the_parents_set_alone();
	test_rebuild_drops_what_was_closed_meanwhile();
	test_rebuild_does_not_watch_a_numbers_next_owner();
	watches_release(&watches);
	return 0;
}
