"""All calls out of the core, derived from its source: the fuzzer strikes from each kind.

CONTRIBUTING.md ("Calls out of the core") says what one is. A function of CPython's that the core
has not used before must be put into one of the two tables here; one that may run Python belongs to
a place of tests/fuzz/hostile.py, so that the search comes back from it.
"""

import ast
import pathlib
import re
from collections import defaultdict

ROOT = pathlib.Path(__file__).parent.parent
CORE = sorted((ROOT / "csrc" / "core").rglob("*.[ch]"))

# Function of CPython's that may run Python -> the place from which that Python strikes.
CALLS_OUT = {
    "del": """
        Py_DECREF Py_XDECREF Py_CLEAR Py_XSETREF Py_SETREF PyDict_Clear PyDict_DelItem
        PyList_SetSlice PyObject_CallFinalizerFromDealloc PyErr_Clear PyErr_SetRaisedException
        PyErr_Restore PyErr_SetString PyErr_SetObject PyErr_NoMemory PyErr_SetNone
    """,
    "weakref": "PyObject_ClearWeakRefs",
    "repr": """
        PyObject_Repr PyObject_Str PyErr_Format PyErr_FormatV PyObject_Bytes PyUnicode_FromFormat
    """,
    "buffer": "PyObject_GetBuffer PyBuffer_Release PyMemoryView_FromObject PyBytes_FromObject",
    "lines": "PyObject_GetIter PyIter_Next PySequence_Tuple PySequence_Fast PySequence_List",
    "length": """
        PyObject_Size PyObject_IsTrue PyObject_Not PyNumber_Add PyFloat_AsDouble PyLong_AsLong
        PyLong_AsSsize_t PyLong_AsDouble PyLong_AsUnsignedLong PyLong_AsUnsignedLongLong
        PyLong_AsLongLongAndOverflow PyNumber_Index PyObject_RichCompareBool PyObject_Hash
        PyObject_GetItem PyObject_AsFileDescriptor PySet_Contains PyDict_SetItem
        PyDict_GetItemWithError PyDict_SetItemString PyDict_GetItemString
        PyArg_ParseTuple PyArg_ParseTupleAndKeywords PyUnicode_FSConverter PyObject_IsInstance
        PyUnicode_Compare
    """,
    # Methods, attributes, callbacks: the hooks of a program's protocols.
    "handler": """
        PyObject_Call PyObject_CallNoArgs PyObject_CallOneArg PyObject_CallFunction
        PyObject_CallMethodNoArgs PyObject_CallMethodOneArg PyObject_CallMethod
        PyObject_CallFunctionObjArgs PyObject_CallMethodObjArgs PyObject_Vectorcall
        PyObject_VectorcallMethod PyObject_GetAttr PyObject_GetAttrString PyObject_HasAttr
        PyObject_SetAttr PyObject_SetAttrString PyObject_GenericSetAttr PyErr_CheckSignals
        PyImport_ImportModule PyErr_NormalizeException PyContext_Enter PyContext_Exit
        PyContextVar_Set PyContextVar_Get PyType_FromModuleAndSpec PyModule_AddType
        PyModule_AddFunctions PyErr_SetFromErrno PyIter_Send PyObject_GenericGetAttr
    """,
    "unraisable": "PyErr_WriteUnraisable",
    "warning": "PyErr_ResourceWarning PyErr_WarnEx PyErr_WarnFormat",
    "audit": "PySys_Audit",
    # Where another thread runs meanwhile: the steps `thread` and `elsewhere`.
    "time": "Py_BEGIN_ALLOW_THREADS PyEval_SaveThread PyThread_acquire_lock_timed",
    # What allocates memory of the collector's; up to Python 3.11 it runs right there.
    "collector": """
        PyObject_GC_New PyList_New PyTuple_New PyTuple_Pack PyDict_New PyDict_Copy Py_BuildValue
        PyContext_New PyContext_Copy PyContext_CopyCurrent PyList_Append PyList_AsTuple
        PyTuple_GetSlice PyObject_New PyModule_NewObject PyDescr_NewMethod PyContextVar_New
        PyObject_GenericGetDict PyMethod_New PyCFunction_New
    """,
}

# These run nothing: they look, count, or make what has no tracked memory.
RUN_NOTHING = """
    Py_UNUSED Py_NewRef Py_XNewRef Py_INCREF Py_XINCREF Py_REFCNT Py_SET_REFCNT Py_TYPE Py_IS_TYPE
    Py_VISIT Py_RETURN_NONE PyDoc_STRVAR PyErr_Occurred PyErr_GetRaisedException PyErr_Fetch
    PyErr_ExceptionMatches PyErr_GivenExceptionMatches PyException_SetTraceback
    PyException_GetTraceback PyTuple_GET_ITEM PyTuple_GET_SIZE PyTuple_SET_ITEM PyTuple_CheckExact
    PyTuple_Check PyList_GET_SIZE PyList_GET_ITEM PyList_SET_ITEM PyList_Check PyList_CheckExact
    PySequence_Fast_GET_SIZE PySequence_Fast_GET_ITEM PyDict_GET_SIZE PyBytes_AS_STRING
    PyBytes_GET_SIZE PyBytes_Check PyBytes_CheckExact PyBytes_FromStringAndSize PyByteArray_Check
    PyByteArray_AS_STRING PyByteArray_GET_SIZE PyMemoryView_Check PyMemoryView_GET_BUFFER
    PyBool_Check PyBool_FromLong PyLong_Check PyLong_CheckExact PyLong_FromLong PyLong_FromSize_t
    PyLong_FromSsize_t PyLong_FromUnsignedLong PyLong_FromUnsignedLongLong PyLong_FromVoidPtr
    PyLong_FromDouble PyFloat_FromDouble PyFloat_CheckExact PyFloat_AS_DOUBLE
    PyFloat_Check PyUnicode_FromString PyUnicode_InternFromString PyUnicode_CheckExact
    PyUnicode_CompareWithASCIIString PyUnicode_DecodeLocale PyUnicode_DecodeFSDefaultAndSize
    PyUnicode_EncodeFSDefault PyUnicode_IS_ASCII PyUnicode_Check PyUnicode_GET_LENGTH
    PyUnicode_AsUTF8AndSize PyUnicode_1BYTE_DATA PyMem_Malloc PyMem_Calloc PyMem_New PyMem_Realloc
    PyMem_Free PyMem_RawCalloc PyMem_RawRealloc PyMem_RawFree PyMem_RawMalloc PyObject_Free
    PyObject_GC_Track PyObject_GC_UnTrack PyObject_GC_Del PyObject_GC_IsTracked PyObject_Init
    PyObject_TypeCheck PyObject_IS_GC PyContext_CheckExact PyCFunction_Check PyCFunction_GET_SELF
    PyCFunction_GET_FUNCTION PyCFunction_GET_FLAGS PyThread_get_thread_ident PyThread_allocate_lock
    PyThread_free_lock PyThread_acquire_lock PyThread_release_lock PyThreadState_Get
    PyThreadState_GetUnchecked PyInterpreterState_Get PyInterpreterState_GetDict
    PyInterpreterState_GetID PySys_GetObject PyType_GetName PyType_HasFeature PyType_IsSubtype
    PyType_Check PyType_GetSlot PyModule_GetState PyModuleDef_Init PyInit__core Py_IsFinalizing
    PyVectorcall_NARGS PyVectorcall_Function Py_END_ALLOW_THREADS PyObject_HEAD_INIT Py_hash_t
    PyCoro_CheckExact PyGILState_Check PyExceptionInstance_Check PyCallable_Check Py_ARRAY_LENGTH
    PyBytes_Resize PyType_Name Py_ssize_t
    PyDict_Next PyExceptionClass_Check PyUnicode_InternInPlace PyWeakref_CheckRefExact
    PyWeakref_GetRef PyWeakref_GET_OBJECT PyByteArray_Resize PyByteArray_CheckExact Py_SIZE
    PyByteArray_FromStringAndSize Py_SET_SIZE PySequence_DelSlice PyException_SetContext
    PyDict_CheckExact PyDict_Check PyObject_CheckBuffer PyBuffer_IsContiguous PyIndex_Check
"""


def without_comments(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


def uses():
    """Function of CPython's -> the files of the core that call it."""
    found = defaultdict(set)
    for path in CORE:
        text = without_comments(path.read_text())
        names = re.findall(r"\b(_?Py[A-Za-z]*_[A-Za-z_0-9]+)\s*\(", text)
        names += re.findall(r"\b(Py_(?:BEGIN|END)_ALLOW_THREADS)\b", text)
        for name in names:
            found[name.removeprefix("_")].add(str(path.relative_to(ROOT)))
    return found


def places():
    """hostile.PLACES, without its imports."""
    tree = ast.parse((ROOT / "tests" / "fuzz" / "hostile.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "PLACES":
            return set(ast.literal_eval(node.value))
    raise AssertionError("hostile.py has no PLACES")


def test_each_function_of_cpython_that_the_core_calls_is_known_to_run_python_or_not():
    known = set(RUN_NOTHING.split())
    for names in CALLS_OUT.values():
        known |= set(names.split())
    unknown = {name: sorted(files) for name, files in uses().items() if name not in known}
    assert not unknown


def test_each_call_out_is_one_that_the_fuzzer_strikes_from():
    assert set(CALLS_OUT) <= places()
    # Calls out of the core that go through helpers in Python: the logger and time().
    assert {"log", "time", "handler", "lines"} <= places()


def test_machines_of_the_simulation_strike_from_each_place_that_the_fuzzer_does():
    tree = ast.parse((ROOT / "tests" / "sim" / "striking.py").read_text())
    rules = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {f"strike_from_{place}" for place in places()} <= rules


def test_no_function_is_said_to_run_python_and_to_run_nothing():
    seen = RUN_NOTHING.split()
    for names in CALLS_OUT.values():
        seen += names.split()
    assert len(seen) == len(set(seen))
