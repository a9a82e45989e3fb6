/* The system calls that stand for io_uring's requests.  See calls.h. */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../libc.h"
#include "compat.h"

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

int64_t calls_make(const struct ul_request *request)
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
	case OP_FTRUNCATE:
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

bool calls_have(uint8_t opcode)
{
	switch (opcode) {
	case IORING_OP_OPENAT:
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_CLOSE:
	case IORING_OP_FSYNC:
	case OP_FTRUNCATE:
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
