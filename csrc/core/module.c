/* The module: the list of its types, and what it needs of the interpreter. */
#include "cached_files.h"
#include "callbacks/context.h"
#include "counts.h"
#include "descriptors/polls.h"
#include "descriptors/sockets.h"
#include "operations/forks.h"
#include "operations/opened.h"
#include "operations/requests.h"
#include "pipes/pipe.h"
#include "streams/call.h"
#include "streams/classes.h"
#include "streams/method.h"
#include "tls/records.h"
#include "transports/datagram.h"
#include "transports/listener.h"
#include "transports/stream.h"

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
	    loop_init_types(module) < 0 || opened_init_type(module) < 0 ||
	    requests_init_type(module) < 0 || listener_init_types(module) < 0 ||
	    clients_init_types(module) < 0 ||
	    polls_init_types(module) < 0 || sockets_init_types(module) < 0 ||
	    transport_init_types(module) < 0 || stream_init_types(module) < 0 ||
	    datagram_init_types(module) < 0 || records_init_types(module) < 0 ||
	    pipe_init_type(module) < 0 || read_pipe_init_type(module) < 0 ||
	    write_pipe_init_type(module) < 0 ||
	    stream_call_init_type(module) < 0 || stream_method_init_type(module) < 0 ||
	    PyModule_AddFunctions(module, tls_functions) < 0 ||
	    PyModule_AddFunctions(module, stream_functions) < 0 ||
	    PyModule_AddFunctions(module, helper_functions) < 0 ||
	    PyModule_AddFunctions(module, file_functions) < 0 ||
	    PyModule_AddFunctions(module, count_functions) < 0)
		return -1;
	return core_keep(module);
}

static PyModuleDef_Slot core_slots[] = {
	{Py_mod_create, core_create},
	{Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030C0000
	{Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
	/* The GIL orders what threads share here: a free-threaded interpreter turns it on. */
	{Py_mod_gil, Py_MOD_GIL_USED},
#endif
	{0, NULL},
};

static struct PyModuleDef core_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = MODULE_NAME,
	.m_doc = "The data plane of uring_loop: handles, scheduling, transports.",
	.m_size = 0,
	.m_slots = core_slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
	return PyModuleDef_Init(&core_module);
}
