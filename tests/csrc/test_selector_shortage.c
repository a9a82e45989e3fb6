/*
 * epoll_ctl(2) without memory, or watches, for a while, and a kernel without epoll_pwait2(2);
 * linked with both wrapped.
 */
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "selector_fixture.h"
#include "ring/watches.h"

static int passed;       /* calls that go through before the refused ones */
static int refused;
static int refusal;

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (passed > 0) {
		passed--;
	} else if (refused > 0) {
		refused--;
		errno = refusal;
		return -1;
	}
	return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

static int unknown_calls;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long value[6];
	va_list list;

	va_start(list, number);
	for (int index = 0; index < 6; index++)
		value[index] = va_arg(list, long);
	va_end(list);
	if (number == SYS_epoll_pwait2) {
		unknown_calls++;
		errno = ENOSYS;
		return -1;
	}
	return __real_syscall(number, value[0], value[1], value[2], value[3], value[4], value[5]);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

/* In milliseconds, rounded up, and no more of them than an int holds. */
static void test_turn_of_an_old_kernel_ends_in_time_and_not_before(void)
{
	static const int64_t timeouts[] = { 1, 1000001, 3500000, 5000000 };
	struct ul_completion done;
	ul_token token;
	size_t index;

	driver_end();
	driver_make();
	unknown_calls = 0;
	for (index = 0; index < sizeof(timeouts) / sizeof(timeouts[0]); index++) {
		int64_t start = now_ns();

		CHECK_EQUAL(verbs->turn(driver, timeouts[index]), 0);
		CHECK(now_ns() - start >= timeouts[index]);
		CHECK(now_ns() - start < SECOND);
	}
	/* A timer ends them: each is one wait. */
	for (index = 0; index < 2; index++) {
		uint64_t waits = verbs->statistics(driver)->waits;

		CHECK_EQUAL(verbs->timeout(driver, &first, 1500000, &token), -EINPROGRESS);
		CHECK_EQUAL(verbs->turn(driver, index == 0 ? UL_FOREVER : 1000000 * SECOND), 0);
		CHECK_EQUAL(verbs->harvest(driver, &done, 1), 1);
		CHECK_EQUAL(done.result, -ETIME);
		CHECK_EQUAL(verbs->statistics(driver)->waits, waits + 1);
	}
	verbs->wake(driver);
	CHECK_EQUAL(verbs->turn(driver, 1000000 * SECOND), 0);
	/* Asked for once. */
	CHECK_EQUAL(unknown_calls, 1);
}

static void rebuild_after(int calls, int error, int pairs[3][2], ul_token tokens[3])
{
	struct ul_completion out[8];
	int index;

	passed = calls;
	refused = 1;
	refusal = error;
	CHECK_EQUAL(verbs->begin(driver), -error);
	/* As if nothing had been: whichever comes next makes it anew. */
	CHECK_EQUAL(verbs->begin(driver), 0);
	nothing_happens();
	for (index = 0; index < 3; index++)
		CHECK_EQUAL(write(pairs[index][1], "x", 1), 1);
	CHECK_EQUAL(settle(out, 8), 3);
	for (index = 0; index < 3; index++) {
		CHECK_EQUAL(out[index].result, EPOLLIN);
		CHECK(out[index].token == tokens[0] || out[index].token == tokens[1] ||
		      out[index].token == tokens[2]);
	}
	verbs->wake(driver);
	CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	driver_end();
}

/* The eventfd is registered first, then three sockets: each is refused once. */
static void test_child_whose_set_could_not_be_made_makes_it_at_the_next_try(void)
{
	int pairs[3][2];
	ul_token tokens[3];
	int index;

	for (index = 0; index < 3; index++) {
		pair_make(pairs[index]);
		CHECK_EQUAL(verbs->poll(driver, &first, pairs[index][0], EPOLLIN, &tokens[index]),
		            -EINPROGRESS);
	}
	for (index = 0; index < 8; index++) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			alarm(20);
			rebuild_after(index % 4, index < 4 ? ENOMEM : ENOSPC, pairs, tokens);
			_exit(0);
		}
		CHECK_EQUAL(waitpid(child, &status, 0), child);
		CHECK_EQUAL(status, 0);
		while (drain_socket(pairs[0][0]) + drain_socket(pairs[1][0]) +
		       drain_socket(pairs[2][0]) != 0)
			continue;
	}
	for (index = 0; index < 3; index++) {
		CHECK_EQUAL(verbs->cancel(driver, tokens[index]), 0);
		pair_close(pairs[index]);
	}
}

static void test_watches_stay_when_their_new_set_could_not_be_made(void)
{
	struct watches watches;
	struct ul_completion done;
	ul_token token;
	int pair[2];

	pair_make(pair);
	watches_init(&watches);
	CHECK_EQUAL(watches_set(&watches, &first, pair[0], EPOLLIN, &token), 0);
	watches.stale = true;
	/* Whether the old set knows it is asked first. */
	passed = 1;
	refused = 1;
	refusal = ENOSPC;
	CHECK_EQUAL(watches_rebuild(&watches), -ENOSPC);
	CHECK(watches.stale);
	CHECK_EQUAL(watches.count, 1);
	CHECK_EQUAL(watches_rebuild(&watches), 0);
	CHECK(!watches.stale);
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(watches_harvest(&watches, &done, 1), 1);
	CHECK(done.token == token);
	watches_release(&watches);
	pair_close(pair);
}

int main(void)
{
	driver_make();
	test_child_whose_set_could_not_be_made_makes_it_at_the_next_try();
	test_watches_stay_when_their_new_set_could_not_be_made();
	test_turn_of_an_old_kernel_ends_in_time_and_not_before();
	driver_end();
	return 0;
}
