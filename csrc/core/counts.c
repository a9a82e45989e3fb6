/*
 * What the core counts, told to Python; of which uring_loop/_internal/statistics.py makes
 * what people read.
 *
 * Any thread may ask while another runs the loop: the GIL orders that, but for the
 * end of a wait, of which a reader may see a part.
 */
#include "counts.h"
#include "base/process.h"
#include "loop.h"

static const char *const transport_names[] = {
	"bytes_in",
	"bytes_out",
	"connections_in",
	"connections_out",
	"transports",
	"reading_pauses",
	"writing_pauses",
};

#define TRANSPORT_COUNTS (sizeof(struct transport_counts) / sizeof(uint64_t))
_Static_assert(sizeof(transport_names) / sizeof(char *) == TRANSPORT_COUNTS,
               "one name for each count");

/* dict[name] = value; 0 or -1. */
static int put(PyObject *dict, const char *name, uint64_t value)
{
	PyObject *number = PyLong_FromUnsignedLongLong(value);
	int status = number == NULL ? -1 : PyDict_SetItemString(dict, name, number);

	Py_XDECREF(number);
	return status;
}

/* [(the least ns of a bucket, turns, their ns)] of those with turns, or NULL. */
static PyObject *turns_list(const struct turn_times *times)
{
	PyObject *list = PyList_New(0);
	unsigned i;

	for (i = 0; list != NULL && i < TURN_BUCKETS; i++) {
		PyObject *item;

		if (times->buckets[i].turns == 0)
			continue;
		item = Py_BuildValue("[KKK]", (unsigned long long)turn_bucket_least(i),
		                     (unsigned long long)times->buckets[i].turns,
		                     (unsigned long long)times->buckets[i].ns);
		if (item == NULL || PyList_Append(list, item) < 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

PyDoc_STRVAR(loop_counted_doc,
"_counted($self, /)\n--\n\n"
"What the turns took, in nanoseconds, and what transports did, by name.");

static PyObject *loop_counted(Loop *self, PyObject *Py_UNUSED(ignored))
{
	const struct turn_times *times = &self->times;
	const uint64_t *counts = (const uint64_t *)&self->counts;
	PyObject *dict = PyDict_New(), *turns;
	uint64_t busy, waited;
	size_t i;

	if (dict == NULL)
		return NULL;
	/* The group is cut short: one of its turns may be what somebody looks for. */
	if (self->running && !self->asleep && self->turn > times->turns)
		self->clock_due = self->turn + turn_times_read(&self->times, self->turn);
	busy = times->busy;
	waited = times->waited;
	/* What has begun and is not over. */
	if (times->read_at != 0) {
		int64_t now = clock_ns() - times->read_at;

		*(times->waiting ? &waited : &busy) += now > 0 ? (uint64_t)now : 0;
	}
	turns = turns_list(times);
	if (turns == NULL || PyDict_SetItemString(dict, "turns", turns) < 0 ||
	    put(dict, "busy", busy) < 0 || put(dict, "waited", waited) < 0 ||
	    put(dict, "worked", times->worked) < 0 || put(dict, "longest", times->longest) < 0)
		Py_CLEAR(dict);
	Py_XDECREF(turns);
	for (i = 0; dict != NULL && i < TRANSPORT_COUNTS; i++) {
		if (put(dict, transport_names[i], counts[i]) < 0)
			Py_CLEAR(dict);
	}
	return dict;
}

PyDoc_STRVAR(loop_progress_doc,
"_progress($self, /)\n--\n\n"
"What changes with each callback that the loop begins; None while it sleeps or does not run.");

static PyObject *loop_progress(Loop *self, PyObject *Py_UNUSED(ignored))
{
	if (!self->running || self->asleep)
		Py_RETURN_NONE;
	return Py_BuildValue("(KKi)", (unsigned long long)self->turn,
	                     (unsigned long long)self->ready.head, self->batch.next);
}

PyMethodDef count_methods[] = {
	{"_counted", (PyCFunction)loop_counted, METH_NOARGS, loop_counted_doc},
	{"_progress", (PyCFunction)loop_progress, METH_NOARGS, loop_progress_doc},
	{NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(running_loops_doc,
"running_loops($self, /)\n--\n\n"
"The loops of this process that run now, in whatever thread.");

static PyObject *running_loops(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	Loop *loop;

	/* To make the list may have run anything; to append to it does not. */
	for (loop = process.running; list != NULL && loop != NULL; loop = loop->next_running) {
		if (PyList_Append(list, (PyObject *)loop) < 0)
			Py_CLEAR(list);
	}
	return list;
}

PyMethodDef count_functions[] = {
	{"running_loops", running_loops, METH_NOARGS, running_loops_doc},
	{NULL, NULL, 0, NULL},
};
