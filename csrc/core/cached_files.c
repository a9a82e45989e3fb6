/*
 * Answers of a file that wait for no disk: opening, reading and closing that
 * succeed in the calling thread when the kernel has everything in memory,
 * and say so when it has not.  Whoever is refused asks again in a way that may
 * wait.
 *
 * The kernel decides (RESOLVE_CACHED, RWF_NOWAIT), except about file systems:
 * opening a file of a network or FUSE mount asks a server even when the name is
 * known.  So a file is opened here only on a device that the caller vouches for.
 *
 * An offset of -1 is the descriptor's own position: then one call is made, for
 * what is not a plain file gives a message with each.
 */
#include "cached_files.h"
#include "operations/opened.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../libc.h"

/* A copy of so many bytes lets other threads run meanwhile. */
#define GIL_FREE_BYTES (128 * 1024)

static int open_cached(const char *path, int flags)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned int)flags,
		.resolve = RESOLVE_CACHED,
	};

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

/* A descriptor, or -1 with an exception: a number that does not fit is none, not another one. */
static int descriptor_of(PyObject *number)
{
	long value = PyLong_AsLong(number);

	if (value == -1 && PyErr_Occurred())
		return -1;
	if (value < 0 || value > INT_MAX) {
		PyErr_Format(PyExc_OverflowError, "%ld is no file descriptor", value);
		return -1;
	}
	return (int)value;
}

/* The kernel's own knowledge of an open file: the file's server is not asked. */
static int status_now(int fd, struct statx *status)
{
	return ul_statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
	                STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_SIZE, status);
}

static dev_t device_of(const struct statx *status)
{
	return makedev(status->stx_dev_major, status->stx_dev_minor);
}

/* 1, 0, or -1 with an exception. */
static int is_vouched_for(PyObject *devices, const struct statx *status)
{
	PyObject *device = PyLong_FromUnsignedLongLong(device_of(status));
	int found;

	if (device == NULL)
		return -1;
	found = PySet_Contains(devices, device);
	Py_DECREF(device);
	return found;
}

/*
 * The file is known to be a regular one: open it.  O_NONBLOCK is for what may
 * have taken its name since, and does not stay.
 */
static int open_regular(const char *path, int flags, struct statx *status)
{
	int fd = open_cached(path, flags | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (status_now(fd, status) == 0 && S_ISREG(status->stx_mode) &&
	    fcntl(fd, F_SETFL, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC)) == 0)
		return fd;
	close(fd);
	return -1;
}

PyDoc_STRVAR(file_open_now_doc,
"file_open_now($module, path, flags, devices, /)\n--\n\n"
"Open a regular file on one of `devices` if that takes no waiting.\n\n"
"(Opened, mode, size, block size, device); True for a FIFO, which opens only\n"
"when its other end does; None when only a call that may wait can tell.");

static PyObject *file_open_now(PyObject *Py_UNUSED(module), PyObject *args)
{
	const char *path;
	PyObject *devices, *opened;
	struct statx status;
	int flags, probe, vouched, fd;

	/* "y" refuses a null byte. */
	if (!PyArg_ParseTuple(args, "yiO:file_open_now", &path, &flags, &devices))
		return NULL;
	/* O_PATH names the file and opens nothing: no side effect, no server asked. */
	probe = open_cached(path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW));
	if (probe < 0)
		Py_RETURN_NONE;
	if (status_now(probe, &status) != 0) {
		close(probe);
		Py_RETURN_NONE;
	}
	close(probe);
	if (S_ISFIFO(status.stx_mode))
		Py_RETURN_TRUE;
	if (!S_ISREG(status.stx_mode) || flags & (O_CREAT | O_TRUNC))
		Py_RETURN_NONE;
	vouched = is_vouched_for(devices, &status);
	if (vouched < 0)
		return NULL;
	if (!vouched)
		Py_RETURN_NONE;
	opened = opened_new();
	if (opened == NULL)
		return NULL;
	fd = open_regular(path, flags, &status);
	if (fd < 0) {
		Py_DECREF(opened);
		Py_RETURN_NONE;
	}
	opened_hold(opened, fd);
	return Py_BuildValue("NIKIK", opened, (unsigned int)status.stx_mode,
	                     (unsigned long long)status.stx_size,
	                     (unsigned int)status.stx_blksize,
	                     (unsigned long long)device_of(&status));
}

PyDoc_STRVAR(file_status_now_doc,
"file_status_now($module, descriptor, /)\n--\n\n"
"(mode, size, block size, device), as this machine last knew them.");

static PyObject *file_status_now(PyObject *Py_UNUSED(module), PyObject *descriptor)
{
	int fd = descriptor_of(descriptor);
	struct statx status;

	if (fd < 0)
		return NULL;
	if (status_now(fd, &status) != 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	return Py_BuildValue("IKIK", (unsigned int)status.stx_mode,
	                     (unsigned long long)status.stx_size,
	                     (unsigned int)status.stx_blksize,
	                     (unsigned long long)device_of(&status));
}

PyDoc_STRVAR(file_is_local_doc,
"file_is_local($module, descriptor, /)\n--\n\n"
"Whether the file's system is one that answers from this machine's memory.\n\n"
"May wait for as long as a file system likes.");

static PyObject *file_is_local(PyObject *Py_UNUSED(module), PyObject *descriptor)
{
	/* ext2 to ext4, xfs, btrfs, f2fs, tmpfs, ramfs, overlay, squashfs, erofs. */
	static const uint32_t local[] = {
		0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994,
		0x858458F6, 0x794C7630, 0x73717368, 0xE0F5E1E2,
	};
	int fd = descriptor_of(descriptor);
	struct statfs status;
	size_t i;
	int result;

	if (fd < 0)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	result = fstatfs(fd, &status);
	Py_END_ALLOW_THREADS
	for (i = 0; result == 0 && i < sizeof(local) / sizeof(local[0]); i++)
		if ((uint32_t)status.f_type == local[i])
			Py_RETURN_TRUE;
	Py_RETURN_FALSE;
}

/*
 * preadv2(2) until `size` bytes, the end or an error; *error is 0 or an errno.  At
 * the descriptor's own position once: fewer bytes, with EAGAIN, are no end.
 */
static size_t read_now(int fd, char *data, size_t size, off_t offset, int *error)
{
	size_t done = 0;
	ssize_t count;

	*error = 0;
	while (done < size) {
		struct iovec vector = { data + done, size - done };

		count = ul_preadv2(fd, &vector, 1, offset < 0 ? -1 : offset + (off_t)done,
		                   RWF_NOWAIT);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			*error = errno;
		if (count <= 0)
			break;
		done += (size_t)count;
		if (offset < 0) {
			*error = done < size ? EAGAIN : 0;
			break;
		}
	}
	return done;
}

static size_t read_now_beside_threads(int fd, char *data, size_t size, off_t offset, int *error)
{
	size_t done;

	if (size < GIL_FREE_BYTES)
		return read_now(fd, data, size, offset, error);
	Py_BEGIN_ALLOW_THREADS
	done = read_now(fd, data, size, offset, error);
	Py_END_ALLOW_THREADS
	return done;
}

PyDoc_STRVAR(file_read_now_doc,
"file_read_now($module, descriptor, size, offset, /)\n--\n\n"
"(bytes, error): what of `size` bytes at `offset` is in memory.\n\n"
"Fewer than `size` bytes and no error: the end of the file.  offset -1: where the\n"
"descriptor is.");

static PyObject *file_read_now(PyObject *Py_UNUSED(module), PyObject *args)
{
	int fd, error;
	Py_ssize_t size;
	long long offset;
	PyObject *data;
	size_t done;

	if (!PyArg_ParseTuple(args, "inL:file_read_now", &fd, &size, &offset))
		return NULL;
	data = PyBytes_FromStringAndSize(NULL, size);
	if (data == NULL)
		return NULL;
	done = read_now_beside_threads(fd, PyBytes_AS_STRING(data), (size_t)size, (off_t)offset,
	                               &error);
	if (done < (size_t)size && _PyBytes_Resize(&data, (Py_ssize_t)done) < 0)
		return NULL;
	return Py_BuildValue("Ni", data, error);
}

PyDoc_STRVAR(file_read_into_now_doc,
"file_read_into_now($module, descriptor, buffer, offset, /)\n--\n\n"
"(count, error): how much of `buffer` could be filled from memory at `offset`.");

static PyObject *file_read_into_now(PyObject *Py_UNUSED(module), PyObject *args)
{
	int fd, error;
	long long offset;
	Py_buffer view;
	size_t done;

	if (!PyArg_ParseTuple(args, "iw*L:file_read_into_now", &fd, &view, &offset))
		return NULL;
	done = read_now_beside_threads(fd, view.buf, (size_t)view.len, (off_t)offset, &error);
	PyBuffer_Release(&view);
	return Py_BuildValue("ni", (Py_ssize_t)done, error);
}

PyDoc_STRVAR(file_write_now_doc,
"file_write_now($module, descriptor, data, /)\n--\n\n"
"(count, error): how much a pipe, or its like, takes without waiting.");

static PyObject *file_write_now(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct iovec vector;
	Py_buffer view;
	ssize_t count;
	int fd, error;

	if (!PyArg_ParseTuple(args, "iy*:file_write_now", &fd, &view))
		return NULL;
	vector.iov_base = view.buf;
	vector.iov_len = (size_t)view.len;
	do {
		count = pwritev2(fd, &vector, 1, -1, RWF_NOWAIT);
	} while (count < 0 && errno == EINTR);
	error = count < 0 ? errno : 0;
	PyBuffer_Release(&view);
	return Py_BuildValue("ni", (Py_ssize_t)count, error);
}

PyDoc_STRVAR(file_open_doc,
"file_open($module, path, flags, /)\n--\n\n"
"os.open(path, flags, 0o666), as an Opened, of which no audit hook hears: a file's\n"
"opening is one event, and told by whoever opens it.");

static PyObject *file_open(PyObject *Py_UNUSED(module), PyObject *args)
{
	PyObject *opened;
	const char *path;
	int fd, flags, error;

	if (!PyArg_ParseTuple(args, "yi:file_open", &path, &flags))
		return NULL;
	opened = opened_new();
	if (opened == NULL)
		return NULL;
	do {
		Py_BEGIN_ALLOW_THREADS
		fd = open(path, flags | O_CLOEXEC, 0666);
		error = errno;
		Py_END_ALLOW_THREADS
	} while (fd < 0 && error == EINTR && PyErr_CheckSignals() == 0);
	if (fd >= 0) {
		opened_hold(opened, fd);
		return opened;
	}
	Py_DECREF(opened);
	if (!PyErr_Occurred()) {
		errno = error;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	return NULL;
}

PyDoc_STRVAR(file_truncate_doc,
"file_truncate($module, descriptor, size, /)\n--\n\n"
"os.ftruncate() of which no audit hook hears, as none does of io's files.");

static PyObject *file_truncate(PyObject *Py_UNUSED(module), PyObject *args)
{
	int fd, result, error;
	long long size;

	if (!PyArg_ParseTuple(args, "iL:file_truncate", &fd, &size))
		return NULL;
	do {
		Py_BEGIN_ALLOW_THREADS
		result = ftruncate(fd, (off_t)size);
		error = errno;
		Py_END_ALLOW_THREADS
	} while (result < 0 && error == EINTR && PyErr_CheckSignals() == 0);
	if (result == 0)
		Py_RETURN_NONE;
	if (!PyErr_Occurred()) {
		errno = error;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	return NULL;
}

PyDoc_STRVAR(file_close_now_doc,
"file_close_now($module, descriptor, /)\n--\n\n"
"Close a file that was only read, unless that frees it on the disk.\n\n"
"False when it is still open.");

static PyObject *file_close_now(PyObject *Py_UNUSED(module), PyObject *descriptor)
{
	int fd = descriptor_of(descriptor);
	struct statx status;

	if (fd < 0)
		return NULL;
	if (status_now(fd, &status) != 0 || status.stx_nlink == 0)
		Py_RETURN_FALSE;
	/* The descriptor is gone whatever close(2) says. */
	close(fd);
	Py_RETURN_TRUE;
}

PyDoc_STRVAR(file_address_doc,
"file_address($module, buffer, /)\n--\n\n"
"Where the memory of bytes, or of what nobody resizes, is.");

static PyObject *file_address(PyObject *Py_UNUSED(module), PyObject *buffer)
{
	Py_buffer view;
	PyObject *address;

	if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	address = PyLong_FromVoidPtr(view.buf);
	PyBuffer_Release(&view);
	return address;
}

PyMethodDef file_functions[] = {
	{"file_address", file_address, METH_O, file_address_doc},
	{"file_open", file_open, METH_VARARGS, file_open_doc},
	{"file_truncate", file_truncate, METH_VARARGS, file_truncate_doc},
	{"file_write_now", file_write_now, METH_VARARGS, file_write_now_doc},
	{"file_open_now", file_open_now, METH_VARARGS, file_open_now_doc},
	{"file_status_now", file_status_now, METH_O, file_status_now_doc},
	{"file_is_local", file_is_local, METH_O, file_is_local_doc},
	{"file_read_now", file_read_now, METH_VARARGS, file_read_now_doc},
	{"file_read_into_now", file_read_into_now, METH_VARARGS, file_read_into_now_doc},
	{"file_close_now", file_close_now, METH_O, file_close_now_doc},
	{NULL, NULL, 0, NULL},
};
