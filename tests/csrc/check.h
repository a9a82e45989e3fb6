/* Checks for the C tests: a failed one says where, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

#define CHECK_EQUAL(found, wanted)                                                    \
	do {                                                                          \
		long long found_ = (long long)(found);                                \
		long long wanted_ = (long long)(wanted);                              \
		if (found_ != wanted_) {                                              \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__,    \
			        __LINE__, #found, found_, wanted_);                   \
			exit(1);                                                      \
		}                                                                     \
	} while (0)

/* Ended without leak checks: a child has what its parent has, and gives up most of it. */
#define IN_CHILD(code)                                                                \
	do {                                                                          \
		pid_t child_ = fork();                                                \
		int status_ = 0;                                                      \
		CHECK(child_ >= 0);                                                   \
		if (child_ == 0) {                                                    \
			alarm(20);                                                    \
			code;                                                         \
			_exit(0);                                                     \
		}                                                                     \
		CHECK_EQUAL(waitpid(child_, &status_, 0), child_);                    \
		CHECK_EQUAL(status_, 0);                                              \
	} while (0)

#endif
