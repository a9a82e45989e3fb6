/*
 * CPython beside its API, as far as the core needs it.  Everything stands on this; it
 * knows nothing of the loop.
 */
#ifndef UL_PY_H
#define UL_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(pointer, type, member) \
	((type *)((char *)(pointer) - offsetof(type, member)))

/* No type has it as its tp_version_tag, which 0 does not say: that is a type without one. */
#define VERSION_UNKNOWN UINT64_MAX

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function)

/* ---- exceptions ---------------------------------------------------------- */

/* Whether the exception that is set must end the loop (KeyboardInterrupt, SystemExit). */
bool exception_ends_loop(void);
/* An OSError for `error` (positive errno): the subclass that belongs to it. */
PyObject *exception_from_errno(int error);
/* The exception for `error`, set. */
void exception_set_errno(int error);
#if PY_VERSION_HEX < 0x030C0000
PyObject *PyErr_GetRaisedException(void);
void PyErr_SetRaisedException(PyObject *exception);
#endif

/* ---- calls --------------------------------------------------------------- */

/* Calls `function` and drops its result; 0 or -1. */
int call_and_drop(PyObject *function, PyObject *const *args, size_t nargs);
/* object.name(argument), or object.name() for NULL; 0 or -1. */
int call_method_and_drop(PyObject *object, PyObject *name, PyObject *argument);

/* ---- helpers ------------------------------------------------------------- */

/*
 * Functions of uring_loop/_internal/_helpers.py, set by _core.set_helpers(): what is
 * rare is written in Python.  All owned.
 */
struct helpers {
	PyObject *handle_class;        /* asyncio.Handle */
	PyObject *threadsafe_handle_class; /* of call_soon_threadsafe(); before 3.14 the same */
	PyObject *timer_handle_class;  /* asyncio.TimerHandle */
	PyObject *future_class;        /* asyncio.Future */
	PyObject *get_running_loop;    /* the very function by which that finds its loop */
	PyObject *buffered_protocol;   /* asyncio.BufferedProtocol */
	PyObject *run_foreign;         /* (handle): run an asyncio.Handle, unless cancelled */
	PyObject *extract_stack;       /* () -> traceback.StackSummary of the caller */
	PyObject *handle_repr;         /* (handle) -> str */
	PyObject *check_callback;      /* (callback, method) -> None, or TypeError */
	PyObject *callback_failed;     /* (loop, handle, exception) */
	PyObject *callback_slow;       /* (loop, what, seconds) */
	PyObject *callback_long;       /* (loop, callback or holder of an operation, ns) */
	PyObject *transport_failed;    /* (loop, transport, protocol, exception, message) */
	PyObject *protocol_failed;     /* (loop, transport, protocol, exception, message) */
	PyObject *transport_event;     /* (transport, message): a debug log line */
	PyObject *write_after_loss;    /* (): logs asyncio's warning */
	PyObject *data_refusal;        /* how write() refuses a type, up to its name */
	PyObject *set_result;          /* (future, result), unless cancelled */
	PyObject *running_loop_module; /* whose _set_running_loop() get_running_loop() heeds */
	PyObject *make_socket;         /* (fd) -> socket.socket */
	PyObject *socket_class;        /* socket.socket */
	PyObject *stream_transport;    /* the class of those that servers open */
	PyObject *check_descriptor;    /* (loop, fd): RuntimeError when a transport owns it */
	PyObject *incomplete_read;     /* asyncio.IncompleteReadError */
	PyObject *invalid_state;       /* asyncio.InvalidStateError */
	PyObject *limit_overrun;       /* asyncio.LimitOverrunError */
	PyObject *line_failed;         /* (readline, reader, exception): what that then gives */
};
extern struct helpers helpers;
extern PyMethodDef helper_functions[]; /* of the module: set_helpers() */
int helpers_missing(void);

/* 0; -1 and RuntimeError before set_helpers(). */
static inline int helpers_check(void)
{
	return likely(helpers.make_socket != NULL) ? 0 : helpers_missing();
}

/* ---- names --------------------------------------------------------------- */

/* Interned names. */
#define CORE_NAMES(X) \
	X(context) X(callback) X(time) X(loop) X(call_soon) X(call_at) \
	X(connection_made) X(connection_lost) X(data_received) X(eof_received) \
	X(datagram_received) X(error_received) X(sendto) X(recvfrom) X(send) X(recv) \
	X(get_buffer) X(buffer_updated) X(pause_writing) X(resume_writing) \
	X(_detach) X(close) X(detach) X(set_exception) \
	X(done) X(set_result) X(create_future) X(fileno) \
	X(_call_connection_lost) X(_start_reading) X(_deliver_held_back) \
	X(_start) X(_begin) X(_rearm) X(_wait_for_room) X(_watch_again) \
	X(_set_running_loop) X(_roomy) X(join) X(_hold) \
	X(_read_ready) X(_read_failed) X(_read_ended) X(_write) X(_write_ready) X(_write_failed) \
	X(_write_in_vain) X(_hung_up) X(_lose) \
	X(_ssl_protocol) X(_write_appdata) X(_fatal_error) X(_do_read) X(_go_on) X(_after_read) \
	X(_loop) X(_buffer) X(_limit) X(_eof) X(_waiter) X(_exception) X(_transport) X(_paused) \
	X(_stream_reader) X(_stream_reader_wr) X(_reader) X(_protocol) X(_connection_lost) \
	X(_client_connected_cb) X(take_bytes) X(_strong_reader) \
	X(cancelled) X(pause_reading) X(resume_reading) X(is_closing) X(throw) X(value) \
	X(__class__) X(__name__) X(__qualname__)
#define DECLARE_NAME(name) PyObject *name;
struct names {
	CORE_NAMES(DECLARE_NAME)
};
#undef DECLARE_NAME
extern struct names names;
int names_init(void);

#endif
