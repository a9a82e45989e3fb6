/*
 * Threads that make system calls which may wait for a disk.
 *
 * One thread, the owner's, adds jobs and takes back those that have ended.  A
 * job is the owner's memory; from flush() on a thread may look at it, until it
 * is taken back or removed.  The threads block every signal.
 */
#ifndef UL_WORKERS_H
#define UL_WORKERS_H

#include "driver.h"

struct ul_job {
	struct ul_job *next;
	struct ul_job *previous;
	void *owner;
	struct ul_request request;
	int32_t result;
	bool queued;
};

#define UL_WORKERS_MAX 16

struct ul_workers;

/* Whether there is such a call. */
bool ul_workers_have(uint8_t opcode);

/*
 * `ended` is called by a thread when there is something to take(), once until
 * it is taken.  NULL when memory is out.
 */
struct ul_workers *ul_workers_open(void (*ended)(struct ul_driver *), struct ul_driver *driver);
/*
 * Wait for the jobs that have begun, but no longer than `limit_ns`: `*taken` are those
 * that have ended.  A job that a thread is still at becomes that thread's, which frees
 * it, and may go on to use the memory that its request names: `lost` are the owners of
 * those, as many as the result says.  Every other job is the owner's again.
 */
unsigned ul_workers_close(struct ul_workers *workers, uint64_t limit_ns,
                          struct ul_job **taken, void *lost[UL_WORKERS_MAX]);
/*
 * In a forked child, where the threads are not: free it.  `*taken` are the jobs that had
 * ended before the fork; every other is the owner's again.
 */
void ul_workers_forget(struct ul_workers *workers, struct ul_job **taken);
/* Made before a fork of this process, and only fit for forget(). */
bool ul_workers_forked(const struct ul_workers *workers);

/* Begins with the next flush(). */
void ul_workers_add(struct ul_workers *workers, struct ul_job *job);
void ul_workers_flush(struct ul_workers *workers);
/* False when it has begun. */
bool ul_workers_remove(struct ul_workers *workers, struct ul_job *job);
/* The jobs that have ended, first come first, as a list; NULL for none. */
struct ul_job *ul_workers_take(struct ul_workers *workers);

#endif
