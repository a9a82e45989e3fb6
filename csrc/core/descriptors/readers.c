/*
 * add_reader and add_writer: handles called while a descriptor is ready.
 *
 * Readiness is the driver's watch verb: level-triggered, exactly epoll's.  A
 * handle runs in a turn only if it was registered before that turn's wait, as
 * in asyncio, where a replaced handle never sees its predecessor's event.
 */
#include "../base/checks.h"
#include "../core.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

static int watchers_reserve(Loop *self, int fd)
{
	struct watcher *watchers;

	if (fd < self->watcher_capacity)
		return 0;
	watchers = fd_array_grow(self->watchers, &self->watcher_capacity, sizeof(*watchers), fd);
	if (watchers == NULL)
		return -1;
	self->watchers = watchers;
	return 0;
}

static int watcher_update(Loop *self, int fd, const Handle *reader, const Handle *writer);

/*
 * The number is another file's by now: whoever watched before is called for nothing any
 * more, and only who comes now watches.  The references go first: they may run anything.
 */
static int watcher_hand_on(Loop *self, int fd, const Handle *reader, const Handle *writer)
{
	struct watcher *watcher = &self->watchers[fd];
	Handle *old_reader = watcher->reader, *old_writer = watcher->writer;
	bool new_reader = reader != old_reader, new_writer = writer != old_writer;

	watcher->reader = watcher->writer = NULL;
	if (old_reader != NULL || old_writer != NULL)
		self->watched--;
	Py_XDECREF(old_reader);
	Py_XDECREF(old_writer);
	if (loop_check_closed(self) < 0)
		return -1;
	watcher = &self->watchers[fd];
	return watcher_update(self, fd, new_reader ? reader : watcher->reader,
	                      new_writer ? writer : watcher->writer);
}

/* What epoll_ctl(2) says of the descriptor: 0 or -errno. */
static int watcher_probe(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC), status = 0;

	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		status = -errno;
	if (epoll_fd >= 0)
		close(epoll_fd);
	return status;
}

/* From another thread: a refusal is told now, the driver later, by the loop's thread. */
static int watcher_update_later(Loop *self, int fd, uint32_t events)
{
	int status = events != 0 ? watcher_probe(fd) : 0;
	PyObject *number;

	if (status < 0) {
		exception_set_errno(-status);
		return -1;
	}
	self->watchers[fd].stale = true;
	number = PyLong_FromLong(fd);
	if (number == NULL)
		return -1;
	status = loop_leave_call(self, (PyObject *)self, names._watch_again, number);
	Py_DECREF(number);
	return status;
}

/* Tell the driver what the watcher of `fd` now wants; 0, or -1 with OSError. */
static int watcher_update(Loop *self, int fd, const Handle *reader, const Handle *writer)
{
	uint32_t events = (reader != NULL ? EPOLLIN : 0) | (writer != NULL ? EPOLLOUT : 0);
	struct watcher *watcher = &self->watchers[fd];
	void *owner = (void *)(intptr_t)(fd + 1);
	int status;

	if (unlikely(loop_is_elsewhere(self)))
		return watcher_update_later(self, fd, events);
	if (unlikely(watcher->stale)) {
		/* What the driver watches may be closed, and the number another's. */
		watcher->stale = false;
		self->table->watch(self->driver, owner, fd, 0, &watcher->token);
	}
	status = self->table->watch(self->driver, owner, fd, events, &watcher->token);
	if (status >= 0)
		return 0;
	if (status == -ENOENT)
		return watcher_hand_on(self, fd, reader, writer);
	exception_set_errno(-status);
	return -1;
}

/* In the loop's thread, for another that has changed what is watched. */
static PyObject *loop_watch_again(Loop *self, PyObject *number)
{
	long fd = PyLong_AsLong(number);
	struct watcher *watcher;

	if (fd == -1 && PyErr_Occurred())
		return NULL;
	if (self->closed || fd < 0 || fd >= self->watcher_capacity)
		Py_RETURN_NONE;
	watcher = &self->watchers[fd];
	/* The descriptor may be closed by now; then there is nothing to watch. */
	if (watcher->stale && watcher_update(self, (int)fd, watcher->reader, watcher->writer) < 0)
		PyErr_Clear();
	Py_RETURN_NONE;
}

static int watcher_fd(PyObject *object, int *fd)
{
	*fd = PyObject_AsFileDescriptor(object);
	return *fd < 0 ? -1 : 0;
}

static PyObject *watcher_add(Loop *self, PyObject *const *args, Py_ssize_t nargs, bool write)
{
	struct watcher *watcher;
	Handle *handle, *replaced;
	int fd;

	if (nargs < 2) {
		PyErr_SetString(PyExc_TypeError, "a file descriptor and a callback are required");
		return NULL;
	}
	if (loop_check_closed(self) < 0 || watcher_fd(args[0], &fd) < 0 ||
	    watchers_reserve(self, fd) < 0)
		return NULL;
	handle = handle_new(self, args[1], args + 2, nargs - 2, NULL);
	if (handle == NULL)
		return NULL;
	/* Once more: its traceback, in debug mode, is Python's to make. */
	if (loop_check_closed(self) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	watcher = &self->watchers[fd];
	if (watcher_update(self, fd, write ? watcher->reader : handle,
	                   write ? handle : watcher->writer) < 0) {
		Py_DECREF(handle);
		return NULL;
	}
	/* To hand it over, or who watched a file that is gone, may have run anything. */
	watcher = &self->watchers[fd];
	if (watcher->reader == NULL && watcher->writer == NULL)
		self->watched++;
	replaced = write ? watcher->writer : watcher->reader;
	/* The caller's reference first: what dies with the replaced one may end this watch. */
	Py_INCREF(handle);
	if (write) {
		watcher->writer = handle;
		watcher->writer_turn = self->turn;
	} else {
		watcher->reader = handle;
		watcher->reader_turn = self->turn;
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
static int watcher_take(Loop *self, int fd, bool write)
{
	struct watcher *watcher = &self->watchers[fd];
	Handle *removed = write ? watcher->writer : watcher->reader;
	int status;

	if (removed == NULL)
		return 0;
	if (write)
		watcher->writer = NULL;
	else
		watcher->reader = NULL;
	if (watcher->reader == NULL && watcher->writer == NULL)
		self->watched--;
	/* The descriptor may be closed by now; then there is nothing to end. */
	if (watcher_update(self, fd, watcher->reader, watcher->writer) < 0)
		PyErr_Clear();
	status = handle_cancel(removed);
	Py_DECREF(removed);
	return status < 0 ? -1 : 1;
}

static PyObject *watcher_remove(Loop *self, PyObject *object, bool write)
{
	int fd, found;

	if (watcher_fd(object, &fd) < 0) {
		/* Too large for a descriptor, so that nobody watches it. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return NULL;
		PyErr_Clear();
		Py_RETURN_FALSE;
	}
	if (self->closed || fd >= self->watcher_capacity)
		Py_RETURN_FALSE;
	found = watcher_take(self, fd, write);
	return found < 0 ? NULL : PyBool_FromLong(found);
}

static PyObject *loop_add_reader(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	return watcher_add(self, args, nargs, false);
}

static PyObject *loop_add_writer(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	return watcher_add(self, args, nargs, true);
}

static PyObject *loop_remove_reader(Loop *self, PyObject *fd)
{
	return watcher_remove(self, fd, false);
}

static PyObject *loop_remove_writer(Loop *self, PyObject *fd)
{
	return watcher_remove(self, fd, true);
}

static int watcher_run(Loop *self, int fd, bool write)
{
	const struct watcher *watcher = &self->watchers[fd];
	Handle *handle = write ? watcher->writer : watcher->reader;
	uint64_t registered = write ? watcher->writer_turn : watcher->reader_turn;
	int status;

	if (handle == NULL || registered >= self->turn)
		return 0;
	if (unlikely(handle->cancelled)) {
		/* The user cancelled the handle itself: asyncio ends the watch then. */
		return watcher_take(self, fd, write) < 0 ? -1 : 0;
	}
	Py_INCREF(handle);
	status = handle_run(self, handle);
	Py_DECREF(handle);
	return status;
}

int watcher_ready(Loop *self, const struct ul_completion *completion)
{
	int fd = (int)(intptr_t)completion->owner - 1;
	uint32_t events = (uint32_t)completion->result;

	if (fd >= self->watcher_capacity || self->watchers[fd].token != completion->token)
		return 0;
	/* As the selectors module: an error or a hang-up wakes both sides. */
	if (events & ~(uint32_t)EPOLLOUT && watcher_run(self, fd, false) < 0)
		return -1;
	/* The reader may have changed the table, or moved it. */
	if (events & ~(uint32_t)EPOLLIN && self->watchers[fd].token == completion->token)
		return watcher_run(self, fd, true);
	return 0;
}

int watchers_traverse(Loop *self, visitproc visit, void *arg)
{
	int fd;

	if (self->watched == 0)
		return 0;
	for (fd = 0; fd < self->watcher_capacity; fd++) {
		Py_VISIT(self->watchers[fd].reader);
		Py_VISIT(self->watchers[fd].writer);
	}
	return 0;
}

void watchers_clear(Loop *self)
{
	int fd;

	for (fd = 0; self->watched > 0 && fd < self->watcher_capacity; fd++) {
		struct watcher *watcher = &self->watchers[fd];

		if (watcher->reader == NULL && watcher->writer == NULL)
			continue;
		if (self->table != NULL)
			self->table->watch(self->driver, NULL, fd, 0, &watcher->token);
		self->watched--;
		Py_CLEAR(watcher->reader);
		Py_CLEAR(watcher->writer);
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

PyMethodDef watcher_methods[] = {
	{"_add_reader", FASTCALL(loop_add_reader), METH_FASTCALL, add_reader_doc},
	{"_add_writer", FASTCALL(loop_add_writer), METH_FASTCALL, add_writer_doc},
	{"_remove_reader", (PyCFunction)loop_remove_reader, METH_O, remove_reader_doc},
	{"_remove_writer", (PyCFunction)loop_remove_writer, METH_O, remove_writer_doc},
	{"_watch_again", (PyCFunction)loop_watch_again, METH_O, NULL},
	{NULL, NULL, 0, NULL},
};
