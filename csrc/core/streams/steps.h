/* The steps of the methods that asyncio writes as coroutines, and its plain methods. */
#ifndef UL_STEPS_H
#define UL_STEPS_H

#include "call.h"

enum step step_readline(StreamCall *self, PyObject **given);
enum step step_readuntil(StreamCall *self, PyObject **given);
enum step step_readexactly(StreamCall *self, PyObject **given);
enum step step_read(StreamCall *self, PyObject **given);
enum step step_drain(StreamCall *self, PyObject **given);
enum step step_drain_helper(StreamCall *self, PyObject **given);

#endif
