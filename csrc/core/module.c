/* The module: its types, its interned names, and what it borrows from Python. */
#include "core.h"

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
	static struct {
		const char *raw;       /* the C library's */
		PyObject *text;        /* owned; what it says */
	} known[ECONNREFUSED + 1];     /* those of sockets, and what comes before */
	const char *raw = strerror(error);
	PyObject *text;

	if (error >= 0 && error <= ECONNREFUSED && known[error].raw == raw)
		return Py_NewRef(known[error].text);
	text = PyUnicode_DecodeLocale(raw, "surrogateescape");
	if (text != NULL && error >= 0 && error <= ECONNREFUSED) {
		known[error].raw = raw;
		Py_XSETREF(known[error].text, Py_NewRef(text));
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
	HELPER(buffered_protocol), HELPER(run_foreign),
	HELPER(extract_stack),    HELPER(handle_repr),
	HELPER(check_callback),  HELPER(callback_failed),    HELPER(callback_slow),
	HELPER(transport_failed), HELPER(protocol_failed),   HELPER(transport_event),
	HELPER(write_after_loss), HELPER(data_refusal),      HELPER(set_result),
	HELPER(running_loop_module),
	HELPER(make_socket),     HELPER(socket_class),       HELPER(stream_transport),
	HELPER(check_descriptor),
#undef HELPER
};

#define HELPER_COUNT (sizeof(helper_fields) / sizeof(helper_fields[0]))
_Static_assert(sizeof(struct helpers) == HELPER_COUNT * sizeof(PyObject *),
               "each field of struct helpers has a name");

static PyObject **helper_field(size_t i)
{
	return (PyObject **)((char *)&helpers + helper_fields[i].offset);
}

int helpers_check(void)
{
	if (likely(helpers.make_socket != NULL))
		return 0;
	PyErr_SetString(PyExc_RuntimeError, "import uring_loop, not uring_loop._core");
	return -1;
}

PyDoc_STRVAR(set_helpers_doc,
"set_helpers($module, /, **helpers)\n--\n\n"
"Hand over the functions and classes that the core calls where it is not hot.\n\n"
"Called by uring_loop/_debug.py, whenever that is imported.  TypeError when one is missing.");

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

/* ---- the module ------------------------------------------------------------------ */

static int names_init(void)
{
#define INTERN_NAME(name) \
	if ((names.name = PyUnicode_InternFromString(#name)) == NULL) \
		return -1;
	CORE_NAMES(INTERN_NAME)
#undef INTERN_NAME
	return 0;
}

/* PYTHON_GIL=0 and -X gil=0 keep it off, whatever a module declares; ours would crash some day. */
static int require_gil(void)
{
#ifdef Py_GIL_DISABLED
	PyObject *ask = PySys_GetObject("_is_gil_enabled");
	PyObject *answer;
	int enabled;

	if (ask == NULL)
		return 0;
	answer = PyObject_CallNoArgs(ask);
	if (answer == NULL)
		return -1;
	enabled = PyObject_IsTrue(answer);
	Py_DECREF(answer);
	if (enabled < 0)
		return -1;
	if (!enabled) {
		PyErr_SetString(PyExc_ImportError,
		                "uring_loop needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps "
		                "off; without either, the interpreter turns it on for uring_loop");
		return -1;
	}
#endif
	return 0;
}

#define MODULE_NAME "uring_loop._core"

/* The module that this interpreter has, borrowed, or NULL without an exception. */
static PyObject *core_find(void)
{
	PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());

	return dict == NULL ? NULL : PyDict_GetItemString(dict, MODULE_NAME);
}

/*
 * Types and names are static, so there is one module, however often it is imported:
 * what isolates tests takes modules out of sys.modules, and imports them anew.
 */
static PyObject *core_create(PyObject *spec, PyModuleDef *Py_UNUSED(def))
{
	PyObject *module = core_find(), *name;

	if (module != NULL)
		return Py_NewRef(module);
	name = PyObject_GetAttrString(spec, "name");
	module = name == NULL ? NULL : PyModule_NewObject(name);
	Py_XDECREF(name);
	return module;
}

/* The interpreter's own dictionary ends with it: in the next one we are not loaded. */
static int core_keep(PyObject *module)
{
	PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get());

	if (dict == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	return PyDict_SetItemString(dict, MODULE_NAME, module);
}

static int core_exec(PyObject *module)
{
	if (core_find() == module)
		return 0;
	if (LoopType != NULL) {
		PyErr_SetString(PyExc_ImportError,
		                MODULE_NAME " cannot be loaded by two interpreters of one process");
		return -1;
	}
	if (require_gil() < 0)
		return -1;
	if (forks_init() < 0 || names_init() < 0 || context_init() < 0 ||
	    handle_init_types(module) < 0 ||
	    loop_init_types(module) < 0 || listener_init_types(module) < 0 ||
	    clients_init_types(module) < 0 ||
	    polls_init_types(module) < 0 || sockets_init_types(module) < 0 ||
	    transport_init_types(module) < 0 || stream_init_types(module) < 0 ||
	    datagram_init_types(module) < 0 ||
	    PyModule_AddFunctions(module, file_functions) < 0)
		return -1;
	return core_keep(module);
}

static PyMethodDef core_methods[] = {
	{"set_helpers", (PyCFunction)(void (*)(void))set_helpers, METH_VARARGS | METH_KEYWORDS,
	 set_helpers_doc},
	{NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot core_slots[] = {
	{Py_mod_create, core_create},
	{Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030C0000
	{Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
	/* It orders all that threads share here: a free-threaded interpreter turns it on for us. */
	{Py_mod_gil, Py_MOD_GIL_USED},
#endif
	{0, NULL},
};

static struct PyModuleDef core_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = MODULE_NAME,
	.m_doc = "The data plane of uring_loop: handles, scheduling, transports.",
	.m_size = 0,
	.m_methods = core_methods,
	.m_slots = core_slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
	return PyModuleDef_Init(&core_module);
}
