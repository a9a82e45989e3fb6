/*
 * The selector's turn, which finds what is ready and sleeps when nothing is; and its
 * harvest.
 *
 * A turn moves what epoll reports to the `work` list; harvest() serves that
 * list.  Between the two the owner may close, cancel and start what it likes:
 * an entry of the list is a descriptor that is due a look, no promise.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "monotonic.h"
#include "selector.h"

#define EVENTS_PER_TURN 256
/* A loop that found nothing for so long has the time to settle doubts. */
#define QUIET_NS INT64_C(50000000)
/* A power of two: in one of so many turns a busy one settles a few. */
#define TURNS_TO_DOUBT 256

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static bool is_pending(const struct selector *selector)
{
	return selector->done.first != NULL || selector->work.first != NULL ||
	       selector->later.first != NULL;
}

bool selector_immediate(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);

	return is_pending(selector) ||
	       atomic_load_explicit(&selector->woken, memory_order_relaxed);
}

static void later_becomes_work(struct selector *selector)
{
	struct descriptor *descriptor;

	while ((descriptor = selector->later.first) != NULL) {
		descriptor_list_remove(descriptor);
		descriptor_due(selector, descriptor, descriptor->again);
		descriptor->again = 0;
	}
}

static void event_found(struct selector *selector, const struct epoll_event *event)
{
	uint64_t data = event->data.u64;
	uint32_t events = event->events;
	struct descriptor *descriptor;
	uint8_t due = 0;

	if (data == DATA_WAKE)
		return;
	descriptor = descriptor_find(selector, (int)(uint32_t)(data & ~DATA_LEVEL));
	/*
	 * Nobody can have changed a registration since epoll_wait(2) returned:
	 * this is a file that outlived its descriptor.  Edge-triggered it
	 * bothers us seldom; level-triggered it would for ever.
	 */
	if (descriptor == NULL || descriptor->registration == UNREGISTERED ||
	    descriptor->generation != (uint32_t)(data >> 32)) {
		if (data & DATA_LEVEL)
			selector->stale = true;
		return;
	}
	descriptor->ready |= events;
	descriptor->announced |= events & EVENTS_ANNOUNCING;
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
		descriptor->full = false;
		if (descriptor->writers.first != NULL)
			due |= DUE_WRITE;
	}
	if (events & (EPOLLIN | EVENTS_ANNOUNCING) && descriptor->readers.first != NULL)
		due |= DUE_READ;
	if (descriptor->pollers.first != NULL)
		due |= DUE_POLL;
	/* Even without a watch: serving tells a level-triggered set that it has ended. */
	if (descriptor->registration == LEVEL)
		due |= DUE_WATCH;
	if (due != 0)
		descriptor_due(selector, descriptor, due);
	else
		descriptor->ready = 0;
}

/* The timeouts that have passed. */
static void deadlines_expire(struct selector *selector)
{
	uint64_t now = monotonic_ns();
	struct deadlines *deadlines = &selector->deadlines;

	while (deadlines->count != 0 && deadlines->heap[0]->deadline_ns <= now)
		operation_complete(selector, deadlines->heap[0], -ETIME);
}

static int64_t wait_bounded(const struct selector *selector, int64_t timeout_ns)
{
	uint64_t now;
	uint64_t deadline;

	if (timeout_ns == 0 || selector->deadlines.count == 0)
		return timeout_ns;
	now = monotonic_ns();
	deadline = selector->deadlines.heap[0]->deadline_ns;
	if (deadline <= now)
		return 0;
	if (timeout_ns < 0 || deadline - now < (uint64_t)timeout_ns)
		return deadline - now < INT64_MAX ? (int64_t)(deadline - now) : UL_FOREVER;
	return timeout_ns;
}

static int epoll_wait_ns(struct selector *selector, struct epoll_event *events,
                         int64_t timeout_ns)
{
	int64_t timeout_ms;

	selector->statistics.enters++;
	if (timeout_ns > 0 && selector->has_pwait2) {
		struct timespec timeout = {
			.tv_sec = timeout_ns / 1000000000,
			.tv_nsec = timeout_ns % 1000000000,
		};
		long count = syscall(SYS_epoll_pwait2, selector->epoll_fd, events,
		                     EVENTS_PER_TURN, &timeout, NULL, 0);

		/* ENOSYS before Linux 5.11, or whatever a seccomp filter answers. */
		if (count >= 0 || errno == EINTR || errno == EBADF)
			return (int)count;
		selector->has_pwait2 = false;
	}
	/* Rounded up: an early end would only turn once more, for nothing. */
	timeout_ms = timeout_ns <= 0 ? timeout_ns : (timeout_ns - 1) / 1000000 + 1;
	return epoll_wait(selector->epoll_fd, events, EVENTS_PER_TURN,
	                  timeout_ns < 0 ? -1 : timeout_ms < INT32_MAX ? (int)timeout_ms
	                                                              : INT32_MAX);
}

/*
 * epoll_wait(2), asleep only as long as wake() can end it.  The order matters:
 * a wake() that comes before `sleeping` is set leaves `woken`, one that comes
 * after it writes to the eventfd.
 */
static inline int wait_once(struct selector *selector, struct epoll_event *events,
                            int64_t timeout_ns)
{
	int result;

	timeout_ns = wait_bounded(selector, timeout_ns);
	if (timeout_ns != 0) {
		atomic_store(&selector->sleeping, true);
		if (atomic_load(&selector->woken))
			timeout_ns = 0;
		else
			selector->statistics.waits++;
	}
	result = epoll_wait_ns(selector, events, timeout_ns);
	if (result < 0)
		result = -errno;
	atomic_store_explicit(&selector->sleeping, false, memory_order_relaxed);
	return result;
}

/* As wait_once(), but doubts are settled when nothing happens for a while. */
static int doubtful_wait(struct selector *selector, struct epoll_event *events,
                         int64_t timeout_ns)
{
	int result = wait_once(selector, events, QUIET_NS);

	if (result != 0 || atomic_load_explicit(&selector->woken, memory_order_relaxed))
		return result;
	doubts_settle(selector, true);
	if (is_pending(selector))
		return 0;
	return wait_once(selector, events, timeout_ns < 0 ? timeout_ns : timeout_ns - QUIET_NS);
}

int selector_turn(struct ul_driver *driver, int64_t timeout_ns)
{
	struct selector *selector = selector_of(driver);
	struct epoll_event events[EVENTS_PER_TURN];
	bool skip;
	int result = 0;
	int index;

	statistics_turn(&selector->statistics, &selector->batch_before);
	if (belongs_to_parent(selector) || selector->stale) {
		result = selector_rebuild(selector);
		if (result != 0)
			return result;
	}
	requests_flush(selector);
	if (selector->doubtful && selector->statistics.turns % TURNS_TO_DOUBT == 0)
		doubts_settle(selector, false);
	/*
	 * With work at hand there is nothing to wait for, and every other turn
	 * does without asking epoll.  Never two in a row: what becomes ready
	 * elsewhere then waits for one round of the work at most.
	 */
	skip = false;
	if (is_pending(selector)) {
		later_becomes_work(selector);
		timeout_ns = 0;
		skip = !selector->skipped;
	}
	selector->skipped = skip;
	if (!skip)
		result = selector->doubtful && (timeout_ns < 0 || timeout_ns > QUIET_NS)
		                 ? doubtful_wait(selector, events, timeout_ns)
		                 : wait_once(selector, events, timeout_ns);
	if (result == -EINTR)
		result = 0;
	for (index = 0; index < result; index++)
		event_found(selector, &events[index]);
	if (selector->deadlines.count != 0)
		deadlines_expire(selector);
	/* The exchange makes visible what was done before the wake() that it sees. */
	if (atomic_load_explicit(&selector->woken, memory_order_relaxed))
		atomic_exchange(&selector->woken, false);
	/* Later than that: whatever ends from here on wakes the next turn. */
	requests_take(selector);
	return result < 0 ? result : 0;
}

void selector_wake(struct ul_driver *driver)
{
	struct selector *selector = selector_of(driver);
	uint64_t one = 1;
	int failure = errno;

	if (atomic_exchange(&selector->woken, true))
		return;
	if (!atomic_load(&selector->sleeping) || belongs_to_parent(selector))
		return;
	/* Fails only when the counter is full, and then it is readable as it is. */
	if (write(selector->wake_fd, &one, sizeof(one)) == sizeof(one))
		__atomic_fetch_add(&selector->statistics.wakes, 1, __ATOMIC_RELAXED);
	errno = failure;
}

/* --- Harvest -------------------------------------------------------------- */

static int done_harvest(struct selector *selector, struct ul_completion *out, int capacity)
{
	struct operation *operation;
	int count = 0;

	while (count < capacity && (operation = selector->done.first) != NULL) {
		out[count++] = (struct ul_completion){
			.owner = operation->slot.owner,
			.token = slot_token(&operation->slot),
			.result = operation->result,
			.flags = operation->keep ? UL_KEEP : 0,
		};
		operation_queue_remove(operation);
		slot_free(&selector->slots, &operation->slot);
	}
	return count;
}

/* The descriptor is through for this turn. */
static void descriptor_served(struct selector *selector, struct descriptor *descriptor)
{
	descriptor_list_remove(descriptor);
	descriptor->ready = 0;
	if (descriptor->again != 0)
		descriptor_list_append(&selector->later, descriptor);
	descriptor_settle(selector, descriptor);
}

static int work_harvest(struct selector *selector, struct ul_completion *out, int capacity)
{
	struct descriptor *descriptor;
	int count = 0;

	while (count < capacity && (descriptor = selector->work.first) != NULL) {
		bool lent = descriptor_serve(selector, descriptor, out, capacity, &count);

		if (descriptor->due == 0)
			descriptor_served(selector, descriptor);
		if (lent)
			break;
	}
	return count;
}

/* Out of line: a turn that has found nothing is the cheaper for it. */
__attribute__((noinline))
static int harvest_found(struct selector *selector, struct ul_completion *out, int capacity)
{
	int count = done_harvest(selector, out, capacity);

	/* The data is the parent's in a forked child, until a rebuild says otherwise. */
	if (count < capacity && selector->work.first != NULL && !belongs_to_parent(selector)) {
		count += work_harvest(selector, out + count, capacity - count);
		/* Descriptors that were served may have been found to be other files. */
		if (count == 0)
			count = done_harvest(selector, out, capacity);
	}
	selector->statistics.completed += (uint64_t)count;
	return count;
}

int selector_harvest(struct ul_driver *driver, struct ul_completion *out, int capacity)
{
	struct selector *selector = selector_of(driver);

	if (selector->done.first == NULL && selector->work.first == NULL)
		return 0;
	return harvest_found(selector, out, capacity);
}

void selector_recycle(struct ul_driver *driver, unsigned char *data)
{
	buffers_give(&selector_of(driver)->buffers, data);
}
