/* The owners of descriptors: transports. */
#ifndef UL_OWNERS_H
#define UL_OWNERS_H

#include "../base/py.h"

typedef struct Loop Loop;
struct transport;

/* From now on `self` owns its descriptor; 0, or -1 with an exception. */
int owner_enter(struct transport *self);
void owner_leave(struct transport *self); /* before the loop is forgotten */

extern PyMethodDef owner_methods[];
/* The open transport that owns the descriptor (`fd` >= 0), borrowed, or NULL. */
PyObject *descriptor_owner(const Loop *loop, int fd);
/*
 * Somebody uses the descriptor itself: what a transport that owns it has queued is
 * offered to the kernel before.  0: there is none.  1: there was, and it may have run
 * anything.  -1: with an exception that must end the loop.
 */
int descriptor_catch_up(Loop *loop, int fd);

#endif
