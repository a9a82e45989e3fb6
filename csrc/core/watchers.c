/*
 * add_reader and add_writer: handles called while a descriptor is ready.
 *
 * Readiness is the driver's watch verb: level-triggered, exactly epoll's.  A
 * handle runs in a turn only if it was registered before that turn's wait, as
 * in asyncio, where a replaced handle never sees its predecessor's event.
 */
#include "core.h"

#include <errno.h>
#include <sys/epoll.h>

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

/* Tell the driver what the watcher of `fd` now wants; 0, or -1 with OSError. */
static int watcher_update(Loop *self, int fd, const Handle *reader, const Handle *writer)
{
	uint32_t events = (reader != NULL ? EPOLLIN : 0) | (writer != NULL ? EPOLLOUT : 0);
	int status = self->table->watch(self->driver, (void *)(intptr_t)(fd + 1), fd, events,
	                                &self->watchers[fd].token);

	if (status >= 0)
		return 0;
	if (status == -ENOENT)
		return watcher_hand_on(self, fd, reader, writer);
	exception_set_errno(-status);
	return -1;
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
	/* Who watched a file that is gone may have left, and run anything. */
	watcher = &self->watchers[fd];
	if (watcher->reader == NULL && watcher->writer == NULL)
		self->watched++;
	replaced = write ? watcher->writer : watcher->reader;
	if (write) {
		watcher->writer = handle;
		watcher->writer_turn = self->turn;
	} else {
		watcher->reader = handle;
		watcher->reader_turn = self->turn;
	}
	if (replaced != NULL) {
		handle_cancel(replaced);
		Py_DECREF(replaced);
	}
	return Py_NewRef((PyObject *)handle);
}

/* End one side of a watch; whether there was one. */
static bool watcher_take(Loop *self, int fd, bool write)
{
	struct watcher *watcher = &self->watchers[fd];
	Handle *removed = write ? watcher->writer : watcher->reader;

	if (removed == NULL)
		return false;
	if (write)
		watcher->writer = NULL;
	else
		watcher->reader = NULL;
	if (watcher->reader == NULL && watcher->writer == NULL)
		self->watched--;
	/* The descriptor may be closed by now; then there is nothing to end. */
	if (watcher_update(self, fd, watcher->reader, watcher->writer) < 0)
		PyErr_Clear();
	handle_cancel(removed);
	Py_DECREF(removed);
	return true;
}

static PyObject *watcher_remove(Loop *self, PyObject *object, bool write)
{
	int fd;

	if (watcher_fd(object, &fd) < 0) {
		/* Too large for a descriptor, so that nobody watches it. */
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return NULL;
		PyErr_Clear();
		Py_RETURN_FALSE;
	}
	if (self->closed || fd >= self->watcher_capacity)
		Py_RETURN_FALSE;
	return PyBool_FromLong(watcher_take(self, fd, write));
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
		watcher_take(self, fd, write);
		return 0;
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
	{NULL, NULL, 0, NULL},
};
