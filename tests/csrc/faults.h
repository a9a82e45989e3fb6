/*
 * Faults: of the calls that the driver makes to allocate memory or to ask the kernel, the n-th
 * fails, with each errno that it may fail with in turn.
 *
 * Linked with --wrap for each name that is WRAP*()ped here: that is the seam, and the driver
 * knows nothing of it.  Only calls of a thread that is `faults_armed` count.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compat.h"

static _Thread_local bool faults_armed;

/* The one that is being tried. */
static struct {
	long at;                     /* the call that fails, from 1 on; 0 for none */
	int variant;                 /* which of its errnos */
	_Atomic long calls;          /* made so far */
	bool reached;                /* there was such a call ... */
	bool struck;                 /* ... and it has such an errno */
	const char *name;
	int error;
} fault;

static _Atomic long faults_blocks; /* allocated and not freed */

static inline bool fault_strikes(const char *name, const int *errors)
{
	int variant;

	if (!faults_armed || ++fault.calls != fault.at)
		return false;
	fault.reached = true;
	fault.name = name;
	for (variant = 0; variant < fault.variant && errors[variant] != 0; variant++)
		;
	fault.error = errors[variant];
	fault.struck = fault.error != 0;
	return fault.struck;
}

#define STRIKES(name, ...) fault_strikes(#name, (const int[]){ __VA_ARGS__, 0 })

#define WRAP(type, name, parameters)                                                  \
	type __real_##name parameters;                                                \
	type __wrap_##name parameters;                                                \
	type __wrap_##name parameters

/* Fails with -1 and errno. */
#define WRAP_ERRNO(type, name, parameters, arguments, ...)                            \
	WRAP(type, name, parameters)                                                  \
	{                                                                             \
		if (STRIKES(name, __VA_ARGS__)) {                                     \
			errno = fault.error;                                          \
			return -1;                                                    \
		}                                                                     \
		return __real_##name arguments;                                       \
	}

/* Fails with a number: -errno (liburing), or errno (pthread). */
#define WRAP_NUMBER(name, sign, parameters, arguments, ...)                           \
	WRAP(int, name, parameters)                                                   \
	{                                                                             \
		if (STRIKES(name, __VA_ARGS__))                                       \
			return sign fault.error;                                      \
		return __real_##name arguments;                                       \
	}

/* --- Memory --------------------------------------------------------------- */

WRAP(void *, malloc, (size_t size))
{
	void *block = STRIKES(malloc, ENOMEM) ? NULL : __real_malloc(size);

	faults_blocks += block != NULL;
	return block;
}

WRAP(void *, calloc, (size_t count, size_t size))
{
	void *block = STRIKES(calloc, ENOMEM) ? NULL : __real_calloc(count, size);

	faults_blocks += block != NULL;
	return block;
}

WRAP(void *, aligned_alloc, (size_t alignment, size_t size))
{
	void *block = STRIKES(aligned_alloc, ENOMEM) ? NULL
	                                             : __real_aligned_alloc(alignment, size);

	faults_blocks += block != NULL;
	return block;
}

WRAP(void *, realloc, (void *old, size_t size))
{
	void *block = STRIKES(realloc, ENOMEM) ? NULL : __real_realloc(old, size);

	faults_blocks += block != NULL && old == NULL;
	return block;
}

WRAP(void, free, (void *block))
{
	faults_blocks -= block != NULL;
	__real_free(block);
}

WRAP(void *, mmap, (void *place, size_t size, int protection, int flags, int fd, off_t offset))
{
	if (STRIKES(mmap, ENOMEM)) {
		errno = fault.error;
		return MAP_FAILED;
	}
	return __real_mmap(place, size, protection, flags, fd, offset);
}

WRAP_ERRNO(int, madvise, (void *place, size_t size, int advice), (place, size, advice), ENOMEM)

/* --- Descriptors ---------------------------------------------------------- */

WRAP_ERRNO(int, epoll_create1, (int flags), (flags), EMFILE, ENFILE, ENOMEM)
WRAP_ERRNO(int, eventfd, (unsigned count, int flags), (count, flags), EMFILE, ENOMEM)
WRAP_ERRNO(int, epoll_ctl, (int set, int operation, int fd, struct epoll_event *event),
           (set, operation, fd, event), ENOMEM, ENOSPC)
WRAP_ERRNO(int, epoll_wait, (int set, struct epoll_event *events, int count, int timeout),
           (set, events, count, timeout), EINTR)

/* Whatever it says, the descriptor is closed. */
WRAP(int, close, (int fd))
{
	int result = __real_close(fd);

	if (STRIKES(close, EINTR, EIO)) {
		errno = fault.error;
		return -1;
	}
	return result;
}

/* Of its commands those with no argument or a number are ours. */
WRAP(int, fcntl, (int fd, int command, ...))
{
	va_list list;
	long value;

	va_start(list, command);
	value = va_arg(list, long);
	va_end(list);
	if (STRIKES(fcntl, EPERM)) {
		errno = fault.error;
		return -1;
	}
	return __real_fcntl(fd, command, value);
}

/* epoll_pwait2(2), and what the libc has no functions for. */
WRAP(long, syscall, (long number, ...))
{
	long value[6];
	va_list list;

	va_start(list, number);
	for (int index = 0; index < 6; index++)
		value[index] = va_arg(list, long);
	va_end(list);
	if (STRIKES(syscall, EINTR, ENOSYS)) {
		errno = fault.error;
		return -1;
	}
	return __real_syscall(number, value[0], value[1], value[2], value[3], value[4], value[5]);
}

/* --- Sockets -------------------------------------------------------------- */

/* No EAGAIN: that there is nothing is the truth, and what comes then is announced. */

WRAP_ERRNO(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags),
           EINTR, ENOMEM, ECONNRESET)
WRAP_ERRNO(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags),
           EINTR, ENOMEM, ECONNREFUSED)
WRAP_ERRNO(ssize_t, send, (int fd, const void *data, size_t size, int flags),
           (fd, data, size, flags), EINTR, ENOBUFS, EPIPE)
WRAP_ERRNO(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
           (fd, message, flags), EINTR, ENOBUFS, EPIPE)
WRAP_ERRNO(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), EINTR)
WRAP_ERRNO(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), EINTR)
WRAP_ERRNO(int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags),
           (fd, address, size, flags), EINTR, ECONNABORTED, EMFILE, ENOMEM)
WRAP_ERRNO(int, connect, (int fd, const struct sockaddr *address, socklen_t size),
           (fd, address, size), ENETUNREACH, EADDRNOTAVAIL)
WRAP_ERRNO(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
           (fd, level, name, value, size), ENOBUFS)

/* --- Threads -------------------------------------------------------------- */

WRAP_NUMBER(pthread_create, +,
            (pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
             void *argument), (thread, attributes, run, argument), EAGAIN)
WRAP_NUMBER(pthread_atfork, +, (void (*before)(void), void (*parent)(void), void (*child)(void)),
            (before, parent, child), ENOMEM)

/* --- The ring ------------------------------------------------------------- */

WRAP_NUMBER(io_uring_queue_init_params, -,
            (unsigned entries, struct io_uring *ring, struct io_uring_params *params),
            (entries, ring, params), ENOMEM, EMFILE, EPERM)
WRAP_NUMBER(io_uring_enter2, -,
            (unsigned fd, unsigned submit, unsigned wait, unsigned flags, void *argument,
             size_t size), (fd, submit, wait, flags, argument, size),
            EINTR, EAGAIN, ENOMEM, EBUSY)
WRAP_NUMBER(io_uring_register, -,
            (unsigned fd, unsigned operation, const void *argument, unsigned count),
            (fd, operation, argument, count), ENOMEM)
WRAP_NUMBER(io_uring_ring_dontfork, -, (struct io_uring *ring), (ring), EINVAL)
WRAP_NUMBER(io_uring_register_buf_ring, -,
            (struct io_uring *ring, struct io_uring_buf_reg *request, unsigned flags),
            (ring, request, flags), ENOMEM)
WRAP_NUMBER(io_uring_register_ring_fd, -, (struct io_uring *ring), (ring), ENOMEM, EBUSY)
WRAP_NUMBER(io_uring_register_iowq_max_workers, -, (struct io_uring *ring, unsigned *values),
            (ring, values), ENOMEM)
WRAP_NUMBER(io_uring_register_sync_cancel, -,
            (struct io_uring *ring, struct io_uring_sync_cancel_reg *request), (ring, request),
            EINTR, ENOMEM, ETIME)
WRAP_NUMBER(io_uring_register_probe, -,
            (struct io_uring *ring, struct io_uring_probe *probe, unsigned count),
            (ring, probe, count), ENOMEM)

#endif
