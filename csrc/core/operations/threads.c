/*
 * Requests of threads other than the one that runs the loop.
 *
 * While a loop runs, its driver is in the hands of that thread, which may be in
 * turn() without the GIL.  asyncio allows others only call_soon_threadsafe(), and
 * survives the rest; so do we.  What belongs to the core any thread changes, as the
 * GIL orders it; what only the driver can do is left here, and the loop's thread
 * does it after its next turn.  Nothing is left when a run has ended: from then on
 * whoever asks does it himself.
 */
#include "threads.h"
#include "requests.h"
#include "../base/checks.h"
#include "../callbacks/handle.h"
#include "../callbacks/ready.h"
#include "../loop.h"

#include <errno.h>
#include <unistd.h>

/* The loop has something to do, and may be asleep. */
static void loop_ask(Loop *self)
{
	self->threads.asked = true;
	loop_wake_if_asleep(self);
}

/* ---- asking -------------------------------------------------------------------------- */

/* Behind an orphan: the next, + 1, or that there is none.  0: it is no orphan. */
#define LAST_ORPHAN (-1)

int loop_reserve_orphan(Loop *self, int fd)
{
	return fd_array_reserve(&self->threads.orphans, sizeof(int), fd);
}

static void loop_leave_fd(Loop *self, int fd)
{
	int *next = fd_array_at(&self->threads.orphans, sizeof(int), fd);

	/* A number that was no descriptor when its transport was made has no place, and no file. */
	if (next == NULL || *next != 0)
		return;
	*next = self->threads.orphan == 0 ? LAST_ORPHAN : self->threads.orphan;
	self->threads.orphan = fd + 1;
	loop_ask(self);
}

static void loop_close_orphans(Loop *self)
{
	while (self->threads.orphan != 0) {
		int fd = self->threads.orphan - 1;
		int *next = fd_array_at(&self->threads.orphans, sizeof(int), fd);

		self->threads.orphan = *next == LAST_ORPHAN ? 0 : *next;
		*next = 0;
		self->table->close(self->driver, fd);
	}
}

static void loop_leave_cancel(Loop *self, struct operation *operation)
{
	operation->unwanted = operation->token;
	if (!operation->asked) {
		Py_INCREF(operation->holder);
		operation->asked = true;
		operation->next_asked = self->threads.cancels;
		self->threads.cancels = operation;
	}
	loop_ask(self);
}

bool operation_cancel(Loop *self, struct operation *operation)
{
	if (unlikely(loop_is_elsewhere(self))) {
		loop_leave_cancel(self, operation);
		return false;
	}
	if (!operation_end(self, operation))
		return false;
	operation_drop(operation);
	return true;
}

void loop_close_fd(Loop *self, int fd)
{
	if (self->table == NULL)
		close(fd);
	else if (unlikely(loop_is_elsewhere(self)))
		loop_leave_fd(self, fd);
	else
		self->table->close(self->driver, fd);
}

/* Takes the reference, even on failure. */
static int loop_leave_errand(Loop *self, Handle *errand)
{
	if (errand == NULL || ready_push(&self->threads.errands, errand) < 0)
		return -1;
	loop_ask(self);
	return 0;
}

int loop_leave_call(Loop *self, PyObject *object, PyObject *name, PyObject *argument)
{
	PyObject *method = PyObject_GetAttr(object, name);
	int status;

	if (method == NULL)
		return -1;
	status = loop_leave_errand(self, handle_new(self, method, &argument,
	                                            argument == NULL ? 0 : 1, NULL));
	Py_DECREF(method);
	return status;
}

/* ---- doing it, in the loop's thread --------------------------------------------------- */

static int loop_serve_cancel(Loop *self, struct operation *operation)
{
	struct ul_completion completion = {
		.owner = operation,
		.token = operation->unwanted,
		.result = -ECANCELED,
	};

	/* The operation may have ended since, and another have begun. */
	if (operation->link == NULL || operation->token != operation->unwanted ||
	    !operation_end(self, operation))
		return 0;
	/* The canceller was told that its end follows. */
	return operation->completed(self, operation, &completion);
}

static int loop_serve_cancels(Loop *self)
{
	int status = 0;

	while (status == 0 && self->threads.cancels != NULL) {
		struct operation *operation = self->threads.cancels;
		PyObject *holder = operation->holder;

		self->threads.cancels = operation->next_asked;
		operation->next_asked = NULL;
		operation->asked = false;
		status = loop_serve_cancel(self, operation);
		Py_DECREF(holder);
	}
	return status;
}

static int loop_run_errands(Loop *self)
{
	int status = 0;

	while (status == 0 && self->threads.errands.count > 0) {
		Handle *errand = ready_pop(&self->threads.errands);

		status = handle_run(self, errand);
		handle_retire(errand);
	}
	return status;
}

int loop_serve_threads(Loop *self)
{
	self->threads.asked = false;
	loop_close_orphans(self);
	if (likely(requests_tell(self) == 0 && loop_serve_cancels(self) == 0 &&
	           loop_run_errands(self) == 0))
		return 0;
	self->threads.asked = true; /* the rest is for the next time */
	return -1;
}

/* ---- the loop ------------------------------------------------------------------------- */

int threads_traverse(Loop *self, visitproc visit, void *arg)
{
	const struct ready_queue *errands = &self->threads.errands;
	struct operation *each;
	size_t i;

	if (requests_traverse(self, visit, arg) != 0)
		return -1;
	for (each = self->threads.cancels; each != NULL; each = each->next_asked)
		Py_VISIT(each->holder);
	for (i = 0; i < errands->count; i++)
		Py_VISIT(errands->items[(errands->head + i) & errands->mask]);
	return 0;
}

void threads_clear(Loop *self)
{
	while (self->threads.cancels != NULL) {
		struct operation *operation = self->threads.cancels;

		self->threads.cancels = operation->next_asked;
		operation->next_asked = NULL;
		operation->asked = false;
		Py_DECREF(operation->holder);
	}
	ready_clear(&self->threads.errands);
	requests_clear(self);
}

void threads_release(Loop *self)
{
	threads_clear(self);
	ready_release(&self->threads.errands);
	PyMem_Free(self->threads.orphans.items);
}

PyDoc_STRVAR(loop_hand_over_doc,
"_hand_over($self, callback, /, *args)\n--\n\n"
"Have callback(*args) called by the thread that runs the loop, before this run ends.\n\n"
"Only when _runs_elsewhere().");

static PyObject *loop_hand_over_method(Loop *self, PyObject *const *args, Py_ssize_t nargs)
{
	if (nargs < 1) {
		PyErr_SetString(PyExc_TypeError, "_hand_over() takes a callback");
		return NULL;
	}
	if (loop_check_closed(self) < 0 ||
	    loop_leave_errand(self, handle_new(self, args[0], args + 1, nargs - 1, NULL)) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyMethodDef thread_methods[] = {
	{"_hand_over", FASTCALL(loop_hand_over_method), METH_FASTCALL, loop_hand_over_doc},
	{NULL, NULL, 0, NULL},
};
