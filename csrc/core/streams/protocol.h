/* Bytes for a protocol of asyncio's streams, without a frame of Python's. */
#ifndef UL_PROTOCOL_H
#define UL_PROTOCOL_H

#include "classes.h"

/* protocol_feed() for one that may be ours. */
int protocol_feed_reader(PyObject *protocol, const char *data, size_t size);

/*
 * What protocol.data_received() would do with these bytes, where that only feeds a reader:
 * 1; 0: nothing was done, data_received() is to be called; -1 with what that would raise.
 */
static inline int protocol_feed(PyObject *protocol, const char *data, size_t size)
{
	if (likely(Py_TYPE(protocol) != protocol_class.own))
		return 0;
	return protocol_feed_reader(protocol, data, size);
}

/*
 * protocol.connection_made(transport) of a server's, whose writer becomes one of ours before
 * anybody sees it.  As direct_function in method.c.
 */
PyObject *protocol_connection_made(PyObject *protocol, PyObject *name, PyObject *transport);

/* protocol.data_received(bytes), however; 0 or -1. */
static inline int protocol_deliver(PyObject *protocol, PyObject *bytes)
{
	int status = protocol_feed(protocol, PyBytes_AS_STRING(bytes),
	                           (size_t)PyBytes_GET_SIZE(bytes));

	if (likely(status == 0))
		return call_method_and_drop(protocol, names.data_received, bytes);
	return status < 0 ? -1 : 0;
}

#endif
