/*
 * A preloaded malloc of which one call fails: the n-th that the arming thread makes.
 *
 *     faults_arm(n);  ...  calls = faults_disarm();
 *
 * What is made between faults_spare(1) and faults_spare(0) is not counted.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static __thread __attribute__((tls_model("initial-exec"))) long calls;
static __thread __attribute__((tls_model("initial-exec"))) long fails_at;
static __thread __attribute__((tls_model("initial-exec"))) int spared;

void faults_arm(long at)
{
	calls = 0;
	fails_at = at;
}

/* How many calls there were. */
long faults_disarm(void)
{
	fails_at = 0;
	return calls;
}

void faults_spare(int whether)
{
	spared = whether;
}

static int strikes(void)
{
	if (fails_at == 0 || spared || ++calls != fails_at)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return strikes() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return strikes() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
	return strikes() ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return strikes() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
	if (strikes())
		return ENOMEM;
	*block = __libc_memalign(alignment, size);
	return *block != NULL ? 0 : ENOMEM;
}
