/* Requests of other threads to a loop that runs. */
#ifndef UL_THREADS_H
#define UL_THREADS_H

#include "operation.h"

extern PyMethodDef thread_methods[];
/* Room for a descriptor that another thread may close by loop_close_fd(); 0 or -1. */
int loop_reserve_orphan(Loop *loop, int fd);
/* Close a descriptor that no operation names; nothing of it can fail. */
void loop_close_fd(Loop *loop, int fd);
/*
 * Ask it to end.  True: it has, and was dropped.  False: its terminal completion is still
 * to be dispatched.
 */
bool operation_cancel(Loop *loop, struct operation *operation);
/* For the loop's thread: object.name(argument), or object.name() for NULL; 0 or -1. */
int loop_leave_call(Loop *loop, PyObject *object, PyObject *name, PyObject *argument);
/* Do what was left.  -1 with an exception that must end the loop; the rest stays. */
int loop_serve_threads(Loop *loop);
int threads_traverse(Loop *loop, visitproc visit, void *arg);
void threads_clear(Loop *loop);
void threads_release(Loop *loop);

#endif
