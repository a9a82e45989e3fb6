/*
 * Calls of Linux for which a C library may have no function: musl has statx() since
 * 1.2.4, preadv2(), pwritev2() since 1.2.5 and renameat2() since 1.2.6.  So they are made directly.
 */
#ifndef LIBC_H
#define LIBC_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef STATX_TYPE
/* <linux/stat.h> contradicts musl's <sys/stat.h>; this is ABI. */
struct statx_timestamp {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct statx {
	uint32_t stx_mask;
	uint32_t stx_blksize;
	uint64_t stx_attributes;
	uint32_t stx_nlink;
	uint32_t stx_uid;
	uint32_t stx_gid;
	uint16_t stx_mode;
	uint16_t reserved;
	uint64_t stx_ino;
	uint64_t stx_size;
	uint64_t stx_blocks;
	uint64_t stx_attributes_mask;
	struct statx_timestamp stx_atime, stx_btime, stx_ctime, stx_mtime;
	uint32_t stx_rdev_major;
	uint32_t stx_rdev_minor;
	uint32_t stx_dev_major;
	uint32_t stx_dev_minor;
	uint64_t later[14];
};

#define STATX_TYPE 0x0001U
#define STATX_MODE 0x0002U
#define STATX_NLINK 0x0004U
#define STATX_SIZE 0x0200U
#define AT_STATX_DONT_SYNC 0x4000
#endif

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

static inline int ul_statx(int fd, const char *path, int flags, unsigned mask,
                           struct statx *status)
{
	return (int)syscall(SYS_statx, fd, path, flags, mask, status);
}

static inline ssize_t ul_preadv2(int fd, const struct iovec *iov, int count, int64_t offset,
                                 int flags)
{
	/* The offset in two halves, of which a kernel of 64 bits looks at the first only. */
	return syscall(SYS_preadv2, fd, iov, count, (long)offset,
	               (long)((uint64_t)offset >> 32), flags);
}

static inline ssize_t ul_pwritev2(int fd, const struct iovec *iov, int count, int64_t offset,
                                  int flags)
{
	return syscall(SYS_pwritev2, fd, iov, count, (long)offset,
	               (long)((uint64_t)offset >> 32), flags);
}

static inline int ul_renameat2(int fd, const char *path, int other_fd, const char *other,
                               unsigned flags)
{
	return (int)syscall(SYS_renameat2, fd, path, other_fd, other, flags);
}

#endif
