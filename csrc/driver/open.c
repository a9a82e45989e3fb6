/* The choice of a driver: the ring where there is one, else the selector. */
#include "open.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "ring/restrictions.h"
#include "ring/setup.h"
#include "ring/trial.h"
#include "selector/calls.h"

/* Found out once; a fork changes nothing about it. */
static atomic_bool ring_works;

int ul_probe(struct ul_probe *result, uint64_t disable)
{
	int error = uring_try(result, disable);

	if (error == 0)
		atomic_store(&ring_works, true);
	return error;
}

static void fail(struct ul_failure *failure, int error, const char *reason)
{
	failure->error = error;
	snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
}

static int open_uring(const struct ul_options *options, struct ul_driver **driver,
                      struct ul_failure *failure)
{
	int result;

	if (!atomic_load(&ring_works)) {
		struct ul_probe probe;

		if (ul_probe(&probe, options != NULL ? options->disable : 0) != 0) {
			fail(failure, probe.error, probe.reason);
			return -probe.error;
		}
	}
	result = uring_open(options, driver);
	if (result != 0) {
		failure->error = -result;
		uring_explain(result, failure->reason, sizeof(failure->reason));
	}
	return result;
}

int ul_open(int kind, const struct ul_options *options, struct ul_failure *failure,
            struct ul_driver **place)
{
	int result = -EINVAL;

	*place = NULL;
	memset(failure, 0, sizeof(*failure));
	if (options != NULL && options->size != 0 && options->size != sizeof(*options)) {
		fail(failure, EINVAL, "struct ul_options is of another version");
		return -1;
	}
	if (kind == UL_KIND_URING || kind == UL_KIND_AUTO)
		result = open_uring(options, place, failure);
	if (kind == UL_KIND_SELECTOR || (kind == UL_KIND_AUTO && result != 0)) {
		/* `failure` still says why there is no ring. */
		result = selector_open(options, place);
		if (result != 0)
			fail(failure, -result, strerror(-result));
	}
	if (result == 0)
		return 0;
	*place = NULL;
	return -1;
}

int ul_has_request(struct ul_driver *driver, uint8_t opcode)
{
	return driver->table == &uring_table
		       ? kernel_has_opcode(opcode) && restrictions_have(opcode)
		       : calls_have(opcode);
}
