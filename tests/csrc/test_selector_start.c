/* The selector's operations that are tried first, and wait when they must. */
#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "selector_fixture.h"

static void send_everything(int pair[2], bool streaming)
{
	static char bytes[8 << 20];
	struct iovec iov[6];
	ul_token token;
	ul_token stream = 0;
	size_t sent = 0;
	size_t received = 0;
	bool waiting = false;
	int index;

	if (streaming)
		CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &stream), -EINPROGRESS);
	while (sent < sizeof(bytes) || received < sizeof(bytes)) {
		struct ul_completion done;

		while (!waiting && sent < sizeof(bytes)) {
			size_t part = (sizeof(bytes) - sent) / 6;
			int result;

			for (index = 0; index < 6; index++) {
				iov[index].iov_base = bytes + sent + part * (size_t)index;
				iov[index].iov_len = part;
			}
			iov[5].iov_len = sizeof(bytes) - sent - 5 * part;
			result = verbs->send(driver, &second, pair[0], iov, 6, &token);
			if (result >= 0)
				sent += (size_t)result;
			else
				CHECK_EQUAL(result, -EINPROGRESS);
			waiting = result < 0;
			/* The array was copied. */
			memset(iov, 0xff, sizeof(iov));
		}
		received += drain_socket(pair[1]);
		CHECK_EQUAL(verbs->turn(driver, waiting ? SECOND : 0), 0);
		while (verbs->harvest(driver, &done, 1) == 1) {
			CHECK(done.owner == &second && done.token == token);
			CHECK_EQUAL(done.flags, 0);
			CHECK(done.result > 0);
			sent += (size_t)done.result;
			waiting = false;
		}
	}
	CHECK_EQUAL(sent, sizeof(bytes));
	CHECK_EQUAL(received, sizeof(bytes));
	if (streaming)
		CHECK_EQUAL(verbs->cancel(driver, stream), 0);
	pair_close(pair);
}

static void test_send_to_a_full_socket_goes_on_in_parts(void)
{
	int pair[2];
	int streaming;

	for (streaming = 0; streaming < 2; streaming++) {
		pair_make(pair);
		send_everything(pair, streaming);
		tcp_pair_make(pair);
		send_everything(pair, streaming);
	}
}

static void test_sends_wait_in_their_order_and_cancel_alone(void)
{
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct ul_completion out[8];
	ul_token tokens[3];
	int pair[2];
	size_t filled;
	int index;

	pair_make(pair);
	filled = fill_socket(pair[0]);
	for (index = 0; index < 3; index++)
		CHECK_EQUAL(verbs->send(driver, index == 0 ? &first : index == 1 ? &second : &third,
		                        pair[0], &iov, 1, &tokens[index]), -EINPROGRESS);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 3);
	CHECK_EQUAL(verbs->cancel(driver, tokens[1]), 0);
	nothing_happens();
	CHECK_EQUAL(drain_socket(pair[1]), filled);
	CHECK_EQUAL(settle(out, 8), 2);
	CHECK(out[0].owner == &first && out[1].owner == &third);
	CHECK_EQUAL(out[0].result, 1);
	CHECK_EQUAL(drain_socket(pair[1]), 2);
	pair_close(pair);
}

static void test_send_to_a_peer_that_left_is_epipe_without_a_signal(void)
{
	struct iovec iov = { .iov_base = "x", .iov_len = 1 };
	struct ul_completion done;
	ul_token token;
	int pair[2];

	pair_make(pair);
	fill_socket(pair[0]);
	CHECK_EQUAL(verbs->send(driver, &first, pair[0], &iov, 1, &token), -EINPROGRESS);
	close(pair[1]);
	done = next_completion();
	CHECK(done.result == -EPIPE || done.result == -ECONNRESET);
	CHECK_EQUAL(verbs->send(driver, &first, pair[0], &iov, 1, &token), -EPIPE);
	CHECK_EQUAL(token, 0);
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
}

static void test_accept_streams_connections_and_stops_at_emfile(void)
{
	struct sockaddr_in address;
	struct ul_completion out[8];
	struct rlimit before;
	struct rlimit limit;
	ul_token token;
	int listener = tcp_listener(&address);
	int clients[3];
	int index;

	CHECK_EQUAL(verbs->accept(driver, &first, listener, false, &token), -EINPROGRESS);
	for (index = 0; index < 3; index++)
		clients[index] = tcp_connected(&address);
	CHECK_EQUAL(settle(out, 8), 3);
	for (index = 0; index < 3; index++) {
		CHECK_EQUAL(out[index].flags, UL_MORE);
		CHECK(fcntl(out[index].result, F_GETFL) & O_NONBLOCK);
		CHECK(fcntl(out[index].result, F_GETFD) & FD_CLOEXEC);
		CHECK_EQUAL(verbs->close(driver, out[index].result), 0);
		close(clients[index]);
	}
	clients[0] = tcp_connected(&address);
	CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 0;
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK_EQUAL(settle(out, 8), 1);
	CHECK_EQUAL(out[0].result, -EMFILE);
	CHECK_EQUAL(out[0].flags, 0);
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
	nothing_happens();
	/* Started again, it finds the connection that waits still. */
	CHECK_EQUAL(verbs->accept(driver, &second, listener, false, &token), -EINPROGRESS);
	CHECK_EQUAL(settle(out, 8), 1);
	CHECK(out[0].owner == &second && out[0].result >= 0);
	CHECK_EQUAL(verbs->close(driver, out[0].result), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	close(clients[0]);
	CHECK_EQUAL(verbs->close(driver, listener), 0);
}

static void test_accept_harvested_in_small_portions_loses_none(void)
{
	struct sockaddr_in address;
	struct ul_completion out[2];
	ul_token token;
	int listener = tcp_listener(&address);
	int clients[20];
	int index;

	CHECK_EQUAL(verbs->accept(driver, &first, listener, false, &token), -EINPROGRESS);
	for (index = 0; index < 20; index++)
		clients[index] = tcp_connected(&address);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	for (index = 0; index < 20;) {
		int taken = verbs->harvest(driver, out, 2);

		CHECK_EQUAL(taken, 2);
		while (taken-- > 0) {
			CHECK_EQUAL(verbs->close(driver, out[taken].result), 0);
			close(clients[index++]);
		}
	}
	CHECK_EQUAL(verbs->harvest(driver, out, 2), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->close(driver, listener), 0);
}

static void test_connect_ends_with_the_outcome(void)
{
	struct sockaddr_in address;
	ul_token token;
	int listener = tcp_listener(&address);
	int round;

	for (round = 0; round < 2; round++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		int result = verbs->connect(driver, &first, fd, (struct sockaddr *)&address,
		                            sizeof(address), &token);

		if (result == -EINPROGRESS)
			result = next_completion().result;
		CHECK_EQUAL(result, round == 0 ? 0 : -ECONNREFUSED);
		CHECK_EQUAL(verbs->close(driver, fd), 0);
		if (round == 0)
			CHECK_EQUAL(verbs->close(driver, listener), 0);
	}
}

/* AF_UNIX: a full backlog is EAGAIN, and no readiness says when there is room. */
static void test_connect_to_a_full_backlog_says_so(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(name);
	ul_token token = 1;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int clients[8];
	int count = 0;
	int result;

	CHECK_EQUAL(bind(listener, (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
	CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&name, &size), 0);
	CHECK_EQUAL(listen(listener, 1), 0);
	do {
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		result = verbs->connect(driver, &first, clients[count],
		                        (struct sockaddr *)&name, size, &token);
		CHECK_EQUAL(token, 0);
		count++;
	} while (result == 0);
	CHECK_EQUAL(result, -EAGAIN);
	while (count-- > 0)
		CHECK_EQUAL(verbs->close(driver, clients[count]), 0);
	CHECK_EQUAL(verbs->close(driver, listener), 0);
}

static void test_poll_is_asked_first_and_reports_once(void)
{
	struct ul_completion out[8];
	ul_token tokens[2];
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(verbs->poll(driver, &first, pair[0], POLLIN | POLLOUT, &tokens[0]), POLLOUT);
	CHECK_EQUAL(verbs->poll(driver, &first, pair[0], POLLIN, &tokens[0]), -EINPROGRESS);
	CHECK_EQUAL(verbs->poll(driver, &second, pair[0], POLLIN | POLLRDHUP, &tokens[1]),
	            -EINPROGRESS);
	nothing_happens();
	CHECK_EQUAL(write(pair[1], "x", 1), 1);
	CHECK_EQUAL(settle(out, 8), 2);
	CHECK(out[0].owner == &first && out[1].owner == &second);
	CHECK_EQUAL(out[0].result, POLLIN);
	CHECK_EQUAL(out[0].flags, 0);
	pair_close(pair);
	CHECK_EQUAL(verbs->poll(driver, &first, pair[0], POLLIN, &tokens[0]), -EBADF);
}

static void test_file_is_not_watched(void)
{
	char path[] = "/tmp/ul_selector_XXXXXX";
	ul_token token;
	int file = mkstemp(path);

	unlink(path);
	CHECK_EQUAL(verbs->watch(driver, &first, file, EPOLLIN, &token), -EPERM);
	CHECK_EQUAL(token, 0);
	CHECK_EQUAL(verbs->close(driver, file), 0);
	CHECK_EQUAL(verbs->close(driver, file), -EBADF);
}

int main(void)
{
	driver_make();
	test_send_to_a_full_socket_goes_on_in_parts();
	test_sends_wait_in_their_order_and_cancel_alone();
	test_send_to_a_peer_that_left_is_epipe_without_a_signal();
	test_accept_streams_connections_and_stops_at_emfile();
	test_accept_harvested_in_small_portions_loses_none();
	test_connect_ends_with_the_outcome();
	test_connect_to_a_full_backlog_says_so();
	test_poll_is_asked_first_and_reports_once();
	test_file_is_not_watched();
	driver_end();
	return 0;
}
