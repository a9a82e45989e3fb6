/*
 * What is made of the kernel's two answers about a piece of a file: the number of its pages in
 * memory, and whether one byte can be read without waiting.
 *
 * Linked with syscall(2) wrapped: which pages are in memory is the test's to say.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "open.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define KIB 1024
#define SIZE (1024 * KIB)
#define NEVER (-1)

static struct {
	int counted;             /* an errno, or 0 */
	int missing;             /* the pages fewer than asked for */
	int read_error;          /* of each byte from `behind` on */
	int64_t behind;
	int reads;
} kernel;

/* The head of cachestat(2)'s arguments. */
struct range {
	uint64_t offset, size;
};

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long value[6];
	va_list list;

	va_start(list, number);
	for (int index = 0; index < 6; index++)
		value[index] = va_arg(list, long);
	va_end(list);
	if (number == SYS_cachestat) {
		const struct range *range = (const struct range *)value[1];
		uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
		uint64_t last = (range->offset + range->size - 1) / page;

		errno = kernel.counted;
		*(uint64_t *)value[2] = last - range->offset / page + 1 -
		                        (uint64_t)kernel.missing;
		return kernel.counted == 0 ? 0 : -1;
	}
	CHECK_EQUAL(number, SYS_preadv2);
	kernel.reads++;
	CHECK(value[3] >= 0 && value[3] < SIZE);
	errno = kernel.read_error;
	return kernel.read_error != 0 && value[3] >= kernel.behind ? -1 : 1;
}

int main(void)
{
	static const struct {
		int counted, missing, read_error;
		int64_t behind;
		int64_t offset;
		uint32_t size;
		bool thoroughly;
		bool answer;
		int reads;
	} cases[] = {
		/* All pages are there: the first byte is asked for, and the last. */
		{ 0, 0, 0, NEVER, 0, SIZE, false, true, 2 },
		{ 0, 0, 0, NEVER, 0, SIZE, true, true, 9 },
		/* Behind the end is nothing. */
		{ 0, 0, 0, NEVER, SIZE - 1, SIZE, false, true, 1 },
		{ 0, 1, 0, NEVER, SIZE, 1, true, true, 0 },
		{ 0, 1, 0, NEVER, 0, 0, true, true, 0 },
		{ 0, 1, 0, NEVER, -1, 1, true, true, 0 },
		/* A page is missing, and no byte need be asked for. */
		{ 0, 1, 0, NEVER, 0, SIZE, true, false, 0 },
		{ 0, 1, 0, NEVER, 4097, 1, false, false, 0 },
		/* There, and still being read. */
		{ 0, 0, EAGAIN, 0, 0, SIZE, false, false, 1 },
		{ 0, 0, EAGAIN, SIZE - 1, 0, SIZE, false, false, 2 },
		{ 0, 0, EAGAIN, 512 * KIB, 0, SIZE, true, false, 5 },
		/* Nobody counts for us: bytes here and there say it. */
		{ EPERM, 0, 0, NEVER, 0, SIZE, false, true, 9 },
		{ ENOSYS, 0, EAGAIN, 300 * KIB, 0, SIZE, false, false, 4 },
		{ EPERM, 0, EAGAIN, 300 * KIB, 128 * KIB, 128 * KIB, false, true, 2 },
		/* The file system knows no such reads: the count alone says it, if there is one. */
		{ 0, 0, EOPNOTSUPP, 0, 0, SIZE, true, true, 1 },
		{ EPERM, 0, EOPNOTSUPP, 0, 0, SIZE, false, false, 1 },
	};
	char path[] = "/tmp/page-cache-XXXXXX";
	int fd = mkstemp(path);
	int ends[2];

	CHECK(fd >= 0);
	CHECK_EQUAL(unlink(path), 0);
	CHECK_EQUAL(ftruncate(fd, SIZE), 0);
	for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
		kernel.counted = cases[index].counted;
		kernel.missing = cases[index].missing;
		kernel.read_error = cases[index].read_error;
		kernel.behind = cases[index].behind;
		kernel.reads = 0;
		fprintf(stderr, "case %d; ", (int)index);
		CHECK_EQUAL(ul_file_in_memory(fd, cases[index].offset, cases[index].size,
		                              cases[index].thoroughly), cases[index].answer);
		CHECK_EQUAL(kernel.reads, cases[index].reads);
	}
	/* Nobody waits for a disk there. */
	kernel.reads = 0;
	CHECK_EQUAL(pipe(ends), 0);
	CHECK_EQUAL(ul_file_in_memory(ends[0], 0, SIZE, true), 1);
	close(fd);
	CHECK_EQUAL(ul_file_in_memory(fd, 0, SIZE, true), 1);
	CHECK_EQUAL(kernel.reads, 0);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
