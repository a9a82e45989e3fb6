/*
 * Whether a ring of this process is charged to RLIMIT_MEMLOCK.
 *
 * Kernels before 5.12 do so, 5.12 and many after it do not, 6.18 does again; never
 * for who has CAP_IPC_LOCK, which inside of a user namespace counts for nothing.
 * So it is tried: a child with a limit of zero makes the smallest ring there is.
 * It shares our memory, so that nothing is copied, and sends no signal at its end,
 * so that nobody else in this process hears of it.  A limit is a process's own, so
 * ours is not touched.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <liburing.h>

#include "open.h"

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

#define STACK_SIZE (32 * 1024)

struct trial {
	struct rlimit limit;
	struct io_uring_params params;
	int result;              /* a descriptor of the child's, or -errno */
};

/* Runs in the child, which has our memory, and a stack within ours. */
#if defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize("address")))
#endif
static int make_ring(void *argument)
{
	struct trial *trial = argument;

	if (syscall(SYS_prlimit64, 0, RLIMIT_MEMLOCK, &trial->limit, NULL) != 0 ||
	    (trial->result = (int)syscall(SYS_io_uring_setup, 1, &trial->params)) < 0)
		trial->result = -errno;
	/* The ring ends with the child, whose descriptors are copies. */
	return 0;
}

int ul_ring_is_charged(void)
{
	_Alignas(16) char stack[STACK_SIZE];
	struct trial trial = {.result = -ECHILD};
	int saved_errno = errno;
	sigset_t all, before;
	pid_t child;

	if (getrlimit(RLIMIT_MEMLOCK, &trial.limit) != 0)
		return -errno;
	trial.limit.rlim_cur = 0;
	/* No handler of ours may run in the child, on our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	/* We go on when it has ended. */
	child = clone(make_ring, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, &trial);
	if (child == -1)
		trial.result = -errno;
	else
		while (waitpid(child, NULL, __WCLONE) == -1 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = saved_errno;
	if (trial.result >= 0)
		return 0;
	return trial.result == -ENOMEM ? 1 : trial.result;
}
