/*
 * epoll_ctl(2) without memory, or watches, for a while; linked with it wrapped.
 */
#include <sys/wait.h>

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
	driver_end();
	return 0;
}
