/*
 * No memory for fork(2)'s handlers when the library is loaded: no driver is opened whose child
 * would not know that it is one.
 *
 * Linked with pthread_atfork() wrapped.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "open.h"

int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
	(void)before, (void)parent, (void)child;
	return ENOMEM;
}

int main(void)
{
	struct ul_failure failure;
	struct ul_driver *driver;

	for (int kind = UL_KIND_AUTO; kind <= UL_KIND_SELECTOR; kind++) {
		CHECK_EQUAL(ul_open(kind, NULL, &failure, &driver), -1);
		CHECK(driver == NULL);
		CHECK(strlen(failure.reason) != 0);
		if (kind == UL_KIND_SELECTOR)
			CHECK_EQUAL(failure.error, ENOMEM);
	}
	return 0;
}
