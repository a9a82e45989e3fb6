/*
 * The kernel's interface newer than liburing 2.3, which is the oldest we build
 * with.  All of it is ABI and never changes.  Enumerators cannot be tested for,
 * so opcodes and register operations get names of ours.
 */
#ifndef COMPAT_H
#define COMPAT_H

#include <liburing.h>
#include <stddef.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)     /* 6.6 */
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)       /* 6.15 */
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)       /* 6.15 */
#endif

/* Opcodes to probe for: enumerators, which no #ifdef sees. */
#define OP_SOCKET 45       /* 5.19: multishot accept, POLL_FIRST came with it */
#define OP_SEND_ZC 47      /* 6.0: multishot receive, SYNC_CANCEL came with it */
#define OP_FTRUNCATE 55    /* 6.9 */

_Static_assert(sizeof(struct io_uring_sqe) == 64, "one cache line each");
_Static_assert(sizeof(struct io_uring_cqe) == 16, "no big completions");
_Static_assert(sizeof(struct io_uring_buf) == 16, "a buffer ring entry");
_Static_assert(offsetof(struct io_uring_sqe, user_data) == 32, "io_uring ABI");
_Static_assert(offsetof(struct io_uring_sqe, buf_group) == 40, "io_uring ABI");
_Static_assert(offsetof(struct io_uring_buf_ring, tail) == 14, "io_uring ABI");
_Static_assert(sizeof(struct io_uring_recvmsg_out) == 16, "before each datagram");

#endif
