/*
 * The contexts of callbacks: copies of the current one that cost nothing until
 * somebody can tell.
 *
 * A Context is an object around an immutable mapping, so its copy is a new
 * object around the same mapping.  What is scheduled keeps the mapping alone
 * ("frozen"); the object is made when the callback runs, or when somebody asks
 * for it.  After a run that nobody kept the object from, it serves the next one.
 *
 * This needs the fields of CPython's object, which have not moved since 3.7.
 * They are tried out when the module is loaded; where anything is not as
 * expected, "frozen" is a copy made at once, through the public functions.
 */
#include "context.h"
#include "../base/process.h"

/* As CPython lays it out; the mapping is a type of its own, without a public name. */
struct context {
	PyObject_HEAD PyObject *previous;
	PyObject *variables;  /* owned: the mapping */
	PyObject *weakrefs;
	int entered;
};

/* The mapping of an empty context; owned. NULL: contexts are not as we know them. */
static PyObject *empty;

/* A context to which nobody else refers, weakly or not: it is not entered either. */
static bool context_is_ours(struct context *context)
{
	return Py_REFCNT(context) == 1 && context->weakrefs == NULL;
}

PyObject *context_freeze(void)
{
	struct context *current;

	if (unlikely(empty == NULL))
		return PyContext_CopyCurrent();
	current = (struct context *)PyThreadState_Get()->context;
	/* A thread without one has set no variable. */
	return Py_NewRef(current == NULL ? empty : current->variables);
}

/* A spare one, or NULL without an exception. */
static struct context *context_take_spare(void)
{
	while (process.spare_count > 0) {
		struct context *context = process.spares[--process.spare_count];

		if (likely(context_is_ours(context)))
			return context;
		/* The cycle collector shows all there is to whoever asks. */
		Py_DECREF(context);
	}
	return NULL;
}

int context_thaw(PyObject **frozen)
{
	struct context *context;
	PyObject *before;

	if (PyContext_CheckExact(*frozen))
		return 0;
	context = context_take_spare();
	if (unlikely(context == NULL)) {
		context = (struct context *)PyContext_New();
		if (context == NULL)
			return -1;
	}
	/* Either may have run code, and that may have thawed this. */
	if (unlikely(PyContext_CheckExact(*frozen))) {
		Py_DECREF(context);
		return 0;
	}
	before = context->variables;
	context->variables = *frozen;
	*frozen = (PyObject *)context;
	Py_XDECREF(before);
	return 0;
}

/*
 * The entering and leaving of CPython before 3.14, without its three searches for the
 * thread's state; what it would refuse is left to it.
 */
#if PY_VERSION_HEX < 0x030E0000
#define ENTERS_ITSELF (empty != NULL)

static void context_set_current(PyThreadState *state, PyObject *context)
{
	state->context = context;
	state->context_ver++; /* what variables remember of the current context is old */
}
#else
#define ENTERS_ITSELF false
#define context_set_current(state, context) ((void)(state), (void)(context))
#endif

int context_switch_to(PyThreadState *state, PyObject *object)
{
	struct context *context = (struct context *)object;

	if (unlikely(!ENTERS_ITSELF || context->entered))
		return PyContext_Enter(object);
	context->previous = state->context; /* the reference goes along */
	context->entered = 1;
	context_set_current(state, Py_NewRef(object));
	return 0;
}

int context_switch_back(PyThreadState *state, PyObject *object)
{
	struct context *context = (struct context *)object;

	if (unlikely(!ENTERS_ITSELF || !context->entered || state->context != object))
		return PyContext_Exit(object);
	context_set_current(state, context->previous);
	context->previous = NULL;
	context->entered = 0;
	Py_DECREF(object); /* the caller has another */
	return 0;
}

void context_recycle(PyObject *object)
{
	struct context *context = (struct context *)object;

	if (unlikely(empty == NULL || process.spare_count == SPARE_CONTEXTS_MAX ||
	             !PyContext_CheckExact(object) || !context_is_ours(context))) {
		Py_DECREF(object);
		return;
	}
	/* The last reference to a value may go, and run anything. */
	Py_XSETREF(context->variables, Py_NewRef(empty));
	if (likely(process.spare_count < SPARE_CONTEXTS_MAX))
		process.spares[process.spare_count++] = context;
	else
		Py_DECREF(context);
}

/* Whether it has been entered, and nothing else: `before` was the current one. */
static bool context_is_current(PyObject *object, const PyObject *before)
{
	struct context *context = (struct context *)object;

	return PyThreadState_Get()->context == object && context->previous == before &&
	       context->entered;
}

/* Sets a variable in `context`; whether it was the current one meanwhile. -1: an exception. */
static int context_try(PyObject *context)
{
	PyObject *variable = PyContextVar_New("uring_loop", NULL), *token = NULL;
	PyObject *before = PyThreadState_Get()->context;
	int current = -1;

	if (variable != NULL && PyContext_Enter(context) == 0) {
		current = context_is_current(context, before);
		token = PyContextVar_Set(variable, Py_None);
		if (PyContext_Exit(context) < 0 || token == NULL)
			current = -1;
	}
	Py_XDECREF(token);
	Py_XDECREF(variable);
	return current;
}

int context_init(void)
{
	PyObject *context, *copy;
	struct context *left, *right;
	int known = 0;

	if (PyContext_Type.tp_basicsize != sizeof(struct context) ||
	    PyContext_Type.tp_weaklistoffset != offsetof(struct context, weakrefs))
		return 0;
	context = PyContext_New();
	copy = context == NULL ? NULL : PyContext_Copy(context);
	if (copy == NULL) {
		Py_XDECREF(context);
		return -1;
	}
	left = (struct context *)context;
	right = (struct context *)copy;
	/* A copy shares the mapping; to set a variable replaces it, in that one alone. */
	if (left->variables != NULL && left->variables == right->variables) {
		known = context_try(copy);
		if (known > 0 && left->variables != right->variables &&
		    Py_TYPE(left->variables) == Py_TYPE(right->variables))
			empty = Py_NewRef(left->variables);
	}
	Py_DECREF(copy);
	Py_DECREF(context);
	return known < 0 ? -1 : 0;
}

/* ---- contexts that are somebody's --------------------------------------------------- */

int context_enter(PyObject *context)
{
	return context == NULL ? 0 : PyContext_Enter(context);
}

void context_exit(PyObject *context)
{
	PyObject *exception;

	if (context == NULL)
		return;
	if (likely(!PyErr_Occurred())) {
		if (PyContext_Exit(context) < 0)
			PyErr_WriteUnraisable(context);
		return;
	}
	exception = PyErr_GetRaisedException();
	if (PyContext_Exit(context) < 0)
		PyErr_WriteUnraisable(context);
	PyErr_SetRaisedException(exception);
}
