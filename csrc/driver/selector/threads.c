/*
 * A queue of calls and the threads that make them.
 *
 * Jobs are handed over in batches, once a turn, and come back on a list that is
 * taken whole: under load neither side pays for a wake-up per job.
 */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "calls.h"
#include "fork.h"

/* Threads here call the kernel and nothing else. */
#define STACK_SIZE (256 * 1024)

struct threads {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	pthread_cond_t gone;             /* the last of them ends */
	struct job *first;               /* the queue, under `lock` */
	struct job *last;
	struct job *begun;               /* what threads are at, under `lock`; linked so, too */
	unsigned queued;
	unsigned idle;
	unsigned running;                /* threads that have not ended */
	bool closing;
	bool abandoned;                  /* nobody waits for them: the last one frees this */
	_Atomic(struct job *) done;      /* pushed by threads, taken whole; last come first */
	void (*ended)(struct ul_driver *driver);
	struct ul_driver *driver;        /* the owner's */
	unsigned epoch;                  /* fork_epoch when it was made */

	/* The owner's thread only. */
	struct job *fresh;               /* added, not flushed; linked like the queue */
	struct job *fresh_last;
	unsigned fresh_count;
	bool due;                        /* something was added since the last flush() */
	unsigned thread_count;
	pthread_t handles[THREADS_MAX];
};

static void done_push(struct threads *threads, struct job *job)
{
	struct job *head = atomic_load(&threads->done);

	do {
		job->next = head;
	} while (!atomic_compare_exchange_weak(&threads->done, &head, job));
	/* Whoever finds it empty tells; what joins before it is taken needs no word. */
	if (head == NULL)
		threads->ended(threads->driver);
}

static void queue_drop(struct threads *threads, struct job *job)
{
	if (job->previous != NULL)
		job->previous->next = job->next;
	else
		threads->first = job->next;
	if (job->next != NULL)
		job->next->previous = job->previous;
	else
		threads->last = job->previous;
	job->queued = false;
	threads->queued--;
}

static void begun_add(struct threads *threads, struct job *job)
{
	job->previous = NULL;
	job->next = threads->begun;
	if (job->next != NULL)
		job->next->previous = job;
	threads->begun = job;
}

static void begun_drop(struct threads *threads, struct job *job)
{
	if (job->previous != NULL)
		job->previous->next = job->next;
	else
		threads->begun = job->next;
	if (job->next != NULL)
		job->next->previous = job->previous;
}

static void threads_free(struct threads *threads)
{
	pthread_cond_destroy(&threads->gone);
	pthread_cond_destroy(&threads->wanted);
	pthread_mutex_destroy(&threads->lock);
	free(threads);
}

/* `lock` is held, and let go. */
static void thread_ends(struct threads *threads)
{
	bool last = --threads->running == 0;
	bool abandoned = threads->abandoned;

	if (last && !abandoned)
		pthread_cond_signal(&threads->gone);
	pthread_mutex_unlock(&threads->lock);
	if (last && abandoned)
		threads_free(threads);
}

static void *thread_main(void *argument)
{
	struct threads *threads = argument;
	struct job *job;

	pthread_mutex_lock(&threads->lock);
	while (!threads->closing) {
		job = threads->first;
		if (job == NULL) {
			threads->idle++;
			pthread_cond_wait(&threads->wanted, &threads->lock);
			threads->idle--;
			continue;
		}
		queue_drop(threads, job);
		begun_add(threads, job);
		pthread_mutex_unlock(&threads->lock);
		job->result = (int32_t)calls_make(&job->request);
		/* Told under the lock: who abandons us takes the driver away. */
		pthread_mutex_lock(&threads->lock);
		begun_drop(threads, job);
		if (threads->abandoned)
			free(job);
		else
			done_push(threads, job);
	}
	thread_ends(threads);
	return NULL;
}

static bool start_thread(struct threads *threads)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	int failure;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failure = pthread_create(&threads->handles[threads->thread_count], &attributes, thread_main,
	                         threads);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (failure == 0) {
		threads->thread_count++;
		threads->running++;
	}
	return failure == 0;
}

/* --- The owner ------------------------------------------------------------ */

struct threads *threads_open(void (*ended)(struct ul_driver *), struct ul_driver *driver)
{
	struct threads *threads = calloc(1, sizeof(*threads));
	pthread_condattr_t monotonic;

	if (threads == NULL)
		return NULL;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->wanted, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&threads->gone, &monotonic);
	pthread_condattr_destroy(&monotonic);
	threads->ended = ended;
	threads->driver = driver;
	threads->epoch = fork_epoch_now();
	return threads;
}

/* `lock` is held.  Whether the threads have ended by then. */
static bool wait_until_gone(struct threads *threads, uint64_t limit_ns)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	limit_ns += (uint64_t)end.tv_nsec;
	end.tv_sec += (time_t)(limit_ns / 1000000000);
	end.tv_nsec = (long)(limit_ns % 1000000000);
	while (threads->running != 0)
		if (pthread_cond_timedwait(&threads->gone, &threads->lock, &end) != 0)
			break;
	return threads->running == 0;
}

/* `lock` is held.  Nobody waits for the threads any more. */
static unsigned abandon(struct threads *threads, void *lost[THREADS_MAX])
{
	const struct job *job;
	unsigned count = 0;
	unsigned index;

	threads->abandoned = true;
	for (index = 0; index < threads->thread_count; index++)
		pthread_detach(threads->handles[index]);
	for (job = threads->begun; job != NULL; job = job->next)
		lost[count++] = job->owner;
	return count;
}

unsigned threads_close(struct threads *threads, uint64_t limit_ns,
                       struct job **taken, void *lost[THREADS_MAX])
{
	unsigned index;
	unsigned count;

	pthread_mutex_lock(&threads->lock);
	threads->closing = true;
	pthread_cond_broadcast(&threads->wanted);
	if (!wait_until_gone(threads, limit_ns)) {
		count = abandon(threads, lost);
		*taken = threads_take(threads);
		pthread_mutex_unlock(&threads->lock);
		return count;
	}
	pthread_mutex_unlock(&threads->lock);
	for (index = 0; index < threads->thread_count; index++)
		pthread_join(threads->handles[index], NULL);
	*taken = threads_take(threads);
	threads_free(threads);
	return 0;
}

void threads_forget(struct threads *threads, struct job **taken)
{
	*taken = threads_take(threads);
	/* A thread that is not here may hold the lock: it is not destroyed. */
	free(threads);
}

bool threads_forked(const struct threads *threads)
{
	return made_before_fork(threads->epoch);
}

void threads_add(struct threads *threads, struct job *job)
{
	job->queued = true;
	job->next = NULL;
	job->previous = threads->fresh_last;
	if (threads->fresh_last != NULL)
		threads->fresh_last->next = job;
	else
		threads->fresh = job;
	threads->fresh_last = job;
	threads->fresh_count++;
	threads->due = true;
}

/* `lock` is held.  What was added joins the queue. */
static void hand_over(struct threads *threads)
{
	if (threads->fresh == NULL)
		return;
	threads->fresh->previous = threads->last;
	if (threads->last != NULL)
		threads->last->next = threads->fresh;
	else
		threads->first = threads->fresh;
	threads->last = threads->fresh_last;
	threads->queued += threads->fresh_count;
	threads->fresh = NULL;
	threads->fresh_last = NULL;
	threads->fresh_count = 0;
}

/* `lock` is held, and there is no thread, nor memory for one: the owner must find another way. */
static void refuse_all(struct threads *threads)
{
	struct job *job;

	while ((job = threads->first) != NULL) {
		queue_drop(threads, job);
		job->result = -ENOTBLK;
		done_push(threads, job);
	}
}

void threads_flush(struct threads *threads)
{
	unsigned wake;

	if (!threads->due)
		return;
	threads->due = false;
	pthread_mutex_lock(&threads->lock);
	hand_over(threads);
	wake = threads->queued;
	if (wake > threads->idle) {
		/* A new thread takes the first job that it finds. */
		unsigned missing = wake - threads->idle;

		wake = threads->idle;
		while (missing-- > 0 && threads->thread_count < THREADS_MAX &&
		       start_thread(threads))
			continue;
		if (threads->thread_count == 0)
			refuse_all(threads);
	}
	while (wake-- > 0)
		pthread_cond_signal(&threads->wanted);
	pthread_mutex_unlock(&threads->lock);
}

bool threads_remove(struct threads *threads, struct job *job)
{
	bool removed;

	pthread_mutex_lock(&threads->lock);
	hand_over(threads);
	removed = job->queued;
	if (removed)
		queue_drop(threads, job);
	pthread_mutex_unlock(&threads->lock);
	return removed;
}

struct job *threads_take(struct threads *threads)
{
	struct job *job, *next, *first = NULL;

	if (atomic_load_explicit(&threads->done, memory_order_relaxed) == NULL)
		return NULL;
	for (job = atomic_exchange(&threads->done, NULL); job != NULL; job = next) {
		next = job->next;
		job->next = first;
		first = job;
	}
	return first;
}
