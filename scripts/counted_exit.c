/*
 * counted_exit.c: what ends by _exit() tells gcov what it has run, too: a fork's child, mostly.
 *
 * For coverage.sh, in two pieces. -DPRELOADED makes the library whose _exit() the interpreter finds
 * first; the other one is linked into whatever has counters, of which each has its own copy, and
 * tells that library of them. A program that is linked with --wrap=_exit needs no library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void (*dump_fn)(void);

#ifdef PRELOADED

static dump_fn dumps[16];
static size_t count;
static pid_t process;

static void note_process(void)
{
	process = getpid();
}

__attribute__((constructor)) static void begin(void)
{
	note_process();
	pthread_atfork(NULL, NULL, note_process);
}

void counted_exit_tells(dump_fn dump)
{
	if (count < sizeof(dumps) / sizeof(dumps[0]))
		dumps[count++] = dump;
}

void _exit(int status)
{
	/* vfork()'s child has its parent's memory, which would take itself for told. */
	for (size_t i = 0; i < count && process == getpid(); i++)
		dumps[i]();
	for (;;)
		syscall(SYS_exit_group, status);
}

#else

void __gcov_dump(void);

__attribute__((constructor)) static void tell(void)
{
	void (*tells)(dump_fn) = (void (*)(dump_fn))dlsym(RTLD_DEFAULT, "counted_exit_tells");

	if (tells != NULL)
		tells(__gcov_dump);
}

void __wrap__exit(int status)
{
	__gcov_dump();
	for (;;)
		syscall(SYS_exit_group, status);
}

#endif
