/* The trial for RLIMIT_MEMLOCK: true, and unseen by the rest of the process. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <liburing.h>

#include "check.h"
#include "open.h"

static volatile sig_atomic_t signals_seen;

static void note(int number)
{
	(void)number;
	signals_seen++;
}

/* As the trial has it, by a child in the ordinary way. */
static int charged_in_a_fork(void)
{
	struct rlimit limit;
	struct io_uring ring;
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
			_exit(2);
		limit.rlim_cur = 0;
		if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
			_exit(2);
		_exit(io_uring_queue_init(1, &ring, 0) != 0);
	}
	CHECK(child > 0);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void answer_is_that_of_a_child_with_no_locked_memory(void)
{
	CHECK_EQUAL(ul_ring_is_charged(), charged_in_a_fork());
	/* Who gives up the privilege, as a server does, may be charged from then on. */
	if (geteuid() == 0) {
		CHECK_EQUAL(seteuid(65534), 0);
		CHECK_EQUAL(ul_ring_is_charged(), charged_in_a_fork());
		CHECK_EQUAL(seteuid(0), 0);
	}
}

static void trial_leaves_nothing(void)
{
	struct sigaction action = { .sa_handler = note };
	struct rlimit before, after;
	sigset_t mask;
	int lowest = dup(0);
	int trials;

	CHECK(lowest >= 0);
	close(lowest);
	CHECK_EQUAL(sigaction(SIGCHLD, &action, NULL), 0);
	CHECK_EQUAL(getrlimit(RLIMIT_MEMLOCK, &before), 0);
	errno = EDOM;
	for (trials = 0; trials < 100; trials++)
		CHECK(ul_ring_is_charged() >= 0);
	CHECK_EQUAL(errno, EDOM);
	CHECK_EQUAL(getrlimit(RLIMIT_MEMLOCK, &after), 0);
	CHECK_EQUAL(after.rlim_cur, before.rlim_cur);
	CHECK_EQUAL(after.rlim_max, before.rlim_max);
	CHECK_EQUAL(signals_seen, 0);
	CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
	CHECK_EQUAL(sigismember(&mask, SIGCHLD), 0);
	CHECK_EQUAL(waitpid(-1, NULL, __WALL | WNOHANG), -1);
	CHECK_EQUAL(errno, ECHILD);
	CHECK_EQUAL(dup(0), lowest);
}

static int forbidden;

/* Linked with clone(2) wrapped. */
int __real_clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
	if (forbidden != 0) {
		errno = forbidden;
		return -1;
	}
	return __real_clone(run, stack, flags, argument);
}

/* And getrlimit(2). */
int __real_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit)
{
	if (forbidden == EPERM) {
		errno = forbidden;
		return -1;
	}
	return __real_getrlimit(resource, limit);
}

static void trial_that_may_have_no_child_says_so_and_leaves_nothing(void)
{
	sigset_t mask;

	forbidden = EAGAIN;
	errno = EDOM;
	CHECK_EQUAL(ul_ring_is_charged(), -EAGAIN);
	CHECK_EQUAL(errno, EDOM);
	CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
	CHECK_EQUAL(sigismember(&mask, SIGCHLD), 0);
	forbidden = EPERM;
	CHECK_EQUAL(ul_ring_is_charged(), -EPERM);
	forbidden = 0;
	CHECK(ul_ring_is_charged() >= 0);
}

int main(void)
{
	if (ul_ring_is_charged() < 0) {
		fprintf(stderr, "no ring here (%d)\n", ul_ring_is_charged());
		return 77;
	}
	answer_is_that_of_a_child_with_no_locked_memory();
	trial_leaves_nothing();
	trial_that_may_have_no_child_says_so_and_leaves_nothing();
	return 0;
}
