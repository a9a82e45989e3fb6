/*
 * What a method that asyncio writes as a coroutine gives here: a coroutine in C.  It ends
 * at once when it needs nobody, without a frame or a future.
 *
 *     NEW -> WAITING -> ENDED
 *        \-> DELEGATED -/
 *
 * NEW        nobody has awaited it.
 * WAITING    for data: suspended in the iterator of the reader's waiter.
 * DELEGATED  what is rare is asyncio's own: suspended in its coroutine.
 * ENDED      returned, raised, closed.
 */
#ifndef UL_CALL_H
#define UL_CALL_H

#include "../base/py.h"

enum call_state {
	CALL_NEW,
	CALL_WAITING,
	CALL_DELEGATED,
	CALL_ENDED,
};

/* What became of a step. */
enum step {
	STEP_DONE,            /* it gave the result */
	STEP_FAILED,          /* an exception is set */
	STEP_WAIT,            /* it gave the reader's waiter */
	STEP_DELEGATE,        /* nothing was changed: asyncio's own shall do it */
};

typedef struct StreamCall StreamCall;
typedef enum step (*step_function)(StreamCall *self, PyObject **given);

struct StreamCall {
	PyObject_HEAD
		step_function step;
	PyObject *function;   /* owned; asyncio's own */
	PyObject *object;     /* owned; whose method it is; NULL once ENDED */
	PyObject *argument;   /* owned or NULL: there is none */
	Py_ssize_t offset;    /* up to where the buffer was searched */
	PyObject *awaited;    /* owned; iterator of the waiter, or asyncio's coroutine; or NULL */
	PyObject *weakrefs;
	uint8_t state;        /* enum call_state */
	bool running;
	bool finalized;       /* its finalizer has run, which CPython calls but once */
};

/* A call of function(object), or function(object, argument); borrows all. */
PyObject *stream_call_new(step_function step, PyObject *function, PyObject *object,
                          PyObject *argument);
int stream_call_init_type(PyObject *module);

#endif
