/*
 * Socket addresses between the kernel's struct sockaddr and Python's tuples,
 * strings and bytes, for what passes with every datagram.
 */
#ifndef UL_ADDRESSES_H
#define UL_ADDRESSES_H

#include "../base/py.h"

#include <netinet/in.h>
#include <sys/un.h>

typedef struct Loop Loop;

struct raw_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t size;
};

/* Whether address_new() knows what Python makes of this family's addresses. */
bool address_is_known(int family);
/*
 * What socket.recvfrom() would give for `address`; None for no address.  A new
 * reference, to the same object as the last time, as a rule.  `family` is known.
 */
PyObject *address_new(Loop *loop, const struct sockaddr *address, uint32_t size);
/*
 * The reverse, for addresses that need no look-up: true when `raw` was filled.
 * False, without an exception, when the socket module must judge.
 */
bool address_parse(Loop *loop, int family, PyObject *address, struct raw_address *raw);
/* Free the loop's converted addresses. */
void addresses_release(Loop *loop);

#endif
