/* Known-broken kernels.  See kernels.h. */
#include "kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/*
 * What else is broken somewhere does not concern us: we have no SQPOLL, linked
 * requests, mapped buffer rings, bundles, incremental buffers or MSG_WAITALL;
 * or it has an answer that does for every kernel: an EAGAIN or ENOMEM that need
 * not be is tried again, close(2) is no request, a cancelled receive may end
 * with ENOBUFS.
 */
static const struct kernel_bug bugs[] = {
	/* A poll is not woken: backport of the poll rework (f770fba096a6). */
	{ KERNEL(5, 15, 70), KERNEL(5, 15, 90), 0, 0, "lxc/lxc#4256" },
	/*
	 * Multishot receives end with ENOBUFS, again and again, although there are
	 * buffers.  Not in 6.1.6; mended in 6.1.8 or 6.1.9.
	 */
	{ KERNEL(6, 1, 7), KERNEL(6, 1, 9), UL_FEATURE_MULTISHOT_RECV, 0,
	  "axboe/liburing#778" },
	/*
	 * The completion's descriptor is none.  Seen in 6.6.1 to 6.6.9, 6.7.4 and
	 * 6.8-rc3 in February 2024, when 6.6.17 and 6.7.5 were as good as out.
	 */
	{ KERNEL(6, 6, 0), KERNEL(6, 6, 18), UL_FEATURE_MULTISHOT_ACCEPT,
	  UL_FEATURE_DEFER_TASKRUN, "axboe/liburing#1062" },
	{ KERNEL(6, 7, 0), KERNEL(6, 8, 0), UL_FEATURE_MULTISHOT_ACCEPT,
	  UL_FEATURE_DEFER_TASKRUN, "axboe/liburing#1062" },
	/*
	 * The end of a Unix stream is missed when it comes with the last data.  In
	 * the code since 5.19, seen since 6.17; mended in 6.18.20, 6.19.10 and 7.0.
	 */
	{ KERNEL(6, 17, 0), KERNEL(6, 18, 20), UL_FEATURE_MULTISHOT_UNIX, 0,
	  "CVE-2026-23473" },
	{ KERNEL(6, 19, 0), KERNEL(6, 19, 10), UL_FEATURE_MULTISHOT_UNIX, 0,
	  "CVE-2026-23473" },
};

static int scan(const char *text)
{
	int major;
	int minor;
	int patch = 0;

	if (sscanf(text, "%d.%d.%d", &major, &minor, &patch) < 2)
		return 0;
	return KERNEL(major, minor, patch < 1000 ? patch : 999);
}

int kernel_number(const char *release, const char *version, const char *signature)
{
	const char *debian = strstr(version, "Debian ");
	const char *ubuntu = signature != NULL ? strrchr(signature, ' ') : NULL;
	int number = 0;

	/* Releases of the two are called x.y.0, whichever patch level is inside. */
	if (debian != NULL)
		number = scan(debian + strlen("Debian "));
	if (number == 0 && ubuntu != NULL)
		number = scan(ubuntu + 1);
	return number != 0 ? number : scan(release);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int running;

static void find_running(void)
{
	FILE *file = fopen("/proc/version_signature", "re");
	struct utsname name;
	char signature[128];
	bool has_signature = false;

	if (file != NULL) {
		has_signature = fgets(signature, sizeof(signature), file) != NULL;
		fclose(file);
	}
	if (uname(&name) == 0)
		running = kernel_number(name.release, name.version,
		                        has_signature ? signature : NULL);
}

int kernel_running(void)
{
	pthread_once(&once, find_running);
	return running;
}

const struct kernel_bug *kernel_bug_of(int kernel, uint64_t feature, uint64_t in_use)
{
	size_t index;

	for (index = 0; index < sizeof(bugs) / sizeof(bugs[0]); index++) {
		const struct kernel_bug *bug = &bugs[index];

		if (bug->feature == feature && kernel >= bug->first && kernel < bug->behind &&
		    (bug->with & in_use) == bug->with)
			return bug;
	}
	return NULL;
}

uint64_t kernel_bugs(int kernel, uint64_t features)
{
	uint64_t found = 0;
	uint32_t bit;

	for (bit = 0; bit < UL_FEATURE_COUNT; bit++)
		if (kernel_bug_of(kernel, UINT64_C(1) << bit, features) != NULL)
			found |= UINT64_C(1) << bit;
	return found;
}
