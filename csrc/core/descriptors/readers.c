/*
 * add_reader and add_writer: handles called while a descriptor is ready.
 *
 * Readiness is the driver's watch verb: level-triggered, exactly epoll's.  A
 * handle runs in a turn only if it was registered before that turn's wait, as
 * in asyncio, where a replaced handle never sees its predecessor's event.
 */
#include "readers.h"
#include "../base/checks.h"
#include "../base/fd_array.h"
#include "../callbacks/handle.h"
#include "../loop.h"
#include "../operations/threads.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

struct reader_pair {
	Handle *reader;       /* owned or NULL */
	Handle *writer;       /* owned or NULL */
	uint64_t reader_turn; /* the turn in which it was registered */
	uint64_t writer_turn;
	ul_token token;
	bool stale;           /* another thread changed it, and the driver has not been told */
};

/* NULL when there has never been one for so large a descriptor. */
static struct reader_pair *pair_of(const Loop *self, int fd)
{
	return fd_array_at(&self->readers.pairs, sizeof(struct reader_pair), fd);
}

static int reader_update(Loop *self, int fd, const Handle *reader, const Handle *writer);

/*
 * The number is another file's by now: whoever watched before is called for nothing any
 * more, and only who comes now watches.  The references go first: they may run anything.
 */
static int reader_hand_on(Loop *self, int fd, const Handle *reader, const Handle *writer)
{
	struct reader_pair *pair = pair_of(self, fd);
	Handle *old_reader = pair->reader, *old_writer = pair->writer;
	bool new_reader = reader != old_reader, new_writer = writer != old_writer;

	pair->reader = pair->writer = NULL;
	if (old_reader != NULL || old_writer != NULL)
		self->readers.count--;
	Py_XDECREF(old_reader);
	Py_XDECREF(old_writer);
	if (loop_check_closed(self) < 0)
		return -1;
	pair = pair_of(self, fd);
	return reader_update(self, fd, new_reader ? reader : pair->reader,
	                     new_writer ? writer : pair->writer);
}

/* The answer of epoll_ctl(2) for the descriptor: 0 or -errno. */
static int reader_probe(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC), status = 0;

	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		status = -errno;
	if (epoll_fd >= 0)
		close(epoll_fd);
	return status;
}

/* From another thread: a refusal is told now, the driver later, by the loop's thread. */
static int reader_update_later(Loop *self, int fd, uint32_t events)
{
	int status = events != 0 ? reader_probe(fd) : 0;
	PyObject *number;

	if (status < 0) {
		exception_set_errno(-status);
		return -1;
	}
	pair_of(self, fd)->stale = true;
	number = PyLong_FromLong(fd);
	if (number == NULL)
		return -1;
	status = loop_leave_call(self, (PyObject *)self, names._watch_again, number);
	Py_DECREF(number);
	return status;
}

/* Tell the driver what is now to be watched of `fd`; 0, or -1 with OSError. */
static int reader_update(Loop *self, int fd, const Handle *reader, const Handle *writer)
{
	uint32_t events = (reader != NULL ? EPOLLIN : 0) | (writer != NULL ? EPOLLOUT : 0);
	struct reader_pair *pair = pair_of(self, fd);
	void *owner = (void *)(intptr_t)(fd + 1);
	int status;

	if (unlikely(loop_is_elsewhere(self)))
		return reader_update_later(self, fd, events);
	if (unlikely(pair->stale)) {
		/* The file that the driver watches may be closed, and the number another's. */
		pair->stale = false;
		self->table->watch(self->driver, owner, fd, 0, &pair->token);
	}
	status = self->table->watch(self->driver, owner, fd, events, &pair->token);
	if (status >= 0)
		return 0;
	if (status == -ENOENT)
		return reader_hand_on(self, fd, reader, writer);
	exception_set_errno(-status);
	return -1;
}

/* In the loop's thread, for another that has changed what is watched. */
static PyObject *loop_watch_again(Loop *self, PyObject *number)
{
	long fd = PyLong_AsLong(number);
	struct reader_pair *pair;

	if (fd == -1 && PyErr_Occurred())
		return NULL;
	pair = fd < 0 || fd > INT_MAX ? NULL : pair_of(self, (int)fd);
	if (self->closed || pair == NULL)
		Py_RETURN_NONE;
	/* The descriptor may be closed by now; then there is nothing to watch. */
	if (pair->stale && reader_update(self, (int)fd, pair->reader, pair->writer) < 0)
		PyErr_Clear();
	Py_RETURN_NONE;
}

static int reader_fd(PyObject *object, int *fd)
{
	*fd = PyObject_AsFileDescriptor(object);
	return *fd < 0 ? -1 : 0;
}

static PyObject *reader_add(Loop *self, PyObject *const *args, Py_ssize_t nargs, bool write)
{
	struct reader_pair *pair;
	Handle *handle, *replaced;
	int fd;

	if (nargs < 2) {
		PyErr_SetString(PyExc_TypeError, "a file descriptor and a callback are required");
		return NULL;
	}
	if (loop_check_closed(self) < 0 || reader_fd(args[0], &fd) < 0 ||
	    fd_array_reserve(&self->readers.pairs, sizeof(struct reader_pair), fd) < 0)
		return NULL;
	handle = handle_new(self, args[1], args + 2, nargs - 2, NULL);
	if (handle == NULL)
		return NULL;
	/* Once more: its traceback, in debug mode, is Python's to make. */
	if (loop_check_closed(self) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	pair = pair_of(self, fd);
	if (reader_update(self, fd, write ? pair->reader : handle,
	                  write ? handle : pair->writer) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	/* To hand it over, or who watched a file that is gone, may have run anything. */
	pair = pair_of(self, fd);
	if (pair->reader == NULL && pair->writer == NULL)
		self->readers.count++;
	replaced = write ? pair->writer : pair->reader;
	/* The caller's reference first: what dies with the replaced one may end this watch. */
	Py_INCREF(handle);
	if (write) {
		pair->writer = handle;
		pair->writer_turn = self->turn;
	} else {
		pair->reader = handle;
		pair->reader_turn = self->turn;
	}
	if (replaced != NULL) {
		int status = handle_cancel(replaced);

		Py_DECREF(replaced);
		if (unlikely(status < 0)) {
			Py_DECREF(handle);
			return NULL;
		}
	}
	return (PyObject *)handle;
}

/* End one side of a watch; whether there was one, or -1 with what its repr raised. */
static int reader_take(Loop *self, int fd, bool write)
{
	struct reader_pair *pair = pair_of(self, fd);
	Handle *removed = write ? pair->writer : pair->reader;
	int status;

	if (removed == NULL)
		return 0;
	if (write)
		pair->writer = NULL;
	else
		pair->reader = NULL;
	if (pair->reader == NULL && pair->writer == NULL)
		self->readers.count--;
	/* The descriptor may be closed by now; then there is nothing to end. */
	if (reader_update(self, fd, pair->reader, pair->writer) < 0)
		PyErr_Clear();
	status = handle_cancel(removed);
	Py_DECREF(removed);
	return status < 0 ? -1 : 1;
}

static PyObject *reader_remove(Loop *self, PyObject *object, bool write)
{
	int fd, found;

	if (reader_fd(object, &fd) < 0) {
		/* Too large for a descriptor, so that nobody watches it. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return NULL;
		PyErr_Clear();
		Py_RETURN_FALSE;
	}
	if (self->closed || pair_of(self, fd) == NULL)
		Py_RETURN_FALSE;
	found = reader_take(self, fd, write);
	return found < 0 ? NULL : PyBool_FromLong(found);
}

static PyObject *loop_add_reader(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	return reader_add(self, args, nargs, false);
}

static PyObject *loop_add_writer(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	return reader_add(self, args, nargs, true);
}

static PyObject *loop_remove_reader(Loop *self, PyObject *fd)
{
	return reader_remove(self, fd, false);
}

static PyObject *loop_remove_writer(Loop *self, PyObject *fd)
{
	return reader_remove(self, fd, true);
}

static int reader_run(Loop *self, int fd, bool write)
{
	const struct reader_pair *pair = pair_of(self, fd);
	Handle *handle = write ? pair->writer : pair->reader;
	uint64_t registered = write ? pair->writer_turn : pair->reader_turn;
	int status;

	if (handle == NULL || registered >= self->turn)
		return 0;
	if (unlikely(handle->cancelled)) {
		/* The user cancelled the handle itself: asyncio ends the watch then. */
		return reader_take(self, fd, write) < 0 ? -1 : 0;
	}
	Py_INCREF(handle);
	status = handle_run(self, handle);
	Py_DECREF(handle);
	return status;
}

int readers_ready(Loop *self, const struct ul_completion *completion)
{
	int fd = (int)(intptr_t)completion->owner - 1;
	const struct reader_pair *pair = pair_of(self, fd);
	uint32_t events = (uint32_t)completion->result;

	if (pair == NULL || pair->token != completion->token)
		return 0;
	/* As the selectors module: an error or a hang-up wakes both sides. */
	if (events & ~(uint32_t)EPOLLOUT && reader_run(self, fd, false) < 0)
		return -1;
	/* The reader may have changed the table, or moved it. */
	if (events & ~(uint32_t)EPOLLIN && pair_of(self, fd)->token == completion->token)
		return reader_run(self, fd, true);
	return 0;
}

int readers_traverse(Loop *self, visitproc visit, void *arg)
{
	int fd;

	if (self->readers.count == 0)
		return 0;
	for (fd = 0; fd < self->readers.pairs.capacity; fd++) {
		Py_VISIT(pair_of(self, fd)->reader);
		Py_VISIT(pair_of(self, fd)->writer);
	}
	return 0;
}

void readers_clear(Loop *self)
{
	int fd;

	for (fd = 0; self->readers.count > 0 && fd < self->readers.pairs.capacity; fd++) {
		struct reader_pair *pair = pair_of(self, fd);

		if (pair->reader == NULL && pair->writer == NULL)
			continue;
		if (self->table != NULL)
			self->table->watch(self->driver, NULL, fd, 0, &pair->token);
		self->readers.count--;
		Py_CLEAR(pair->reader);
		Py_CLEAR(pair->writer);
	}
}

PyDoc_STRVAR(add_reader_doc,
"_add_reader($self, fd, callback, /, *args)\n--\n\n"
"Call callback(*args) while `fd` can be read.  Returns its Handle.\n\n"
"Source: asyncio, Watching file descriptors; epoll_ctl(2) for what is refused.");
PyDoc_STRVAR(add_writer_doc,
"_add_writer($self, fd, callback, /, *args)\n--\n\n"
"Call callback(*args) while `fd` can be written.  Returns its Handle.");
PyDoc_STRVAR(remove_reader_doc,
"_remove_reader($self, fd, /)\n--\n\nWhether `fd` had a reader; it has none now.");
PyDoc_STRVAR(remove_writer_doc,
"_remove_writer($self, fd, /)\n--\n\nWhether `fd` had a writer; it has none now.");

PyMethodDef reader_methods[] = {
	{"_add_reader", FASTCALL(loop_add_reader), METH_FASTCALL, add_reader_doc},
	{"_add_writer", FASTCALL(loop_add_writer), METH_FASTCALL, add_writer_doc},
	{"_remove_reader", (PyCFunction)loop_remove_reader, METH_O, remove_reader_doc},
	{"_remove_writer", (PyCFunction)loop_remove_writer, METH_O, remove_writer_doc},
	{"_watch_again", (PyCFunction)loop_watch_again, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};
