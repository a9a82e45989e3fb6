/*
 * A queue of calls and the threads that make them.
 *
 * Jobs are handed over in batches, once a turn, and come back on a list that is
 * taken whole: under load neither side pays for a wake-up per job.
 */
#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat.h"
#include "../../libc.h"
#include "open.h"

/* As many disks' worth of waiting as the ring's workers are allowed. */
#define THREADS_MAX UL_WORKERS_MAX
/* They call the kernel and nothing else. */
#define STACK_SIZE (256 * 1024)

struct ul_workers {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	pthread_cond_t gone;             /* the last of them ends */
	struct ul_job *first;            /* the queue, under `lock` */
	struct ul_job *last;
	struct ul_job *begun;            /* what threads are at, under `lock`; linked so, too */
	unsigned queued;
	unsigned idle;
	unsigned running;                /* threads that have not ended */
	bool closing;
	bool abandoned;                  /* nobody waits for them: the last one frees this */
	_Atomic(struct ul_job *) done;   /* pushed by threads, taken whole; last come first */
	void (*ended)(struct ul_driver *driver);
	struct ul_driver *driver;        /* the owner's */
	unsigned epoch;                  /* ul_fork_epoch when it was made */

	/* The owner's thread only. */
	struct ul_job *fresh;            /* added, not flushed; linked like the queue */
	struct ul_job *fresh_last;
	unsigned fresh_count;
	bool due;                        /* something was added since the last flush() */
	unsigned thread_count;
	pthread_t threads[THREADS_MAX];
};

/* The calls. */

static void *pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* A pipe or a terminal waits for others: a thread in that could not be called back. */
static bool waits_for_disk_only(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISBLK(mode);
}

static int64_t call_open(const struct ul_request *request)
{
	const char *path = pointer(request->address);
	int flags = (int)request->op_flags;
	struct stat status;
	int fd;

	if (fstatat(request->fd, path, &status,
	            flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) == 0 &&
	    !waits_for_disk_only(status.st_mode) && !S_ISLNK(status.st_mode))
		return -ENOTBLK;
	/* Something else may have taken its name since. */
	fd = openat(request->fd, path, flags | O_NONBLOCK, (mode_t)request->length);
	if (fd < 0)
		return errno == EWOULDBLOCK && !(flags & O_NONBLOCK) ? -ENOTBLK : -errno;
	if (!(flags & O_NONBLOCK) &&
	    fcntl(fd, F_SETFL, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC)) != 0) {
		int failure = -errno;

		close(fd);
		return failure;
	}
	return fd;
}

static int64_t call_transfer(const struct ul_request *request)
{
	void *data = pointer(request->address);
	off_t offset = (off_t)request->address2;
	struct stat status;
	ssize_t count;

	if (fstat(request->fd, &status) != 0)
		return -errno;
	if (!waits_for_disk_only(status.st_mode))
		return -ENOTBLK;
	if (request->opcode == IORING_OP_READ)
		count = offset == -1 ? read(request->fd, data, request->length) :
		                       pread(request->fd, data, request->length, offset);
	else
		count = offset == -1 ? write(request->fd, data, request->length) :
		                       pwrite(request->fd, data, request->length, offset);
	return count < 0 ? -errno : count;
}

static int64_t call(const struct ul_request *request)
{
	int fd = request->fd;
	const char *path = pointer(request->address);
	const char *other = pointer(request->address2);
	uint32_t flags = request->op_flags;
	int64_t result;

	switch (request->opcode) {
	case IORING_OP_OPENAT:
		return call_open(request);
	case IORING_OP_READ:
	case IORING_OP_WRITE:
		return call_transfer(request);
	case IORING_OP_CLOSE:
		result = close(fd);
		break;
	case IORING_OP_FSYNC:
		result = flags & IORING_FSYNC_DATASYNC ? fdatasync(fd) : fsync(fd);
		break;
	case UL_OP_FTRUNCATE:
		result = ftruncate(fd, (off_t)request->address2);
		break;
	case IORING_OP_FALLOCATE:
		result = fallocate(fd, (int)request->length, (off_t)request->address2,
		                   (off_t)request->address);
		break;
	case IORING_OP_STATX:
		result = ul_statx(fd, path, (int)flags, request->length,
		                  pointer(request->address2));
		break;
	case IORING_OP_RENAMEAT:
		result = ul_renameat2(fd, path, (int)request->length, other, flags);
		break;
	case IORING_OP_UNLINKAT:
		result = unlinkat(fd, path, (int)flags);
		break;
	case IORING_OP_MKDIRAT:
		result = mkdirat(fd, path, (mode_t)request->length);
		break;
	case IORING_OP_SYMLINKAT:
		result = symlinkat(path, fd, other);
		break;
	case IORING_OP_LINKAT:
		result = linkat(fd, path, (int)request->length, other, (int)flags);
		break;
	default:
		return -EOPNOTSUPP;
	}
	return result < 0 ? -errno : result;
}

bool ul_workers_have(uint8_t opcode)
{
	switch (opcode) {
	case IORING_OP_OPENAT:
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_CLOSE:
	case IORING_OP_FSYNC:
	case UL_OP_FTRUNCATE:
	case IORING_OP_FALLOCATE:
	case IORING_OP_STATX:
	case IORING_OP_RENAMEAT:
	case IORING_OP_UNLINKAT:
	case IORING_OP_MKDIRAT:
	case IORING_OP_SYMLINKAT:
	case IORING_OP_LINKAT:
		return true;
	default:
		return false;
	}
}

/* The threads. */

static void done_push(struct ul_workers *workers, struct ul_job *job)
{
	struct ul_job *head = atomic_load(&workers->done);

	do {
		job->next = head;
	} while (!atomic_compare_exchange_weak(&workers->done, &head, job));
	/* Whoever finds it empty tells; what joins before it is taken needs no word. */
	if (head == NULL)
		workers->ended(workers->driver);
}

static void queue_drop(struct ul_workers *workers, struct ul_job *job)
{
	if (job->previous != NULL)
		job->previous->next = job->next;
	else
		workers->first = job->next;
	if (job->next != NULL)
		job->next->previous = job->previous;
	else
		workers->last = job->previous;
	job->queued = false;
	workers->queued--;
}

static void begun_add(struct ul_workers *workers, struct ul_job *job)
{
	job->previous = NULL;
	job->next = workers->begun;
	if (job->next != NULL)
		job->next->previous = job;
	workers->begun = job;
}

static void begun_drop(struct ul_workers *workers, struct ul_job *job)
{
	if (job->previous != NULL)
		job->previous->next = job->next;
	else
		workers->begun = job->next;
	if (job->next != NULL)
		job->next->previous = job->previous;
}

static void workers_free(struct ul_workers *workers)
{
	pthread_cond_destroy(&workers->gone);
	pthread_cond_destroy(&workers->wanted);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

/* `lock` is held, and let go. */
static void thread_ends(struct ul_workers *workers)
{
	bool last = --workers->running == 0;
	bool abandoned = workers->abandoned;

	if (last && !abandoned)
		pthread_cond_signal(&workers->gone);
	pthread_mutex_unlock(&workers->lock);
	if (last && abandoned)
		workers_free(workers);
}

static void *work(void *argument)
{
	struct ul_workers *workers = argument;
	struct ul_job *job;

	pthread_mutex_lock(&workers->lock);
	while (!workers->closing) {
		job = workers->first;
		if (job == NULL) {
			workers->idle++;
			pthread_cond_wait(&workers->wanted, &workers->lock);
			workers->idle--;
			continue;
		}
		queue_drop(workers, job);
		begun_add(workers, job);
		pthread_mutex_unlock(&workers->lock);
		job->result = (int32_t)call(&job->request);
		/* Told under the lock: who abandons us takes the driver away. */
		pthread_mutex_lock(&workers->lock);
		begun_drop(workers, job);
		if (workers->abandoned)
			free(job);
		else
			done_push(workers, job);
	}
	thread_ends(workers);
	return NULL;
}

static bool start_thread(struct ul_workers *workers)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int failure;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failure = pthread_create(&workers->threads[workers->thread_count], &attributes, work,
	                         workers);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (failure == 0) {
		workers->thread_count++;
		workers->running++;
	}
	return failure == 0;
}

/* The owner. */

struct ul_workers *ul_workers_open(void (*ended)(struct ul_driver *), struct ul_driver *driver)
{
	struct ul_workers *workers = calloc(1, sizeof(*workers));
	pthread_condattr_t monotonic;

	if (workers == NULL)
		return NULL;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wanted, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&workers->gone, &monotonic);
	pthread_condattr_destroy(&monotonic);
	workers->ended = ended;
	workers->driver = driver;
	workers->epoch = atomic_load(&ul_fork_epoch);
	return workers;
}

/* `lock` is held.  Whether the threads have ended by then. */
static bool wait_until_gone(struct ul_workers *workers, uint64_t limit_ns)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	limit_ns += (uint64_t)end.tv_nsec;
	end.tv_sec += (time_t)(limit_ns / 1000000000);
	end.tv_nsec = (long)(limit_ns % 1000000000);
	while (workers->running != 0)
		if (pthread_cond_timedwait(&workers->gone, &workers->lock, &end) != 0)
			break;
	return workers->running == 0;
}

/* `lock` is held.  Nobody waits for the threads any more. */
static unsigned abandon(struct ul_workers *workers, void *lost[UL_WORKERS_MAX])
{
	const struct ul_job *job;
	unsigned count = 0;
	unsigned index;

	workers->abandoned = true;
	for (index = 0; index < workers->thread_count; index++)
		pthread_detach(workers->threads[index]);
	for (job = workers->begun; job != NULL; job = job->next)
		lost[count++] = job->owner;
	return count;
}

unsigned ul_workers_close(struct ul_workers *workers, uint64_t limit_ns,
                          struct ul_job **taken, void *lost[UL_WORKERS_MAX])
{
	unsigned index;
	unsigned count;

	pthread_mutex_lock(&workers->lock);
	workers->closing = true;
	pthread_cond_broadcast(&workers->wanted);
	if (!wait_until_gone(workers, limit_ns)) {
		count = abandon(workers, lost);
		*taken = ul_workers_take(workers);
		pthread_mutex_unlock(&workers->lock);
		return count;
	}
	pthread_mutex_unlock(&workers->lock);
	for (index = 0; index < workers->thread_count; index++)
		pthread_join(workers->threads[index], NULL);
	*taken = ul_workers_take(workers);
	workers_free(workers);
	return 0;
}

void ul_workers_forget(struct ul_workers *workers, struct ul_job **taken)
{
	*taken = ul_workers_take(workers);
	/* A thread that is not here may hold the lock: it is not destroyed. */
	free(workers);
}

bool ul_workers_forked(const struct ul_workers *workers)
{
	return workers->epoch != atomic_load_explicit(&ul_fork_epoch, memory_order_relaxed);
}

void ul_workers_add(struct ul_workers *workers, struct ul_job *job)
{
	job->queued = true;
	job->next = NULL;
	job->previous = workers->fresh_last;
	if (workers->fresh_last != NULL)
		workers->fresh_last->next = job;
	else
		workers->fresh = job;
	workers->fresh_last = job;
	workers->fresh_count++;
	workers->due = true;
}

/* `lock` is held.  What was added joins the queue. */
static void hand_over(struct ul_workers *workers)
{
	if (workers->fresh == NULL)
		return;
	workers->fresh->previous = workers->last;
	if (workers->last != NULL)
		workers->last->next = workers->fresh;
	else
		workers->first = workers->fresh;
	workers->last = workers->fresh_last;
	workers->queued += workers->fresh_count;
	workers->fresh = NULL;
	workers->fresh_last = NULL;
	workers->fresh_count = 0;
}

/* `lock` is held, and there is no thread, nor memory for one: the owner must find another way. */
static void refuse_all(struct ul_workers *workers)
{
	struct ul_job *job;

	while ((job = workers->first) != NULL) {
		queue_drop(workers, job);
		job->result = -ENOTBLK;
		done_push(workers, job);
	}
}

void ul_workers_flush(struct ul_workers *workers)
{
	unsigned wake;

	if (!workers->due)
		return;
	workers->due = false;
	pthread_mutex_lock(&workers->lock);
	hand_over(workers);
	wake = workers->queued;
	if (wake > workers->idle) {
		/* A new thread takes the first job that it finds. */
		unsigned missing = wake - workers->idle;

		wake = workers->idle;
		while (missing-- > 0 && workers->thread_count < THREADS_MAX &&
		       start_thread(workers))
			continue;
		if (workers->thread_count == 0)
			refuse_all(workers);
	}
	while (wake-- > 0)
		pthread_cond_signal(&workers->wanted);
	pthread_mutex_unlock(&workers->lock);
}

bool ul_workers_remove(struct ul_workers *workers, struct ul_job *job)
{
	bool removed;

	pthread_mutex_lock(&workers->lock);
	hand_over(workers);
	removed = job->queued;
	if (removed)
		queue_drop(workers, job);
	pthread_mutex_unlock(&workers->lock);
	return removed;
}

struct ul_job *ul_workers_take(struct ul_workers *workers)
{
	struct ul_job *job, *next, *first = NULL;

	if (atomic_load_explicit(&workers->done, memory_order_relaxed) == NULL)
		return NULL;
	for (job = atomic_exchange(&workers->done, NULL); job != NULL; job = next) {
		next = job->next;
		job->next = first;
		first = job;
	}
	return first;
}
