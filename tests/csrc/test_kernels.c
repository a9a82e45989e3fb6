/* Known-broken kernels: which version is running, and what is not used there. */
#include "ring/kernels.h"

#include <string.h>
#include <sys/utsname.h>

#include "check.h"

#define DEFER UL_FEATURE_DEFER_TASKRUN
#define ALL ((UINT64_C(1) << UL_FEATURE_COUNT) - 1)

static void version_is_that_of_the_source(void)
{
	static const struct {
		int number;
		const char *release;
		const char *version;
		const char *signature;
	} cases[] = {
		{ KERNEL(6, 18, 44), "6.18.44-fc-v595", "#1 SMP PREEMPT_DYNAMIC", NULL },
		{ KERNEL(6, 12, 0), "6.12", "#1 SMP", NULL },
		{ KERNEL(6, 8, 0), "6.8.0-rc3", "#1 SMP", NULL },
		{ KERNEL(5, 14, 0), "5.14.0-503.11.1.el9_5.x86_64", "#1 SMP", NULL },
		/* Its release names no patch level. */
		{ KERNEL(6, 1, 27), "6.1.0-9-amd64",
		  "#1 SMP PREEMPT_DYNAMIC Debian 6.1.27-1 (2023-05-08)", NULL },
		{ KERNEL(5, 15, 74), "5.15.0-58-generic", "#64-Ubuntu SMP",
		  "Ubuntu 5.15.0-58.64-generic 5.15.74\n" },
		{ KERNEL(6, 6, 9), "6.6.9-custom", "#1 SMP built on Debian GNU/Linux", NULL },
		{ KERNEL(6, 6, 9), "6.6.9", "#1 SMP", "nothing of the kind" },
		{ KERNEL(4, 14, 999), "4.14.1234", "#1 SMP", NULL },
		{ 0, "", "", NULL },
		{ 0, "unknown", "", "" },
	};
	size_t index;

	for (index = 0; index < sizeof(cases) / sizeof(cases[0]); index++)
		CHECK_EQUAL(kernel_number(cases[index].release, cases[index].version,
		                          cases[index].signature), cases[index].number);
}

/* The first and the last version of each, and their neighbours. */
static void broken_features_are_denied_where_they_are_broken(void)
{
	static const struct {
		const char *release;
		bool ring;
		uint64_t denied;
	} cases[] = {
		{ "5.10.46", true, 0 },
		{ "5.15.69", true, 0 },
		{ "5.15.70", false, 0 },
		{ "5.15.89", false, 0 },
		{ "5.15.90", true, 0 },
		{ "6.1.6", true, 0 },
		{ "6.1.7", true, UL_FEATURE_MULTISHOT_RECV },
		{ "6.1.8", true, UL_FEATURE_MULTISHOT_RECV },
		{ "6.1.9", true, 0 },
		{ "6.5.13", true, 0 },
		{ "6.6.0", true, UL_FEATURE_MULTISHOT_ACCEPT },
		{ "6.6.17", true, UL_FEATURE_MULTISHOT_ACCEPT },
		{ "6.6.18", true, 0 },
		{ "6.7.0", true, UL_FEATURE_MULTISHOT_ACCEPT },
		{ "6.7.12", true, UL_FEATURE_MULTISHOT_ACCEPT },
		{ "6.8.0", true, 0 },
		{ "6.12.43", true, 0 },
		{ "6.16.12", true, 0 },
		{ "6.17.0", true, UL_FEATURE_MULTISHOT_UNIX },
		{ "6.18.19", true, UL_FEATURE_MULTISHOT_UNIX },
		{ "6.18.20", true, 0 },
		{ "6.19.9", true, UL_FEATURE_MULTISHOT_UNIX },
		{ "6.19.10", true, 0 },
		{ "7.0.0", true, 0 },
		{ "", true, 0 },
	};
	size_t index;

	for (index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
		int kernel = kernel_number(cases[index].release, "", NULL);

		CHECK_EQUAL(kernel_bug_of(kernel, 0, 0) == NULL, cases[index].ring);
		CHECK_EQUAL(kernel_bugs(kernel, ALL), cases[index].denied);
		/* Not broken on a ring that is not deferred. */
		CHECK_EQUAL(kernel_bugs(kernel, ALL & ~(uint64_t)DEFER),
		            cases[index].denied & ~(uint64_t)UL_FEATURE_MULTISHOT_ACCEPT);
	}
}

static const char signature[] = "Ubuntu 5.15.0-60.66-generic 5.15.78\n";

/* Linked with fopen(3) wrapped. */
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (strcmp(path, "/proc/version_signature") != 0)
		return __real_fopen(path, mode);
	return fmemopen((void *)signature, strlen(signature), mode);
}

static void running_kernel_is_that_of_its_signature(void)
{
	struct utsname name;
	int number;

	CHECK_EQUAL(uname(&name), 0);
	number = kernel_number(name.release, name.version, signature);
	/* Debian's has no such file. */
	CHECK(number == KERNEL(5, 15, 78) || strstr(name.version, "Debian") != NULL);
	CHECK_EQUAL(kernel_running(), number);
	if (number == KERNEL(5, 15, 78))
		CHECK_EQUAL(strcmp(ul_known_bug(0), "lxc/lxc#4256"), 0);
}

int main(void)
{
	running_kernel_is_that_of_its_signature();
	version_is_that_of_the_source();
	broken_features_are_denied_where_they_are_broken();
	return 0;
}
