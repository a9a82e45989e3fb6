/* The functions of binding.h: a driver's life, and what is known of it, for Python. */
#include "open.h"

#include <stddef.h>
#include <string.h>

void ul_abandon(struct ul_driver **place)
{
	if (*place != NULL)
		ul_destroy(*place);
	*place = NULL;
}

void ul_destroy(struct ul_driver *driver)
{
	driver->table->destroy(driver);
}

const char *ul_name(struct ul_driver *driver)
{
	return driver->table->name;
}

uintptr_t ul_table_address(struct ul_driver *driver)
{
	return (uintptr_t)driver->table;
}

/* Names, in the order of struct ul_statistics. */
static const char *const statistics_names[] = {
	"turns", "waits", "enters", "submitted", "completed", "wakes", "rearmed",
	"buffers_exhausted", "cq_overflows", "rebuilt", "in_flight",
	/* batches */
	"0", "1", "2-3", "4-7", "8-15", "16-31", "32-63", "64-127", "128-255", "256-511",
	"512-1023", "1024-2047", "2048-4095", "4096+",
	/* submissions: enum io_uring_op */
	"nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add",
	"poll_remove", "sync_file_range", "sendmsg", "recvmsg", "timeout", "timeout_remove",
	"accept", "async_cancel", "link_timeout", "connect", "fallocate", "openat", "close",
	"files_update", "statx", "read", "write", "fadvise", "madvise", "send", "recv",
	"openat2", "epoll_ctl", "splice", "provide_buffers", "remove_buffers", "tee",
	"shutdown", "renameat", "unlinkat", "mkdirat", "symlinkat", "linkat", "msg_ring",
	"fsetxattr", "setxattr", "fgetxattr", "getxattr", "socket", "uring_cmd", "send_zc",
	"sendmsg_zc", "read_multishot", "waitid", "futex_wait", "futex_wake", "futex_waitv",
	"fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait",
	"readv_fixed", "writev_fixed", "pipe",
};

#define STATISTICS_COUNT (sizeof(struct ul_statistics) / sizeof(uint64_t))
#define FIRST(array) (offsetof(struct ul_statistics, array) / sizeof(uint64_t))
_Static_assert(sizeof(statistics_names) / sizeof(char *) == STATISTICS_COUNT,
               "one name for each counter");
_Static_assert(FIRST(batches) + UL_BATCHES == FIRST(submissions) &&
               FIRST(submissions) + UL_OPCODES == STATISTICS_COUNT, "groups come last");

uint32_t ul_statistics(struct ul_driver *driver, uint64_t *values, uint32_t capacity)
{
	const struct ul_statistics *statistics = driver->table->statistics(driver);
	size_t count = capacity < STATISTICS_COUNT ? capacity : STATISTICS_COUNT;

	memcpy(values, statistics, count * sizeof(*values));
	return STATISTICS_COUNT;
}

const char *ul_statistics_name(uint32_t index)
{
	return index < STATISTICS_COUNT ? statistics_names[index] : NULL;
}

const char *ul_statistics_group(uint32_t index)
{
	if (index < FIRST(batches) || index >= STATISTICS_COUNT)
		return NULL;
	return index < FIRST(submissions) ? "batches" : "submissions";
}
