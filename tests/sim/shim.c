/*
 * Between the core and the fake driver's Python callbacks.
 *
 * A real driver is C: it may be called while a Python exception is set, and
 * leaves it alone.  Each verb here sets that exception aside, calls the same
 * verb of the table that Python filled in, and puts the exception back.
 *
 * Python.h is not needed for that, so one build serves every interpreter.
 */
#include <stdlib.h>

#include "driver.h"

int PyGILState_Ensure(void);
void PyGILState_Release(int state);
void PyErr_Fetch(void **type, void **value, void **traceback);
void PyErr_Restore(void *type, void *value, void *traceback);

struct sim {
	struct ul_driver driver;
	struct ul_table outer;  /* what the core sees */
	struct ul_table inner;  /* what Python filled in */
};

struct aside {
	int gil;
	void *type, *value, *traceback;
};

static struct aside aside_begin(void)
{
	struct aside aside = { .gil = PyGILState_Ensure() };

	PyErr_Fetch(&aside.type, &aside.value, &aside.traceback);
	return aside;
}

static void aside_end(struct aside *aside)
{
	PyErr_Restore(aside->type, aside->value, aside->traceback);
	PyGILState_Release(aside->gil);
}

static const struct ul_table *inner(struct ul_driver *driver)
{
	return &((struct sim *)driver)->inner;
}

#define VERB(type, name, parameters, arguments) \
	static type sim_##name parameters \
	{ \
		struct aside aside = aside_begin(); \
		type result = inner(driver)->name arguments; \
		aside_end(&aside); \
		return result; \
	}
#define VOID_VERB(name, parameters, arguments) \
	static void sim_##name parameters \
	{ \
		struct aside aside = aside_begin(); \
		inner(driver)->name arguments; \
		aside_end(&aside); \
	}

#define D struct ul_driver *driver
#define OPERATION D, void *owner, int fd
#define TOKEN ul_token *token

VERB(int, begin, (D), (driver))
VOID_VERB(end, (D), (driver))
VERB(int, turn, (D, int64_t timeout_ns), (driver, timeout_ns))
VERB(bool, immediate, (D), (driver))
VERB(int, harvest, (D, struct ul_completion *out, int capacity), (driver, out, capacity))
VOID_VERB(wake, (D), (driver))
VOID_VERB(recycle, (D, unsigned char *data), (driver, data))
VERB(int, recv, (OPERATION, enum ul_stream kind, TOKEN), (driver, owner, fd, kind, token))
VERB(int, take, (D, ul_token token, const struct iovec *iov, uint32_t count),
     (driver, token, iov, count))
VOID_VERB(hold, (D, ul_token token, bool for_good), (driver, token, for_good))
VERB(int, recv_from, (OPERATION, TOKEN), (driver, owner, fd, token))
VERB(int, send, (OPERATION, const struct iovec *iov, uint32_t count, TOKEN),
     (driver, owner, fd, iov, count, token))
VERB(int, accept, (OPERATION, bool shared, TOKEN), (driver, owner, fd, shared, token))
VERB(int, connect, (OPERATION, const struct sockaddr *address, uint32_t size, TOKEN),
     (driver, owner, fd, address, size, token))
VERB(int, poll, (OPERATION, uint32_t events, TOKEN), (driver, owner, fd, events, token))
VERB(int, timeout, (D, void *owner, uint64_t duration_ns, TOKEN),
     (driver, owner, duration_ns, token))
VERB(int, splice, (D, void *owner, int fd_in, int64_t offset_in, int fd_out,
                   int64_t offset_out, uint32_t size, uint32_t flags, TOKEN),
     (driver, owner, fd_in, offset_in, fd_out, offset_out, size, flags, token))
VERB(int, submit, (D, void *owner, const struct ul_request *request, TOKEN),
     (driver, owner, request, token))
VERB(int, cancel, (D, ul_token token), (driver, token))
VERB(int, outcome, (D, ul_token token, bool take), (driver, token, take))
VERB(bool, released, (D, ul_token token), (driver, token))
VERB(int, close, (D, int fd), (driver, fd))
VERB(int, watch, (OPERATION, uint32_t events, TOKEN), (driver, owner, fd, events, token))
VOID_VERB(shutdown, (D), (driver))
VOID_VERB(destroy, (D), (driver))
VERB(const struct ul_statistics *, statistics, (D), (driver))

/* Copies `table`; NULL when memory is out. */
struct sim *sim_new(const struct ul_table *table)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	if (sim == NULL)
		return NULL;
	sim->inner = *table;
#define OUTER(name) .name = sim_##name
	sim->outer = (struct ul_table){
		.size = table->size, .abi = table->abi, .name = table->name,
		.eager_send_bytes = table->eager_send_bytes,
		.receives_in_turn = table->receives_in_turn,
		OUTER(begin), OUTER(end), OUTER(turn), OUTER(immediate), OUTER(harvest),
		OUTER(wake), OUTER(recycle), OUTER(recv), OUTER(take), OUTER(hold),
		OUTER(recv_from), OUTER(send), OUTER(accept), OUTER(connect), OUTER(poll),
		OUTER(timeout), OUTER(splice), OUTER(submit), OUTER(cancel),
		OUTER(outcome), OUTER(released), OUTER(close), OUTER(watch),
		OUTER(shutdown), OUTER(destroy), OUTER(statistics),
	};
	sim->driver.table = &sim->outer;
	return sim;
}

void sim_free(struct sim *sim)
{
	free(sim);
}

/* What Python checks its own layouts against. */
const uint32_t sim_abi = UL_ABI;
const uint32_t sim_table_size = sizeof(struct ul_table);
const uint32_t sim_completion_size = sizeof(struct ul_completion);
