/*
 * Counting another process's system calls, at a cost it hardly notices.
 *
 * The kernel's raw_syscalls:sys_enter tracepoint, counted by a perf event per
 * thread, needs privileges; where that is refused, trace_calls.c runs the
 * server under ptrace(2) and keeps the count in a mapped file instead.
 */
#ifndef PERF_CALLS_H
#define PERF_CALLS_H

#include <dirent.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_THREADS 64

struct call_counter {
	const char *how;                /* NULL: nothing is counted */
	const volatile uint64_t *mapped;
	int fds[MAX_THREADS];
	int fd_count;
};

static inline int tracepoint_id(void)
{
	static const char path[] = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";
	FILE *file = fopen(path, "r");
	int id = -1;

	if (!file && !unshare(CLONE_NEWNS)) {
		/* In a mount namespace of our own: the machine is not changed. */
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL))
			return -1;
		file = fopen(path, "r");
	}
	if (!file)
		return -1;
	if (fscanf(file, "%d", &id) != 1)
		id = -1;
	fclose(file);
	return id;
}

/* Count the calls of every thread that `process` has now, and their children. */
static inline void call_counter_open(struct call_counter *counter, pid_t process)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attributes),
		.inherit = 1,
	};
	struct dirent *entry;
	char path[64];
	DIR *threads;
	int id = tracepoint_id(), fd;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)process);
	threads = id < 0 ? NULL : opendir(path);
	if (!threads)
		return;
	attributes.config = (uint64_t)id;
	while ((entry = readdir(threads)) && counter->fd_count < MAX_THREADS) {
		if (entry->d_name[0] == '.')
			continue;
		fd = (int)syscall(SYS_perf_event_open, &attributes, atoi(entry->d_name), -1, -1,
				  PERF_FLAG_FD_CLOEXEC);
		if (fd >= 0)
			counter->fds[counter->fd_count++] = fd;
	}
	closedir(threads);
	if (counter->fd_count)
		counter->how = "tracepoint";
}

/* Read the count that trace_calls.c keeps in `path`. */
static inline void call_counter_map(struct call_counter *counter, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *memory;

	if (fd < 0)
		return;
	memory = mmap(NULL, sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		return;
	counter->mapped = memory;
	counter->how = "ptrace";
}

static inline uint64_t call_counter_read(const struct call_counter *counter)
{
	uint64_t total = 0, count;
	int i;

	if (counter->mapped)
		return *counter->mapped;
	for (i = 0; i < counter->fd_count; i++)
		if (read(counter->fds[i], &count, sizeof(count)) == (ssize_t)sizeof(count))
			total += count;
	return total;
}

#endif
