/*
 * What the kernel refuses a ring of ours: everything that the driver never asks for.
 *
 *     test_uring_restrictions uring [disabled features [one test]]
 */
#include <pthread.h>

#include "driver_fixture.h"
#include "ring/restrictions.h"
#include "ring/setup.h"
#include "ring/uring.h"

#define MARK TAGGED(TAG_IGNORED, 0x5eed)
#define REGISTRATIONS 64

/* What becomes of an entry that somebody else has written into the driver's own queue. */
static int answer_to(struct bench *bench, uint8_t opcode, uint8_t flags)
{
	struct uring *uring = uring_of(bench->driver);
	int64_t deadline = now_ns() + PATIENCE_NS;
	struct io_uring_sqe *sqe;

	/* What the driver has queued is gone first; what was answered is its own business. */
	bench_turn(bench, 0);
	sqe = &uring->sqes[uring->sq_tail++ & uring->sq_mask];
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->flags = flags;
	sqe->fd = -1;
	sqe->user_data = MARK;
	CHECK_EQUAL(uring_flush(uring, IORING_ENTER_GETEVENTS), 1);
	while (now_ns() < deadline) {
		uint32_t tail = io_uring_smp_load_acquire(uring->cq_ktail);

		for (uint32_t head = uring->cq_head; head != tail; head++) {
			const struct io_uring_cqe *cqe = &uring->cqes[head & uring->cq_mask];

			if (cqe->user_data == MARK) {
				int result = cqe->res;

				bench_turn(bench, 0);
				return result;
			}
		}
		uring_flush(uring, IORING_ENTER_GETEVENTS);
	}
	fprintf(stderr, "opcode %u, flags %u: ", opcode, flags);
	CHECK(!"an entry is answered");
	return 0;
}

static int registration(struct bench *bench, unsigned operation)
{
	unsigned ring = (unsigned)uring_of(bench->driver)->ring.ring_fd;

	return io_uring_register(ring, operation, NULL, 0);
}

static bool is_ours(struct bench *bench, unsigned operation)
{
	switch (operation) {
	case IORING_REGISTER_IOWQ_MAX_WORKERS:
		return true;
	case IORING_REGISTER_RING_FDS:
	case IORING_UNREGISTER_RING_FDS:
		return has(bench, UL_FEATURE_REGISTERED_FD);
	case IORING_REGISTER_PBUF_RING:
		return has(bench, UL_FEATURE_BUFFER_RING);
	case IORING_REGISTER_SYNC_CANCEL:
		return has(bench, UL_FEATURE_SYNC_CANCEL);
	default:
		return false;
	}
}

/* The ring is open, begun, and not restricted by accident. */
static void check_all(struct bench *bench)
{
	static const uint8_t flags[] = { IOSQE_FIXED_FILE, IOSQE_IO_LINK, IOSQE_IO_HARDLINK };
	unsigned number;
	int ours = 0;

	for (number = 0; number <= setup_last_opcode(); number++) {
		int answer;

		if (restrictions_have((uint8_t)number)) {
			/* Of descriptor -1 and address 0 each has something else to say. */
			answer = answer_to(bench, (uint8_t)number, 0);
			CHECK(answer != -EACCES);
			ours++;
			continue;
		}
		answer = answer_to(bench, (uint8_t)number, 0);
		if (answer != -EACCES)
			fprintf(stderr, "opcode %u: ", number);
		CHECK_EQUAL(answer, -EACCES);
	}
	CHECK(ours > 20);
	for (number = 0; number < sizeof(flags); number++)
		CHECK_EQUAL(answer_to(bench, IORING_OP_NOP, flags[number]), -EACCES);
	CHECK_EQUAL(answer_to(bench, IORING_OP_NOP, 0), 0);
	/* Last: what comes behind one waits for the driver's own poll, refused or not. */
	CHECK_EQUAL(answer_to(bench, IORING_OP_NOP, IOSQE_IO_DRAIN), -EACCES);
	/* Behind the last one that the kernel knows: EINVAL, wherever it looks first. */
	for (number = 0; number < REGISTRATIONS; number++) {
		int answer = registration(bench, number);

		if (is_ours(bench, number))
			CHECK(answer != -EACCES);
		else
			CHECK(answer == -EACCES ||
			      (answer == -EINVAL && number > IORING_REGISTER_SYNC_CANCEL));
	}
	/* Restricted once and for all. */
	CHECK_EQUAL(registration(bench, IORING_REGISTER_RESTRICTIONS), -EACCES);
	CHECK_EQUAL(registration(bench, IORING_REGISTER_BUFFERS), -EACCES);
	CHECK_EQUAL(registration(bench, IORING_REGISTER_FILES), -EACCES);
	CHECK_EQUAL(registration(bench, IORING_REGISTER_PERSONALITY), -EACCES);
}

/* Whether the ring is restricted; said where it cannot be. */
static bool open_restricted(struct bench *bench)
{
	bench_open(bench);
	if (has(bench, UL_FEATURE_RESTRICTED))
		return true;
	CHECK(bench->options.disable & UL_FEATURE_RESTRICTED ||
	      (uring_of(bench->driver)->params.flags & IORING_SETUP_R_DISABLED) == 0);
	fputs("not restricted; ", stderr);
	bench_close(bench);
	return false;
}

static void what_the_driver_never_asks_for_is_refused(struct bench *bench)
{
	if (!open_restricted(bench))
		return;
	check_all(bench);
	bench_close(bench);
}

static void ring_without_restrictions_answers_what_another_is_refused(struct bench *bench)
{
	bench->options.disable |= UL_FEATURE_RESTRICTED;
	bench_open(bench);
	CHECK(!has(bench, UL_FEATURE_RESTRICTED));
	CHECK(answer_to(bench, IORING_OP_READV, 0) != -EACCES);
	CHECK(answer_to(bench, IORING_OP_NOP, IOSQE_IO_LINK) != -EACCES);
	CHECK(registration(bench, IORING_REGISTER_BUFFERS) != -EACCES);
	bench_close(bench);
}

static void request_that_is_not_on_the_list_is_refused_by_the_driver_itself(struct bench *bench)
{
	struct record record = { 0 };
	struct ul_request request = { .opcode = IORING_OP_READV, .fd = -1 };

	bench_open(bench);
	CHECK_EQUAL(ul_has_request(bench->driver, IORING_OP_READV), 0);
	CHECK_EQUAL(ul_has_request(bench->driver, IORING_OP_READ), 1);
	CHECK_EQUAL(bench->table->submit(bench->driver, &record, &request, &record.token),
	            -EOPNOTSUPP);
	CHECK_EQUAL(record.token, 0);
	bench_close(bench);
}

static void *check_in_another_thread(void *argument)
{
	struct bench *bench = argument;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK(has(bench, UL_FEATURE_RESTRICTED));
	check_all(bench);
	bench->table->end(bench->driver);
	return NULL;
}

static void ring_that_is_remade_for_another_thread_is_restricted_again(struct bench *bench)
{
	pthread_t thread;

	if (!open_restricted(bench))
		return;
	bench->table->end(bench->driver);
	CHECK_EQUAL(pthread_create(&thread, NULL, check_in_another_thread, bench), 0);
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	CHECK(has(bench, UL_FEATURE_RESTRICTED));
	CHECK_EQUAL(answer_to(bench, IORING_OP_READV, 0), -EACCES);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->rebuilt, 2);
	bench_close(bench);
}

static void ring_that_a_forked_child_makes_is_restricted_again(struct bench *bench)
{
	int status = 0;
	pid_t child;

	if (!open_restricted(bench))
		return;
	bench->table->end(bench->driver);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		alarm(PATIENCE_NS / SECOND_NS);
		check_in_another_thread(bench);
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_close(bench);
}

/* Of a rule for an opcode that it does not know the kernel would refuse them all. */
static void ring_of_a_kernel_that_lacks_an_opcode_is_restricted_to_the_others(
	struct bench *bench)
{
	struct io_uring_params params = { .flags = IORING_SETUP_R_DISABLED };
	const uint8_t asked[] = { IORING_OP_NOP, IORING_OP_FSYNC };
	bool has_opcode[256];
	struct io_uring ring;

	if (!open_restricted(bench))
		return;
	for (unsigned opcode = 0; opcode < 256; opcode++)
		has_opcode[opcode] = kernel_has_opcode((uint8_t)opcode) &&
		                     opcode != IORING_OP_FSYNC;
	CHECK_EQUAL(io_uring_queue_init_params(2, &ring, &params), 0);
	CHECK_EQUAL(restrictions_apply(&ring, has_opcode, 0, false), 0);
	CHECK_EQUAL(io_uring_register((unsigned)ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
	                              0), 0);
	for (int index = 0; index < 2; index++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		struct io_uring_cqe *cqe;

		memset(sqe, 0, sizeof(*sqe));
		sqe->opcode = asked[index];
		sqe->fd = -1;
		CHECK_EQUAL(io_uring_submit(&ring), 1);
		CHECK_EQUAL(io_uring_wait_cqe(&ring, &cqe), 0);
		CHECK_EQUAL(cqe->res, index == 0 ? 0 : -EACCES);
		io_uring_cqe_seen(&ring, cqe);
	}
	CHECK_EQUAL(io_uring_register((unsigned)ring.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS,
	                              NULL, 0), -EACCES);
	io_uring_queue_exit(&ring);
	bench_close(bench);
}

int main(int count, char **arguments)
{
	static const struct test tests[] = {
		TEST(what_the_driver_never_asks_for_is_refused),
		TEST(ring_without_restrictions_answers_what_another_is_refused),
		TEST(request_that_is_not_on_the_list_is_refused_by_the_driver_itself),
		TEST(ring_of_a_kernel_that_lacks_an_opcode_is_restricted_to_the_others),
		TEST(ring_that_is_remade_for_another_thread_is_restricted_again),
		TEST(ring_that_a_forked_child_makes_is_restricted_again),
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]), arguments, count);
}
