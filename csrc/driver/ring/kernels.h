/*
 * Kernels on which something is there and does not work.
 *
 * The only place where a version counts: what a kernel offers is found by
 * asking it, but a bug does not tell.  Only what we use is listed.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "open.h"

#define KERNEL(major, minor, patch) ((major) * 1000000 + (minor) * 1000 + (patch))

struct kernel_bug {
	int first;               /* KERNEL() */
	int behind;              /* the first in which it is mended */
	uint64_t feature;        /* UL_FEATURE_* to do without; 0: the ring itself */
	uint64_t with;           /* only beside this one; 0: always */
	const char *source;
};

/*
 * The version of the kernel's source, 0 when unreadable.  `release` and `version`
 * are uname(2)'s; `signature` is Ubuntu's /proc/version_signature, or NULL.
 */
int kernel_number(const char *release, const char *version, const char *signature);
/* The running kernel's; asked for once. */
int kernel_running(void);
/* The bug known of a feature (0: the ring) on a kernel; NULL: none. */
const struct kernel_bug *kernel_bug_of(int kernel, uint64_t feature, uint64_t in_use);
/* The features of `features` that are better not used. */
uint64_t kernel_bugs(int kernel, uint64_t features);

#endif
