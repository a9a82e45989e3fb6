/*
 * CPython beside its API, as far as the core needs it: exceptions by errno, calls whose
 * result nobody wants, interned names, and the helpers that Python brings.
 */
#include "process.h"

#include <errno.h>

struct helpers helpers;
struct names names;

/* ---- exceptions -------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030C0000
PyObject *PyErr_GetRaisedException(void)
{
	PyObject *type, *value, *traceback;

	PyErr_Fetch(&type, &value, &traceback);
	if (type == NULL)
		return NULL;
	PyErr_NormalizeException(&type, &value, &traceback);
	if (traceback != NULL) {
		PyException_SetTraceback(value, traceback);
		Py_DECREF(traceback);
	}
	Py_DECREF(type);
	return value;
}

void PyErr_SetRaisedException(PyObject *exception)
{
	if (exception == NULL) {
		PyErr_Clear();
		return;
	}
	PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exception)), exception,
	              PyException_GetTraceback(exception));
}
#endif

bool exception_ends_loop(void)
{
	return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
	       PyErr_ExceptionMatches(PyExc_SystemExit);
}

/* As os.strerror(), whose text is decoded anew only when the locale has changed it. */
static PyObject *error_text(int error)
{
	const char *raw = strerror(error);
	PyObject *text;

	if (error >= 0 && error <= ECONNREFUSED && process.errors[error].raw == raw)
		return Py_NewRef(process.errors[error].text);
	text = PyUnicode_DecodeLocale(raw, "surrogateescape");
	if (text != NULL && error >= 0 && error <= ECONNREFUSED) {
		process.errors[error].raw = raw;
		Py_XSETREF(process.errors[error].text, Py_NewRef(text));
	}
	return text;
}

PyObject *exception_from_errno(int error)
{
	PyObject *args[2] = {PyLong_FromLong(error), error_text(error)}, *exception = NULL;

	/* OSError's constructor chooses the subclass (ConnectionResetError, ...). */
	if (args[0] != NULL && args[1] != NULL)
		exception = PyObject_Vectorcall(PyExc_OSError, args, 2, NULL);
	Py_XDECREF(args[0]);
	Py_XDECREF(args[1]);
	return exception;
}

void exception_set_errno(int error)
{
	PyObject *exception = exception_from_errno(error);

	if (exception != NULL)
		PyErr_SetRaisedException(exception);
}

/* ---- calls ---------------------------------------------------------------------- */

int call_and_drop(PyObject *function, PyObject *const *args, size_t nargs)
{
	PyObject *result = PyObject_Vectorcall(function, args, nargs, NULL);

	if (result == NULL)
		return -1;
	Py_DECREF(result);
	return 0;
}

int call_method_and_drop(PyObject *object, PyObject *name, PyObject *argument)
{
	PyObject *args[2] = {object, argument};
	PyObject *result = PyObject_VectorcallMethod(name, args, argument == NULL ? 1 : 2, NULL);

	Py_XDECREF(result);
	return result == NULL ? -1 : 0;
}

/* ---- helpers ------------------------------------------------------------------- */

/* The names under which set_helpers() takes the fields of struct helpers. */
static const struct {
	const char *name;
	size_t offset;
} helper_fields[] = {
#define HELPER(name) {#name, offsetof(struct helpers, name)}
	HELPER(handle_class),    HELPER(threadsafe_handle_class),
	HELPER(timer_handle_class), HELPER(future_class),
	HELPER(get_running_loop),
	HELPER(buffered_protocol), HELPER(run_foreign),
	HELPER(extract_stack),    HELPER(handle_repr),
	HELPER(check_callback),  HELPER(callback_failed),    HELPER(callback_slow),
	HELPER(callback_long),
	HELPER(transport_failed), HELPER(protocol_failed),   HELPER(transport_event),
	HELPER(write_after_loss), HELPER(data_refusal),      HELPER(set_result),
	HELPER(running_loop_module),
	HELPER(make_socket),     HELPER(socket_class),       HELPER(stream_transport),
	HELPER(check_descriptor), HELPER(incomplete_read),   HELPER(invalid_state),
	HELPER(limit_overrun), HELPER(line_failed),
#undef HELPER
};

#define HELPER_COUNT (sizeof(helper_fields) / sizeof(helper_fields[0]))
_Static_assert(sizeof(struct helpers) == HELPER_COUNT * sizeof(PyObject *),
               "each field of struct helpers has a name");

static PyObject **helper_field(size_t i)
{
	return (PyObject **)((char *)&helpers + helper_fields[i].offset);
}

int helpers_missing(void)
{
	PyErr_SetString(PyExc_RuntimeError, "import uring_loop, not uring_loop._core");
	return -1;
}

PyDoc_STRVAR(set_helpers_doc,
"set_helpers($module, /, **helpers)\n--\n\n"
"Hand over the functions and classes that the core calls where it is not hot.\n\n"
"Called by uring_loop/_internal/_helpers.py, whenever that is imported.  TypeError when one\n"
"is missing.");

static PyObject *set_helpers(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
	size_t i;

	if (PyTuple_GET_SIZE(args) != 0 || kwargs == NULL ||
	    PyDict_GET_SIZE(kwargs) != (Py_ssize_t)HELPER_COUNT) {
		PyErr_Format(PyExc_TypeError, "set_helpers() takes exactly %zu keyword arguments",
		             HELPER_COUNT);
		return NULL;
	}
	for (i = 0; i < HELPER_COUNT; i++) {
		PyObject *value = PyDict_GetItemString(kwargs, helper_fields[i].name);

		if (value == NULL) {
			PyErr_Format(PyExc_TypeError, "set_helpers() needs %s",
			             helper_fields[i].name);
			return NULL;
		}
		Py_XSETREF(*helper_field(i), Py_NewRef(value));
	}
	Py_RETURN_NONE;
}

PyMethodDef helper_functions[] = {
	{"set_helpers", (PyCFunction)(void (*)(void))set_helpers, METH_VARARGS | METH_KEYWORDS,
	 set_helpers_doc},
	{NULL, NULL, 0, NULL},
};

/* ---- names ----------------------------------------------------------------------- */

int names_init(void)
{
#define INTERN_NAME(name) \
	if ((names.name = PyUnicode_InternFromString(#name)) == NULL) \
		return -1;
	CORE_NAMES(INTERN_NAME)
#undef INTERN_NAME
	return 0;
}
