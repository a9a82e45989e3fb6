/* The selector's requests: calls that threads make. */
#include <linux/io_uring.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "selector_fixture.h"
#include "selector/threads.h"

#define MANY 300

static char directory[] = "/tmp/selector-requests-XXXXXX";

static char *path_of(const char *name)
{
	static char paths[4][128];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static bool exists(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0;
}

static struct ul_request opening(const char *path, int flags)
{
	return (struct ul_request){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD,
		                    .address = (uintptr_t)path, .length = 0600,
		                    .op_flags = (uint32_t)flags };
}

static struct ul_request transfer(uint8_t opcode, int fd, void *data, uint32_t size,
                                  int64_t offset)
{
	return (struct ul_request){ .opcode = opcode, .fd = fd, .address = (uintptr_t)data,
		                    .address2 = (uint64_t)offset, .length = size };
}

static struct ul_request closing(int fd)
{
	return (struct ul_request){ .opcode = IORING_OP_CLOSE, .fd = fd };
}

static int result_of(struct ul_request request)
{
	struct ul_completion done;
	ul_token token;

	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EINPROGRESS);
	CHECK(token != 0);
	done = next_completion();
	CHECK(done.owner == &first && done.token == token);
	CHECK_EQUAL(done.flags, 0);
	return done.result;
}

/* A socket whose close(2) waits until `pair[1]` has taken all. */
static void lingering_pair(int pair[2])
{
	struct linger linger = { 1, 60 };

	tcp_pair_make(pair);
	CHECK_EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	fill_socket(pair[0]);
	CHECK_EQUAL(fcntl(pair[0], F_SETFL, 0), 0);
}

static void drain_to_the_end(int fd)
{
	static char buffer[65536];

	CHECK_EQUAL(fcntl(fd, F_SETFL, 0), 0);
	while (read(fd, buffer, sizeof(buffer)) > 0)
		continue;
	close(fd);
}

static void test_file_is_made_written_read_and_removed(void)
{
	char *path = path_of("whole"), *other = path_of("other");
	char data[8] = "";
	struct ul_request request;
	struct stat status;
	int fd = result_of(opening(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC));

	CHECK(fd >= 0);
	CHECK_EQUAL(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQUAL(result_of(opening(path, O_RDWR | O_CREAT | O_EXCL)), -EEXIST);
	CHECK_EQUAL(result_of(transfer(IORING_OP_WRITE, fd, "abcdef", 6, 0)), 6);
	CHECK_EQUAL(result_of(transfer(IORING_OP_WRITE, fd, "gh", 2, -1)), 2);
	CHECK_EQUAL(result_of(transfer(IORING_OP_READ, fd, data, 8, -1)), 4);
	CHECK_EQUAL(memcmp(data, "cdef", 4), 0);
	CHECK_EQUAL(result_of(transfer(IORING_OP_READ, fd, data, 8, 0)), 6);
	CHECK_EQUAL(memcmp(data, "ghcdef", 6), 0);
	CHECK_EQUAL(result_of((struct ul_request){ .opcode = IORING_OP_FSYNC, .fd = fd }), 0);
	request = (struct ul_request){ .opcode = 55, .fd = fd, .address2 = 3 };
	CHECK_EQUAL(result_of(request), 0);
	CHECK_EQUAL(fstat(fd, &status), 0);
	CHECK_EQUAL(status.st_size, 3);
	CHECK_EQUAL(result_of(closing(fd)), 0);
	CHECK_EQUAL(result_of(closing(fd)), -EBADF);
	request = (struct ul_request){ .opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD,
		                       .address = (uintptr_t)path, .address2 = (uintptr_t)other,
		                       .length = (uint32_t)AT_FDCWD };
	CHECK_EQUAL(result_of(request), 0);
	CHECK(!exists(path) && exists(other));
	request = (struct ul_request){ .opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD,
		                       .address = (uintptr_t)other };
	CHECK_EQUAL(result_of(request), 0);
	CHECK_EQUAL(result_of(request), -ENOENT);
}

static void test_what_waits_for_others_is_refused_and_left_alone(void)
{
	char *path = path_of("fifo");
	char data[4];
	int ends[2];

	CHECK_EQUAL(mkfifo(path, 0600), 0);
	CHECK_EQUAL(result_of(opening(path, O_RDONLY)), -ENOTBLK);
	CHECK_EQUAL(result_of(opening(path, O_WRONLY)), -ENOTBLK);
	CHECK_EQUAL(pipe2(ends, O_CLOEXEC), 0);
	CHECK_EQUAL(result_of(transfer(IORING_OP_READ, ends[0], data, 4, -1)), -ENOTBLK);
	CHECK_EQUAL(result_of(transfer(IORING_OP_WRITE, ends[1], data, 4, -1)), -ENOTBLK);
	CHECK_EQUAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	CHECK_EQUAL(read(ends[0], data, 4), -1);
	close(ends[0]);
	close(ends[1]);
	unlink(path);
}

static void test_many_at_once_all_end_with_their_own_result(void)
{
	static struct ul_request requests[MANY];
	static char blocks[MANY], seen[MANY], owners[MANY];
	int fd = open(path_of("many"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ul_token token;
	int index;

	for (index = 0; index < MANY; index++) {
		blocks[index] = (char)index;
		requests[index] = transfer(IORING_OP_WRITE, fd, blocks + index, 1, index);
		CHECK_EQUAL(verbs->submit(driver, owners + index, requests + index, &token),
		            -EINPROGRESS);
		/* What the caller told is not needed any more. */
		memset(requests + index, 0xff, sizeof(requests[index]));
	}
	for (index = 0; index < MANY; index++) {
		struct ul_completion done = next_completion();

		CHECK_EQUAL(done.result, 1);
		CHECK_EQUAL(seen[(char *)done.owner - owners]++, 0);
	}
	nothing_happens();
	CHECK_EQUAL(pread(fd, seen, MANY, 0), MANY);
	CHECK_EQUAL(memcmp(seen, blocks, MANY), 0);
	close(fd);
	unlink(path_of("many"));
}

static void test_cancel_before_it_began_undoes_it(void)
{
	struct ul_request request = opening(path_of("never"), O_RDWR | O_CREAT);
	struct ul_request kept = opening("/", O_RDONLY | O_CLOEXEC);
	struct ul_completion done;
	ul_token token, other;

	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->submit(driver, &second, &kept, &other), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, token), 0);
	CHECK_EQUAL(verbs->cancel(driver, token), -ENOENT);
	done = next_completion();
	CHECK(done.owner == &second && done.token == other);
	close(done.result);
	nothing_happens();
	CHECK(!exists(path_of("never")));
}

static void test_cancel_within_the_queue_undoes_that_one_alone(void)
{
	struct ul_request request = opening(path_of("never"), O_RDWR | O_CREAT);
	struct ul_request kept = opening("/", O_RDONLY | O_CLOEXEC);
	struct ul_completion done;
	ul_token tokens[4];
	int index;

	for (index = 0; index < 4; index++)
		CHECK_EQUAL(verbs->submit(driver, index % 2 == 0 ? &first : &second,
		                          index % 2 == 0 ? &kept : &request, &tokens[index]),
		            -EINPROGRESS);
	/* One between two others, and the last. */
	CHECK_EQUAL(verbs->cancel(driver, tokens[1]), 0);
	CHECK_EQUAL(verbs->cancel(driver, tokens[3]), 0);
	for (index = 0; index < 2; index++) {
		done = next_completion();
		CHECK(done.owner == &first);
		CHECK(done.result >= 0);
		close(done.result);
	}
	nothing_happens();
	CHECK(!exists(path_of("never")));
}

static void test_transfer_of_a_number_that_is_no_descriptor_is_ebadf(void)
{
	char data[4];
	int fd = dup(0);

	close(fd);
	CHECK_EQUAL(result_of(transfer(IORING_OP_READ, fd, data, 4, -1)), -EBADF);
	CHECK_EQUAL(result_of(transfer(IORING_OP_WRITE, fd, data, 4, 0)), -EBADF);
}

static void test_cancel_of_what_has_begun_waits_for_its_end(void)
{
	struct ul_request request;
	struct ul_completion done;
	ul_token token;
	int pair[2];

	lingering_pair(pair);
	request = closing(pair[0]);
	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	/* Closed means that close(2) is on its way. */
	while (fcntl(pair[0], F_GETFD) != -1)
		usleep(100);
	CHECK_EQUAL(verbs->cancel(driver, token), -EINPROGRESS);
	CHECK_EQUAL(verbs->cancel(driver, token), -EINPROGRESS);
	CHECK(!verbs->released(driver, token));
	nothing_happens();
	drain_to_the_end(pair[1]);
	done = next_completion();
	CHECK_EQUAL(done.token, token);
	CHECK_EQUAL(done.result, 0);
	CHECK_EQUAL(verbs->cancel(driver, token), -ENOENT);
}

static void test_child_of_a_fork_cancels_what_the_parent_does(void)
{
	struct ul_request begun, queued = opening(path_of("twice"), O_RDWR | O_CREAT);
	ul_token token, later;
	int pair[2], status;
	pid_t child;

	lingering_pair(pair);
	begun = closing(pair[0]);
	CHECK_EQUAL(verbs->submit(driver, &first, &begun, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	while (fcntl(pair[0], F_GETFD) != -1)
		usleep(100);
	CHECK_EQUAL(verbs->submit(driver, &second, &queued, &later), -EINPROGRESS);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		struct ul_completion done[4];
		int index, count;

		close(pair[1]);
		CHECK_EQUAL(verbs->cancel(driver, later), -EINPROGRESS);
		CHECK_EQUAL(verbs->begin(driver), 0);
		count = settle(done, 4);
		CHECK_EQUAL(count, 2);
		for (index = 0; index < count; index++)
			CHECK_EQUAL(done[index].result, -ECANCELED);
		CHECK(!exists(path_of("twice")));
		/* And it has threads of its own. */
		CHECK_EQUAL(result_of(opening("/no/such/file", O_RDONLY)), -ENOENT);
		driver_end();
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(verbs->cancel(driver, later), 0);
	drain_to_the_end(pair[1]);
	CHECK_EQUAL(next_completion().result, 0);
}

static void test_child_that_only_ends_does_not_wait_for_the_parents_threads(void)
{
	struct ul_request request = opening("/", O_RDONLY | O_CLOEXEC);
	struct ul_completion done;
	ul_token token;
	pid_t child;
	int status;

	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EINPROGRESS);
	child = fork();
	if (child == 0) {
		driver_end();
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	done = next_completion();
	CHECK(done.result >= 0);
	close(done.result);
}

static void test_child_of_a_fork_has_what_had_ended_before(void)
{
	struct ul_request request = opening("/", O_RDONLY | O_CLOEXEC);
	struct ul_completion done;
	ul_token token;
	pid_t child;
	int status;

	CHECK_EQUAL(verbs->submit(driver, &first, &request, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	while (!verbs->immediate(driver))
		usleep(100);
	child = fork();
	if (child == 0) {
		CHECK_EQUAL(verbs->begin(driver), 0);
		done = next_completion();
		CHECK_EQUAL(done.token, token);
		/* The descriptor is there, and nobody else would close it. */
		CHECK_EQUAL(close(done.result), 0);
		driver_end();
		_exit(0);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK_EQUAL(status, 0);
	CHECK_EQUAL(close(next_completion().result), 0);
}

static void test_shutdown_gives_up_a_call_that_hangs_and_says_what_to_keep(void)
{
	struct ul_request hanging, queued;
	struct ul_completion done[4];
	int pairs[THREADS_MAX][2];
	ul_token token;
	int index, count, kept = 0, others = 0;

	/* Every thread hangs, and one call waits for a thread. */
	for (index = 0; index < THREADS_MAX; index++) {
		lingering_pair(pairs[index]);
		hanging = closing(pairs[index][0]);
		CHECK_EQUAL(verbs->submit(driver, &first, &hanging, &token), -EINPROGRESS);
	}
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	for (index = 0; index < THREADS_MAX; index++)
		while (fcntl(pairs[index][0], F_GETFD) != -1)
			usleep(100);
	queued = opening(path_of("never"), O_RDWR | O_CREAT);
	CHECK_EQUAL(verbs->submit(driver, &second, &queued, &token), -EINPROGRESS);
	CHECK_EQUAL(verbs->turn(driver, 0), 0);
	verbs->shutdown(driver);
	while ((count = verbs->harvest(driver, done, 4)) > 0)
		for (index = 0; index < count; index++) {
			CHECK_EQUAL(done[index].result, -ECANCELED);
			CHECK_EQUAL(done[index].flags, done[index].owner == &first ? UL_KEEP : 0);
			kept += done[index].owner == &first;
			others += done[index].owner == &second;
		}
	CHECK_EQUAL(kept, THREADS_MAX);
	CHECK_EQUAL(others, 1);
	CHECK(!exists(path_of("never")));
	verbs->destroy(driver);
	/* They end long after the driver did, and touch nothing of it. */
	for (index = 0; index < THREADS_MAX; index++)
		drain_to_the_end(pairs[index][1]);
	driver_make();
}

static void test_shutdown_ends_all_and_leaves_nothing_begun(void)
{
	static struct ul_request requests[MANY];
	static char data[MANY];
	struct ul_completion done[16];
	int fd = open(path_of("many"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int index, count, total = 0, written = 0;
	struct stat status;
	ul_token token;

	for (index = 0; index < MANY; index++) {
		requests[index] = transfer(IORING_OP_WRITE, fd, data + index, 1, index);
		CHECK_EQUAL(verbs->submit(driver, &first, requests + index, &token), -EINPROGRESS);
		if (index == MANY / 2)
			CHECK_EQUAL(verbs->turn(driver, 0), 0);
	}
	verbs->shutdown(driver);
	CHECK_EQUAL(fstat(fd, &status), 0);
	while ((count = verbs->harvest(driver, done, 16)) > 0) {
		total += count;
		for (index = 0; index < count; index++) {
			CHECK(done[index].result == 1 || done[index].result == -ECANCELED);
			written += done[index].result == 1;
		}
	}
	CHECK_EQUAL(total, MANY);
	CHECK(status.st_size >= written);
	CHECK_EQUAL(verbs->statistics(driver)->in_flight, 0);
	verbs->destroy(driver);
	driver_make();
	close(fd);
	unlink(path_of("many"));
}

int main(void)
{
	CHECK(mkdtemp(directory) != NULL);
	driver_make();
	test_file_is_made_written_read_and_removed();
	test_what_waits_for_others_is_refused_and_left_alone();
	test_many_at_once_all_end_with_their_own_result();
	test_cancel_before_it_began_undoes_it();
	test_cancel_within_the_queue_undoes_that_one_alone();
	test_transfer_of_a_number_that_is_no_descriptor_is_ebadf();
	test_cancel_of_what_has_begun_waits_for_its_end();
	test_child_of_a_fork_cancels_what_the_parent_does();
	test_child_that_only_ends_does_not_wait_for_the_parents_threads();
	test_child_of_a_fork_has_what_had_ended_before();
	test_shutdown_gives_up_a_call_that_hangs_and_says_what_to_keep();
	test_shutdown_ends_all_and_leaves_nothing_begun();
	driver_end();
	CHECK_EQUAL(rmdir(directory), 0);
	return 0;
}
