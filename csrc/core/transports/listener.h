/* A listening socket, and the common part of its connections. */
#ifndef UL_LISTENER_H
#define UL_LISTENER_H

#include "../base/py.h"
#include "../../driver/driver.h"

struct accepted {
	int family;            /* AF_UNSPEC: unknown */
	enum ul_stream stream_kind;
	bool no_delay;         /* they inherit TCP_NODELAY */
	PyObject *sockname;    /* owned; struct sockaddr as bytes, or NULL: each has its own */
	PyObject *context;     /* borrowed; that in which one is being opened, or NULL */
};

int listener_init_types(PyObject *module);

#endif
