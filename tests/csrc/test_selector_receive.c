/* The selector's streams and single receives. */
#include <sys/un.h>

#include "selector_fixture.h"
#include "selector/selector.h"

static void test_recv_streams_bytes_then_the_end(void)
{
	struct ul_completion done;
	ul_token token;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	nothing_happens();
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	done = next_completion();
	CHECK(done.owner == &first && done.token == token);
	CHECK_EQUAL(done.flags, UL_MORE | UL_LENT);
	CHECK_EQUAL(done.result, 3);
	CHECK_EQUAL(memcmp(done.data, "abc", 3), 0);
	verbs->recycle(driver, done.data);
	nothing_happens();
	CHECK_EQUAL(write(pair[1], "de", 2), 2);
	CHECK_EQUAL(shutdown(pair[1], SHUT_WR), 0);
	done = next_completion();
	CHECK_EQUAL(done.result, 2);
	verbs->recycle(driver, done.data);
	done = next_completion();
	CHECK_EQUAL(done.result, 0);
	CHECK_EQUAL(done.flags, 0);
	CHECK_EQUAL(verbs->cancel(driver, token), -ENOENT);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 0);
	pair_close(pair);
}

static void recv_all(int pair[2], int size, int buffers)
{
	static char bytes[3 * BUFFER_SIZE];
	struct ul_completion done;
	ul_token token;
	int sent = 0;
	int received = 0;
	int count = 0;

	/* The bytes arrive while nobody waits; the stream starts later. */
	while (sent < size)
		sent += (int)send(pair[1], bytes, (size_t)(size - sent), MSG_NOSIGNAL);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	while (received < size) {
		done = next_completion();
		CHECK(done.result > 0);
		received += done.result;
		count++;
		verbs->recycle(driver, done.data);
	}
	CHECK_EQUAL(received, size);
	CHECK(count >= buffers);
	nothing_happens();
	/* And the next byte is an edge again. */
	CHECK_EQUAL(send(pair[1], "x", 1, 0), 1);
	done = next_completion();
	CHECK_EQUAL(done.result, 1);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
}

static void test_recv_at_the_size_of_a_buffer_loses_nothing(void)
{
	int size;
	int pair[2];

	for (size = BUFFER_SIZE - 1; size <= BUFFER_SIZE + 1; size++) {
		pair_make(pair);
		recv_all(pair, size, size > BUFFER_SIZE ? 2 : 1);
		pair_close(pair);
		tcp_pair_make(pair);
		recv_all(pair, size, size > BUFFER_SIZE ? 2 : 1);
		pair_close(pair);
	}
}

/* An AF_UNIX receive stops behind passed descriptors: no further edge tells. */
static void test_recv_across_passed_descriptors_loses_nothing(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = "ab", .iov_len = 2 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1,
	                          .msg_control = &control,
	                          .msg_controllen = sizeof(control.space) };
	ul_token token;
	int received = 0;
	int pair[2];

	pair_make(pair);
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&control.header), &pair[0], sizeof(int));
	CHECK_EQUAL(sendmsg(pair[1], &message, 0), 2);
	CHECK_EQUAL(sendmsg(pair[1], &message, 0), 2);
	CHECK_EQUAL(send(pair[1], "cd", 2, 0), 2);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	while (received < 6) {
		struct ul_completion done = next_completion();

		CHECK(done.result > 0);
		received += done.result;
		verbs->recycle(driver, done.data);
	}
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
}

/* The byte is the sign of its mark; who takes it leaves none. */
static void test_recv_behind_an_urgent_byte_that_was_read_goes_on(void)
{
	int busy;

	for (busy = 0; busy < 2; busy++) {
		struct ul_completion done;
		ul_token token;
		int pair[2];
		char urgent;
		int size = 0;

		tcp_pair_make(pair);
		CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
		nothing_happens();
		CHECK_EQUAL(send(pair[1], "ab", 2, 0), 2);
		CHECK_EQUAL(send(pair[1], "!", 1, MSG_OOB), 1);
		CHECK_EQUAL(send(pair[1], "cde", 3, 0), 3);
		while (recv(pair[0], &urgent, 1, MSG_OOB) != 1)
			continue;
		/* A loop that always has something to do settles it too. */
		while (size < 5) {
			CHECK_EQUAL(verbs->turn(driver, busy ? 0 : SECOND), 0);
			while (verbs->harvest(driver, &done, 1) == 1) {
				size += done.result;
				verbs->recycle(driver, done.data);
			}
		}
		CHECK_EQUAL(size, 5);
		CHECK_EQUAL(verbs->cancel(driver, token), 0);
		pair_close(pair);
	}
}

/* Asked about many at a time, and all of them. */
static void test_recv_behind_urgent_bytes_of_many_streams_goes_on(void)
{
	enum { STREAMS = 70 };
	static ul_token tokens[STREAMS];
	static int pairs[STREAMS][2];
	static int sizes[STREAMS];
	int size = 0;
	int index;

	for (index = 0; index < STREAMS; index++) {
		tcp_pair_make(pairs[index]);
		CHECK_EQUAL(verbs->recv(driver, &sizes[index], pairs[index][0], UL_STREAM_TCP,
		                        &tokens[index]), -EINPROGRESS);
	}
	nothing_happens();
	for (index = 0; index < STREAMS; index++) {
		char urgent;

		CHECK_EQUAL(send(pairs[index][1], "ab", 2, 0), 2);
		CHECK_EQUAL(send(pairs[index][1], "!", 1, MSG_OOB), 1);
		CHECK_EQUAL(send(pairs[index][1], "cde", 3, 0), 3);
		while (recv(pairs[index][0], &urgent, 1, MSG_OOB) != 1)
			continue;
	}
	while (size < 5 * STREAMS) {
		struct ul_completion done = next_completion();

		CHECK(done.result > 0);
		*(int *)done.owner += done.result;
		size += done.result;
		verbs->recycle(driver, done.data);
	}
	for (index = 0; index < STREAMS; index++) {
		CHECK_EQUAL(sizes[index], 5);
		CHECK_EQUAL(verbs->cancel(driver, tokens[index]), 0);
		pair_close(pairs[index]);
	}
}

/* It is announced, and there is nothing to receive. */
static void test_recv_of_an_urgent_byte_alone_waits_for_what_follows(void)
{
	struct ul_completion done;
	ul_token token;
	int pair[2];

	tcp_pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], UL_STREAM_TCP, &token), -EINPROGRESS);
	nothing_happens();
	CHECK_EQUAL(send(pair[1], "!", 1, MSG_OOB), 1);
	/* Until it has come. */
	while (poll_now(pair[0], EPOLLPRI) == 0)
		CHECK_EQUAL(verbs->turn(driver, 0), 0);
	nothing_happens();
	CHECK_EQUAL(send(pair[1], "ab", 2, 0), 2);
	done = next_completion();
	CHECK_EQUAL(done.result, 2);
	CHECK_EQUAL(memcmp(done.data, "ab", 2), 0);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
}

/* A TCP receive stops at urgent data, which is not part of the stream. */
static void test_recv_across_urgent_data_loses_nothing(void)
{
	ul_token token;
	int received = 0;
	int pair[2];

	tcp_pair_make(pair);
	CHECK_EQUAL(send(pair[1], "ab", 2, 0), 2);
	CHECK_EQUAL(send(pair[1], "!", 1, MSG_OOB), 1);
	CHECK_EQUAL(send(pair[1], "cd", 2, 0), 2);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	while (received < 4) {
		struct ul_completion done = next_completion();

		CHECK(done.result > 0);
		received += done.result;
		verbs->recycle(driver, done.data);
	}
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
}

static void test_recv_cancelled_leaves_the_data_in_the_socket(void)
{
	struct ul_completion done;
	ul_token token;
	ul_token again;
	int pair[2];

	pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	CHECK_EQUAL(write(pair[1], "abc", 3), 3);
	/* The turn has seen it, the harvest has not. */
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), -ENOENT);
	nothing_happens();
	CHECK_EQUAL(verbs->recv(driver, &second, pair[0], 0, &again), -EINPROGRESS);
	CHECK(again != token);
	done = next_completion();
	CHECK(done.owner == &second);
	CHECK_EQUAL(done.result, 3);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->cancel(driver, again), 0);
	pair_close(pair);
}

static void test_each_stream_is_received_once_per_turn(void)
{
	static char bytes[BUFFER_SIZE * 3 / 2];
	struct ul_completion out[8];
	ul_token tokens[2];
	int busy[2];
	int quiet[2];
	int count = 0;
	int taken;

	pair_make(busy);
	pair_make(quiet);
	CHECK_EQUAL(verbs->recv(driver, &first, busy[0], 0, &tokens[0]), -EINPROGRESS);
	CHECK_EQUAL(verbs->recv(driver, &second, quiet[0], 0, &tokens[1]), -EINPROGRESS);
	CHECK_EQUAL(send(busy[1], bytes, sizeof(bytes), 0), sizeof(bytes));
	CHECK_EQUAL(send(quiet[1], "x", 1, 0), 1);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	while ((taken = verbs->harvest(driver, &out[count], 8 - count)) > 0) {
		/* One lent buffer at a time. */
		CHECK_EQUAL(taken, 1);
		verbs->recycle(driver, out[count++].data);
	}
	CHECK_EQUAL(count, 2);
	CHECK(out[0].owner == &first && out[1].owner == &second);
	CHECK(out[0].data == out[1].data);
	/* What is left of the first needs no event, and no sleep. */
	CHECK(verbs->immediate(driver));
	CHECK_EQUAL(verbs->turn(driver, UL_FOREVER), 0);
	CHECK_EQUAL(verbs->harvest(driver, out, 8), 1);
	CHECK_EQUAL(out[0].result, sizeof(bytes) - BUFFER_SIZE);
	verbs->recycle(driver, out[0].data);
	CHECK_EQUAL(verbs->cancel(driver, tokens[0]), 0);
	CHECK_EQUAL(verbs->cancel(driver, tokens[1]), 0);
	nothing_happens();
	CHECK(!verbs->immediate(driver));
	pair_close(busy);
	pair_close(quiet);
}

static void test_turns_with_work_still_look_at_other_descriptors(void)
{
	static char bytes[3 * BUFFER_SIZE];
	static char received[BUFFER_SIZE];
	const struct iovec iov = { received, sizeof(received) };
	struct ul_completion out[8];
	ul_token tokens[2];
	int busy[2];
	int quiet[2];
	int turn;
	bool seen = false;

	tcp_pair_make(busy);
	pair_make(quiet);
	CHECK_EQUAL(verbs->recv(driver, &first, busy[0], 0, &tokens[0]), -EINPROGRESS);
	CHECK_EQUAL(verbs->recv(driver, &second, quiet[0], 0, &tokens[1]), -EINPROGRESS);
	CHECK(send(busy[1], bytes, sizeof(bytes), 0) > 0);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	CHECK_EQUAL(send(quiet[1], "x", 1, 0), 1);
	for (turn = 0; turn < 3 && !seen; turn++) {
		int taken;

		while ((taken = verbs->harvest(driver, out, 8)) > 0) {
			while (taken-- > 0) {
				seen = seen || out[taken].owner == &second;
				if (out[taken].flags & UL_LENT)
					verbs->recycle(driver, out[taken].data);
				else
					CHECK(verbs->take(driver, out[taken].token, &iov, 1) > 0);
			}
		}
		/* The sender never stops. */
		(void)!send(busy[1], bytes, sizeof(bytes), MSG_NOSIGNAL);
		CHECK_EQUAL(verbs->turn(driver, 0), 0);
	}
	CHECK(seen);
	CHECK_EQUAL(verbs->cancel(driver, tokens[0]), 0);
	CHECK_EQUAL(verbs->cancel(driver, tokens[1]), 0);
	pair_close(busy);
	pair_close(quiet);
}

static void test_receives_of_one_descriptor_are_first_come_first_served(void)
{
	struct ul_completion done;
	char *owners[] = { &first, &second, &third };
	ul_token tokens[3];
	int pair[2];
	int index;

	pair_make(pair);
	for (index = 0; index < 3; index++)
		CHECK_EQUAL(verbs->recv(driver, owners[index], pair[0], 0, &tokens[index]),
		            -EINPROGRESS);
	for (index = 0; index < 6; index++) {
		CHECK_EQUAL(write(pair[1], "ab", 2), 2);
		CHECK_EQUAL(settle(&done, 2), 1);
		CHECK(done.owner == owners[index / 2]);
		CHECK_EQUAL(memcmp(done.data, "ab", 2), 0);
		verbs->recycle(driver, done.data);
		if (index % 2 == 1)
			CHECK_EQUAL(verbs->cancel(driver, tokens[index / 2]), 0);
	}
	pair_close(pair);
}

static void test_recv_from_streams_datagrams_with_senders_even_empty_ones(void)
{
	static char large[BUFFER_SIZE + 100];
	struct ul_completion done;
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	ul_token token;
	int pair[2];
	int index;
	int room = sizeof(large) * 4;

	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	/* An abstract name, so that there is a sender. */
	memcpy(name.sun_path, "\0ul", 3);
	CHECK_EQUAL(bind(pair[1], (struct sockaddr *)&name, sizeof(sa_family_t)), 0);
	CHECK_EQUAL(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	CHECK_EQUAL(send(pair[1], "ab", 2, 0), 2);
	CHECK_EQUAL(send(pair[1], "", 0, 0), 0);
	CHECK_EQUAL(verbs->recv_from(driver, &first, pair[0], &token), -EINPROGRESS);
	for (index = 0; index < 2; index++) {
		done = next_completion();
		CHECK_EQUAL(done.flags, UL_MORE | UL_LENT);
		CHECK_EQUAL(done.result, index == 0 ? 2 : 0);
		CHECK_EQUAL(done.address->sa_family, AF_UNIX);
		CHECK(done.address_size > sizeof(sa_family_t));
		verbs->recycle(driver, done.data);
	}
	CHECK_EQUAL(send(pair[1], large, sizeof(large), 0), sizeof(large));
	done = next_completion();
	CHECK_EQUAL(done.flags, UL_MORE | UL_LENT);
	CHECK_EQUAL(done.result, BUFFER_SIZE);
	verbs->recycle(driver, done.data);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
}

static void test_recv_from_takes_many_datagrams_a_turn_but_not_all(void)
{
	struct ul_completion out[64];
	ul_token token;
	int count = 0;
	int pair[2];
	int index;
	int taken;
	int sent = 0;

	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	for (index = 0; index < 50; index++)
		sent += send(pair[1], "x", 1, 0) == 1;
	CHECK_EQUAL(sent, 50);
	CHECK_EQUAL(verbs->recv_from(driver, &first, pair[0], &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, SECOND), 0);
	while ((taken = verbs->harvest(driver, &out[count], 64 - count)) > 0)
		verbs->recycle(driver, out[count++].data);
	CHECK(count > 1 && count < sent);
	/* The rest, and then the end of the connection. */
	close(pair[1]);
	for (; count < sent; count++) {
		struct ul_completion done = next_completion();

		CHECK_EQUAL(done.result, 1);
		verbs->recycle(driver, done.data);
	}
	out[0] = next_completion();
	CHECK_EQUAL(out[0].result, 0);
	CHECK_EQUAL(out[0].flags, 0);
	CHECK_EQUAL(verbs->close(driver, pair[0]), 0);
}

static void test_lent_buffers_may_be_kept(void)
{
	unsigned char *kept[20];
	ul_token token;
	int pair[2];
	int index;

	pair_make(pair);
	CHECK_EQUAL(verbs->recv(driver, &first, pair[0], 0, &token), -EINPROGRESS);
	for (index = 0; index < 20; index++) {
		char byte = (char)('a' + index);

		CHECK_EQUAL(write(pair[1], &byte, 1), 1);
		kept[index] = next_completion().data;
	}
	for (index = 0; index < 20; index++)
		CHECK_EQUAL(kept[index][0], 'a' + index);
	/* One stays lent: destroy() frees it. */
	for (index = 1; index < 20; index++)
		verbs->recycle(driver, kept[index]);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	pair_close(pair);
}

int main(void)
{
	driver_make();
	test_recv_streams_bytes_then_the_end();
	test_recv_at_the_size_of_a_buffer_loses_nothing();
	test_recv_across_passed_descriptors_loses_nothing();
	test_recv_across_urgent_data_loses_nothing();
	test_recv_behind_an_urgent_byte_that_was_read_goes_on();
	test_recv_behind_urgent_bytes_of_many_streams_goes_on();
	test_recv_of_an_urgent_byte_alone_waits_for_what_follows();
	test_recv_cancelled_leaves_the_data_in_the_socket();
	test_each_stream_is_received_once_per_turn();
	test_turns_with_work_still_look_at_other_descriptors();
	test_receives_of_one_descriptor_are_first_come_first_served();
	test_recv_from_streams_datagrams_with_senders_even_empty_ones();
	test_recv_from_takes_many_datagrams_a_turn_but_not_all();
	test_lent_buffers_may_be_kept();
	driver_end();
	return 0;
}
