/*
 * A descriptor that was closed behind the selector's back: what had waited for it is not
 * served with what its number stands for next.
 */
#include <poll.h>

#include "selector_fixture.h"
#include "selector/selector.h"

/* `number` stands for the first of `pair` from now on, in which bytes wait. */
static void hand_on(int number, int pair[2])
{
	pair_make(pair);
	CHECK_EQUAL(dup2(pair[0], number), number);
	CHECK_EQUAL(fcntl(number, F_SETFD, FD_CLOEXEC), 0);
	CHECK_EQUAL(write(pair[1], "new", 3), 3);
}

static void close_all(int old[2], int pair[2])
{
	pair_close(old);
	pair_close(pair);
}

static void test_watch_ends_when_the_next_owner_waits(void)
{
	struct ul_completion out[4];
	ul_token watch, token;
	int old[2], pair[2];

	pair_make(old);
	CHECK_EQUAL(verbs->watch(driver, &first, old[0], EPOLLIN, &watch), 0);
	hand_on(old[0], pair);
	CHECK_EQUAL(verbs->recv(driver, &second, old[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(settle(out, 4), 1);
	CHECK(out[0].owner == &second);
	CHECK_EQUAL(out[0].result, 3);
	verbs->recycle(driver, out[0].data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	close_all(old, pair);
}

static void test_operations_end_when_the_next_owner_waits_or_watches(void)
{
	struct ul_completion out[8];
	ul_token tokens[3], token;
	int old[2], pair[2];
	int watches;
	int index;

	for (watches = 0; watches < 2; watches++) {
		char buffer[8];

		pair_make(old);
		CHECK_EQUAL(verbs->recv(driver, &first, old[0], 0, &tokens[0]), -EINPROGRESS);
		CHECK_EQUAL(verbs->poll(driver, &first, old[0], POLLIN | UL_POLL_LEVEL,
		                        &tokens[1]), -EINPROGRESS);
		CHECK_EQUAL(verbs->recv_from(driver, &first, old[0], &tokens[2]), -EINPROGRESS);
		hand_on(old[0], pair);
		if (watches)
			CHECK_EQUAL(verbs->watch(driver, &second, old[0], EPOLLIN, &token), 0);
		else
			CHECK_EQUAL(verbs->poll(driver, &second, old[0], POLLPRI, &token),
			            -EINPROGRESS);
		CHECK_EQUAL(verbs->turn(driver, 0), 0);
		for (index = 0; index < 3; index++) {
			CHECK_EQUAL(verbs->harvest(driver, out, 1), 1);
			CHECK(out[0].owner == &first);
			CHECK_EQUAL(out[0].result, -EBADF);
			CHECK_EQUAL(out[0].flags, 0);
		}
		CHECK_EQUAL(verbs->harvest(driver, out, 8), watches);
		if (watches)
			CHECK_EQUAL(verbs->watch(driver, NULL, old[0], 0, &token), 0);
		else
			CHECK_EQUAL(verbs->cancel(driver, token), 0);
		CHECK_EQUAL(recv(old[0], buffer, 8, 0), 3);
		close_all(old, pair);
	}
}

static void test_watch_of_the_next_owner_is_told_of_the_one_that_ended(void)
{
	struct ul_completion out[4];
	ul_token token;
	int old[2], pair[2];

	pair_make(old);
	CHECK_EQUAL(verbs->watch(driver, &first, old[0], EPOLLIN, &token), 0);
	hand_on(old[0], pair);
	CHECK_EQUAL(verbs->watch(driver, &second, old[0], EPOLLIN | EPOLLOUT, &token), -ENOENT);
	nothing_happens();
	CHECK_EQUAL(verbs->watch(driver, &second, old[0], EPOLLOUT, &token), 0);
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	CHECK_EQUAL(verbs->harvest(driver, out, 4), 1);
	CHECK(out[0].owner == &second);
	CHECK_EQUAL(out[0].result, EPOLLOUT);
	CHECK_EQUAL(verbs->watch(driver, NULL, old[0], 0, &token), 0);
	close_all(old, pair);
}

/* The event was reported to the first of the two, which has not taken anything. */
static void test_next_stream_has_what_a_cancelled_one_did_not_take(void)
{
	struct ul_completion out[4];
	ul_token tokens[2];
	int old[2], pair[2];
	int handed;

	for (handed = 0; handed < 2; handed++) {
		pair_make(old);
		CHECK_EQUAL(verbs->recv(driver, &first, old[0], UL_STREAM_UNIX, &tokens[0]),
		            -EINPROGRESS);
		CHECK_EQUAL(verbs->recv(driver, &second, old[0], UL_STREAM_UNIX, &tokens[1]),
		            -EINPROGRESS);
		verbs->hold(driver, tokens[0], true);
		CHECK_EQUAL(write(old[1], "old", 3), 3);
		CHECK_EQUAL(settle(out, 4), 1);
		CHECK(out[0].owner == &first);
		CHECK_EQUAL(out[0].flags, UL_READABLE | UL_MORE);
		if (handed)
			hand_on(old[0], pair);
		CHECK_EQUAL(verbs->cancel(driver, tokens[0]), 0);
		CHECK_EQUAL(settle(out, 4), 1);
		CHECK(out[0].owner == &second && out[0].token == tokens[1]);
		if (handed) {
			/* It had waited for what is gone. */
			CHECK_EQUAL(out[0].result, -EBADF);
			CHECK_EQUAL(out[0].flags, 0);
			close_all(old, pair);
		} else {
			CHECK_EQUAL(out[0].result, 3);
			CHECK_EQUAL(memcmp(out[0].data, "old", 3), 0);
			verbs->recycle(driver, out[0].data);
			CHECK_EQUAL(verbs->cancel(driver, tokens[1]), 0);
			pair_close(old);
		}
	}
}

static void test_watch_ends_when_what_was_asked_beside_it_is_cancelled(void)
{
	ul_token watch, token;
	int old[2], pair[2];

	pair_make(old);
	CHECK_EQUAL(verbs->watch(driver, &first, old[0], EPOLLIN, &watch), 0);
	CHECK_EQUAL(verbs->poll(driver, &second, old[0], POLLPRI, &token), -EINPROGRESS);
	nothing_happens();
	hand_on(old[0], pair);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	nothing_happens();
	close_all(old, pair);
}

static void test_set_that_is_made_anew_knows_no_next_owner(void)
{
	struct ul_completion out[4];
	ul_token watch, token;
	int old[2], pair[2], others[2];

	pair_make(old);
	pair_make(others);
	CHECK_EQUAL(verbs->watch(driver, &first, old[0], EPOLLIN, &watch), 0);
	CHECK_EQUAL(verbs->watch(driver, &second, others[0], EPOLLIN, &token), 0);
	hand_on(old[0], pair);
	CHECK_EQUAL(write(others[1], "x", 1), 1);
	((struct selector *)driver)->stale = true;
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	CHECK_EQUAL(verbs->harvest(driver, out, 4), 1);
	CHECK(out[0].owner == &second && out[0].token == token);
	CHECK_EQUAL(verbs->watch(driver, NULL, others[0], 0, &token), 0);
	close_all(old, pair);
	pair_close(others);
}

int main(void)
{
	driver_make();
	test_watch_ends_when_the_next_owner_waits();
	test_operations_end_when_the_next_owner_waits_or_watches();
	test_watch_of_the_next_owner_is_told_of_the_one_that_ended();
	test_next_stream_has_what_a_cancelled_one_did_not_take();
	test_watch_ends_when_what_was_asked_beside_it_is_cancelled();
	test_set_that_is_made_anew_knows_no_next_owner();
	driver_end();
	return 0;
}
