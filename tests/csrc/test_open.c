/*
 * Which driver is opened, and what is said of the one that is not: kernels and sandboxes that
 * have no ring, an old one, or one that does not work.
 *
 * Linked with what makes and enters a ring wrapped, getrlimit(2) and fopen(3).  What is found of a
 * kernel is found once per process, so each of them has a child of its own.
 */
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "compat.h"
#include "open.h"

/* What the kernel of this process is like. */
static struct {
	int setup;               /* io_uring_setup(2) fails with that */
	unsigned lacks;          /* IORING_FEAT_* */
	int registers;           /* all that a ring can do without fails with that */
	int enter;               /* io_uring_enter(2) fails with that */
	int instead[2];          /* completions with the one result have the other */
	rlim_t locked;           /* RLIMIT_MEMLOCK */
	const char *sysctl;      /* /proc/sys/kernel/io_uring_disabled; NULL: there is none */
} kernel;

static struct io_uring ring_now;

int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
	int result = kernel.setup != 0 ? kernel.setup :
	             __real_io_uring_queue_init_params(entries, ring, params);

	params->features &= ~kernel.lacks;
	if (result == 0)
		ring_now = *ring;
	return result;
}

int __real_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *request,
                                      unsigned flags);
int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *request,
                                      unsigned flags);
int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *request,
                                      unsigned flags)
{
	return kernel.registers != 0 ? kernel.registers :
	       __real_io_uring_register_buf_ring(ring, request, flags);
}

int __real_io_uring_register_ring_fd(struct io_uring *ring);
int __wrap_io_uring_register_ring_fd(struct io_uring *ring);
int __wrap_io_uring_register_ring_fd(struct io_uring *ring)
{
	return kernel.registers != 0 ? kernel.registers : __real_io_uring_register_ring_fd(ring);
}

int __real_io_uring_register(unsigned fd, unsigned operation, const void *argument,
                             unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned operation, const void *argument,
                             unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned operation, const void *argument,
                             unsigned count)
{
	if (operation == IORING_REGISTER_RESTRICTIONS && kernel.registers != 0)
		return kernel.registers;
	return __real_io_uring_register(fd, operation, argument, count);
}

int __real_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           void *argument, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           void *argument, size_t size);
int __wrap_io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags,
                           void *argument, size_t size)
{
	int result = kernel.enter != 0 ? kernel.enter :
	             __real_io_uring_enter2(fd, submit, wait, flags, argument, size);

	for (unsigned at = *ring_now.cq.khead; kernel.instead[0] != 0 &&
	     at != io_uring_smp_load_acquire(ring_now.cq.ktail); at++) {
		struct io_uring_cqe *cqe = &ring_now.cq.cqes[at & *ring_now.cq.kring_mask];

		if (cqe->res != kernel.instead[0])
			continue;
		cqe->res = kernel.instead[1];
		if (cqe->res < 0)
			cqe->flags &= ~IORING_CQE_F_MORE;
	}
	return result;
}

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (strcmp(path, "/proc/sys/kernel/io_uring_disabled") != 0)
		return __real_fopen(path, mode);
	return kernel.sysctl == NULL ? NULL :
	       fmemopen((void *)kernel.sysctl, strlen(kernel.sysctl), "r");
}

int __real_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit)
{
	int result = __real_getrlimit(resource, limit);

	if (resource == RLIMIT_MEMLOCK)
		limit->rlim_cur = kernel.locked;
	return result;
}

static int lowest_free(void)
{
	int fd = dup(0);

	CHECK(fd >= 0);
	close(fd);
	return fd;
}

/* Where a ring is asked for there is none; where it need not be one there is the selector. */
static void check_no_ring(int error, const char *phrase)
{
	struct ul_failure failure;
	struct ul_probe probe;
	struct ul_driver *driver = (struct ul_driver *)&probe;
	int fd = lowest_free();

	CHECK_EQUAL(ul_open(UL_KIND_URING, NULL, &failure, &driver), -1);
	CHECK(driver == NULL);
	if (strstr(failure.reason, phrase) == NULL)
		fprintf(stderr, "\"%s\", where is \"%s\"? ", failure.reason, phrase);
	CHECK_EQUAL(failure.error, error);
	CHECK(strstr(failure.reason, phrase) != NULL);
	CHECK_EQUAL(ul_probe(&probe, 0), -error);
	CHECK_EQUAL(probe.error, error);
	CHECK_EQUAL(strcmp(probe.reason, failure.reason), 0);
	CHECK_EQUAL(lowest_free(), fd);
	CHECK_EQUAL(ul_open(UL_KIND_AUTO, NULL, &failure, &driver), 0);
	CHECK_EQUAL(strcmp(ul_name(driver), "selector"), 0);
	CHECK_EQUAL(failure.error, error);
	CHECK(strstr(failure.reason, phrase) != NULL);
	ul_destroy(driver);
	CHECK_EQUAL(lowest_free(), fd);
}

static void ring_that_cannot_be_made_is_said_to_be_whose_fault(void)
{
	static const struct {
		int error;
		const char *sysctl;
		const char *phrase;
	} cases[] = {
		{ EPERM, "2\n", "(kernel.io_uring_disabled=2)" },
		{ EPERM, "0\n", "forbidden, by a container's seccomp filter" },
		{ EPERM, "none", "forbidden, by a container's seccomp filter" },
		{ EPERM, NULL, "forbidden, by a container's seccomp filter" },
		{ EACCES, "2\n", "Permission denied" },
		{ ENOSYS, NULL, "this kernel or sandbox has no io_uring" },
		{ EIO, NULL, "io_uring_setup failed: Input/output error" },
	};

	for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++)
		IN_CHILD({
			kernel.setup = -cases[index].error;
			kernel.sysctl = cases[index].sysctl;
			check_no_ring(cases[index].error, cases[index].phrase);
		});
}

static void ring_for_which_there_is_no_memory_names_the_limit_if_there_is_one(void)
{
	static const char none[] = "no memory for a ring, not even for a small one";

	kernel.setup = -ENOMEM;
	kernel.locked = 8 * 1024 * 1024;
	IN_CHILD(check_no_ring(ENOMEM, "(RLIMIT_MEMLOCK is 8192 KiB)"));
	kernel.locked = RLIM_INFINITY;
	IN_CHILD({
		struct ul_probe probe;

		check_no_ring(ENOMEM, none);
		CHECK_EQUAL(ul_probe(&probe, 0), -ENOMEM);
		CHECK_EQUAL(strcmp(probe.reason, none), 0);
	});
	kernel.setup = 0;
}

static void ring_of_an_old_kernel_is_none(void)
{
	kernel.lacks = IORING_FEAT_FAST_POLL;
	IN_CHILD(check_no_ring(EOPNOTSUPP, "too old"));
	kernel.lacks = IORING_FEAT_NODROP;
	IN_CHILD(check_no_ring(EOPNOTSUPP, "too old"));
	kernel.lacks = 0;
}

/* Where a filter lets one be made; and a kernel that loses what it was given. */
static void ring_that_does_not_work_is_none_and_says_at_which_step(void)
{
	kernel.enter = -EACCES;
	IN_CHILD(check_no_ring(EACCES, "does not work here: submit: Permission denied"));
	kernel.enter = 0;
	kernel.instead[0] = sizeof("ring");
	kernel.instead[1] = sizeof("ring") - 1;
	IN_CHILD(check_no_ring(EIO, "does not work here: receive: Input/output error"));
	kernel.instead[1] = -ECONNRESET;
	IN_CHILD(check_no_ring(ECONNRESET, "does not work here: receive: Connection reset"));
	kernel.instead[0] = -ECANCELED;
	kernel.instead[1] = -ECONNRESET;
	IN_CHILD(check_no_ring(EIO, "does not work here: cancel: Input/output error"));
	memset(kernel.instead, 0, sizeof(kernel.instead));
}

static void ring_does_without_what_the_kernel_refuses_and_knows_why(void)
{
	static const uint64_t features[] = { UL_FEATURE_BUFFER_RING, UL_FEATURE_REGISTERED_FD,
		                             UL_FEATURE_RESTRICTED };

	kernel.registers = -ENXIO;
	IN_CHILD({
		struct ul_failure failure;
		struct ul_driver *driver;
		struct ul_probe probe;

		CHECK_EQUAL(ul_probe(&probe, 0), 0);
		for (size_t index = 0; index < 3; index++) {
			int bit = __builtin_ctzll(features[index]);

			CHECK_EQUAL(probe.features & features[index], 0);
			CHECK_EQUAL(probe.feature_errors[bit], ENXIO);
		}
		/* That depends on the first of them. */
		CHECK_EQUAL(probe.features & UL_FEATURE_MULTISHOT_RECV, 0);
		CHECK_EQUAL(ul_open(UL_KIND_AUTO, NULL, &failure, &driver), 0);
		CHECK_EQUAL(strcmp(ul_name(driver), "uring"), 0);
		CHECK_EQUAL(ul_features(driver), probe.features);
		ul_destroy(driver);
	});
	kernel.registers = 0;
}

static void options_of_another_version_are_refused(void)
{
	struct ul_options options = { .size = sizeof(options) - 1 };
	struct ul_failure failure;
	struct ul_driver *driver = (struct ul_driver *)&options;

	for (int kind = UL_KIND_AUTO; kind <= UL_KIND_SELECTOR; kind++) {
		CHECK_EQUAL(ul_open(kind, &options, &failure, &driver), -1);
		CHECK(driver == NULL);
		CHECK_EQUAL(failure.error, EINVAL);
		CHECK(strstr(failure.reason, "another version") != NULL);
	}
}

static void driver_left_in_its_place_is_freed_once(void)
{
	for (int kind = UL_KIND_AUTO; kind <= UL_KIND_SELECTOR; kind++) {
		struct ul_failure failure;
		struct ul_driver *place;
		int fd = lowest_free();

		CHECK_EQUAL(ul_open(kind, NULL, &failure, &place), 0);
		CHECK(lowest_free() != fd);
		ul_abandon(&place);
		CHECK(place == NULL);
		CHECK_EQUAL(lowest_free(), fd);
		ul_abandon(&place);
	}
}

static bool has_ring(void)
{
	struct ul_probe probe;
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(ul_probe(&probe, 0) != 0);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	return status == 0;
}

int main(void)
{
	options_of_another_version_are_refused();
	ring_that_cannot_be_made_is_said_to_be_whose_fault();
	ring_for_which_there_is_no_memory_names_the_limit_if_there_is_one();
	if (!has_ring()) {
		fprintf(stderr, "no ring here\n");
		return 77;
	}
	ring_of_an_old_kernel_is_none();
	ring_that_does_not_work_is_none_and_says_at_which_step();
	ring_does_without_what_the_kernel_refuses_and_knows_why();
	driver_left_in_its_place_is_freed_once();
	return 0;
}
