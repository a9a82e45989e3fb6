/*
 * Whether a piece of a file is in memory, found out without waiting for a disk.
 *
 * cachestat(2) counts pages, but the kernel tells it only to who may write the
 * file, and counts pages that are still being read.  A read of one byte that
 * must not wait says whether that byte is there; made here and there it judges
 * a whole piece, since the kernel reads ahead in runs of many pages.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../libc.h"
#include "open.h"

/* Newer than the headers that we build with; the number is the same everywhere. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* Between two bytes that are asked for: what the kernel reads ahead in one go, unless told. */
#define STRIDE (128 * 1024)

struct cache_range {
	uint64_t offset;
	uint64_t size;
};

struct cache_counts {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

enum answer { YES,
              NO,
              UNKNOWN };

static enum answer all_pages_cached(int fd, uint64_t offset, uint64_t size)
{
	struct cache_range range = {.offset = offset, .size = size};
	struct cache_counts counts = {0};
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (syscall(SYS_cachestat, fd, &range, &counts, 0) != 0)
		return UNKNOWN;
	return counts.cached < (offset + size - 1) / page - offset / page + 1 ? NO : YES;
}

static enum answer byte_cached(int fd, uint64_t offset)
{
	unsigned char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};

	if (ul_preadv2(fd, &iov, 1, (int64_t)offset, RWF_NOWAIT) >= 0)
		return YES;
	return errno == EAGAIN ? NO : UNKNOWN;
}

int ul_file_in_memory(int fd, int64_t offset, uint32_t size, int thoroughly)
{
	struct stat status;
	enum answer counted;
	uint64_t at = (uint64_t)offset;
	uint64_t stride;
	uint64_t end;

	/* Nobody waits for anything but a regular file, nor behind its end. */
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || offset < 0 ||
	    offset >= status.st_size)
		return 1;
	end = (uint64_t)status.st_size;
	if (end - at > size)
		end = at + size;
	if (end == at)
		return 1;
	counted = all_pages_cached(fd, at, end - at);
	if (counted == NO)
		return 0;
	stride = counted == YES && !thoroughly ? UINT64_MAX : STRIDE;
	for (;;) {
		enum answer answer = byte_cached(fd, at);

		/* The count decides where the file system cannot say (EOPNOTSUPP). */
		if (answer == UNKNOWN)
			return counted == YES;
		if (answer == NO)
			return 0;
		if (at == end - 1)
			return 1;
		at = end - at > stride ? at + stride : end - 1;
	}
}
