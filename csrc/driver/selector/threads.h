/*
 * Threads that make system calls which may wait for a disk.
 *
 * One thread, the owner's, adds jobs and takes back those that have ended.  A
 * job is the owner's memory; from flush() on a thread may look at it, until it
 * is taken back or removed.  The threads block every signal.
 */
#ifndef THREADS_H
#define THREADS_H

#include "driver.h"

struct job {
	struct job *next;
	struct job *previous;
	void *owner;
	struct ul_request request;
	int32_t result;
	bool queued;
};

/* The same limit as that of the ring's workers. */
#define THREADS_MAX 16

struct threads;

/*
 * `ended` is called by a thread when there is something to take(), once until
 * it is taken.  NULL when memory is out.
 */
struct threads *threads_open(void (*ended)(struct ul_driver *), struct ul_driver *driver);
/*
 * Wait for the jobs that have begun, but no longer than `limit_ns`: `*taken` are those
 * that have ended.  A job that a thread is still at becomes that thread's, which frees
 * it, and may go on to use the memory that its request names: `lost` are the owners of
 * those, as many as the result says.  Every other job is the owner's again.
 */
unsigned threads_close(struct threads *threads, uint64_t limit_ns,
                       struct job **taken, void *lost[THREADS_MAX]);
/*
 * In a forked child, where the threads are not: free it.  `*taken` are the jobs that had
 * ended before the fork; every other is the owner's again.
 */
void threads_forget(struct threads *threads, struct job **taken);
/* Made before a fork of this process, and only fit for forget(). */
bool threads_forked(const struct threads *threads);

/* Begins with the next flush(). */
void threads_add(struct threads *threads, struct job *job);
void threads_flush(struct threads *threads);
/* False when it has begun. */
bool threads_remove(struct threads *threads, struct job *job);
/* The jobs that have ended, first come first, as a list; NULL for none. */
struct job *threads_take(struct threads *threads);

#endif
