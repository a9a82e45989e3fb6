/*
 * State that all loops of the process share and change: caches, and the count of forks.
 *
 * Any thread may touch it, whichever loop it runs or none, as long as it has the GIL,
 * which orders that: no reference is dropped and no Python is called in the middle of a
 * change.  A build without the GIL would give each thread one, but for the forks.
 * State that is set at import and then only read (types, names, methods) is not here.
 */
#ifndef UL_PROCESS_H
#define UL_PROCESS_H

#include "py.h"

#include <errno.h>

#define SPARE_CONTEXTS_MAX 4
#define SPARE_CALLS_MAX 128

struct context;
struct Handle;
struct Loop;
struct StreamCall;

/* Memory of one type's objects, waiting for its next use; linked by `callback`. */
struct free_list {
	PyObject *first;
	int count;
};

struct process {
	/* handle.c */
	struct free_list handles, timers;
	struct Handle *unfreed;  /* too deep to be freed where they were dropped */
	int freeing_depth;       /* of all threads together */
	/* context.c: contexts that were ours alone after a run; owned, and empty */
	struct context *spares[SPARE_CONTEXTS_MAX];
	int spare_count;
	/* call.c: memory of calls of streams, waiting for its next use */
	struct {
		struct StreamCall *items[SPARE_CALLS_MAX];
		int count;
	} calls;
	/* sockets.c: the version of socket.socket in which its methods are its base's */
	uint64_t plain_socket_version;
	/* loop.c: the loops that run; borrowed, linked by `next_running` */
	struct Loop *running;
	/* forks.c: forks that this process is the child of */
	unsigned forks;
	/* py.c: what the C library says of an errno, decoded */
	struct {
		const char *raw; /* the C library's */
		PyObject *text;  /* owned; what it says */
	} errors[ECONNREFUSED + 1]; /* those of sockets, and what comes before */
};
/* Hidden, so that its address is known when this is compiled. */
extern __attribute__((visibility("hidden"))) struct process process;

#endif
