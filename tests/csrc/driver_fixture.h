/*
 * What the driver tests share: one driver, an owner that records what comes
 * back, and turns until something is true.
 */
#ifndef DRIVER_FIXTURE_H
#define DRIVER_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "compat.h"
#include "open.h"
#include "sockets.h"

#define SECOND_NS INT64_C(1000000000)
#define MILLISECOND_NS INT64_C(1000000)
/* Far longer than anything takes: a test that gets here hangs. */
#define PATIENCE_NS (20 * SECOND_NS)
#define TURN_NS (50 * MILLISECOND_NS)

struct bench {
	const char *kind;            /* "uring" or "selector" */
	struct ul_options options;
	struct ul_driver *driver;
	const struct ul_table *table;
};

/* An owner: everything that its operations reported. */
struct record {
	unsigned char *data;         /* the bytes of all lent buffers, in order */
	size_t size;
	size_t capacity;
	int completions;
	int ends;                    /* completions without UL_MORE */
	int result;                  /* of the latest */
	uint32_t flags;
	int results[64];             /* of the first ones */
	int readable;                /* UL_READABLE completions */
	bool lazy;                   /* what is readable is not taken at once */
	struct sockaddr_storage address;
	uint32_t address_size;
	ul_token token;              /* of the operation started last */
};

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

static inline bool is_ring(const struct bench *bench)
{
	return strcmp(bench->kind, "uring") == 0;
}

static inline bool has(const struct bench *bench, uint64_t feature)
{
	return is_ring(bench) && (ul_features(bench->driver) & feature) != 0;
}

/*
 * Can a child have a ring beside its parent's?  User-mode Linux (seen in 5.10 and 6.1)
 * maps in a child what MADV_DONTFORK leaves out, and what the child maps at that
 * place is then the parent's memory.  Said, since the test leaves something out.
 */
static inline bool bench_can_fork(const struct bench *bench)
{
	const int protection = PROT_READ | PROT_WRITE;
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	volatile char *page;
	int status = 0;
	pid_t child;

	if (!is_ring(bench))
		return true;
	page = mmap(NULL, 4096, protection, anonymous, -1, 0);
	CHECK(page != MAP_FAILED);
	*page = 1;
	CHECK_EQUAL(madvise((void *)page, 4096, MADV_DONTFORK), 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		mmap((void *)page, 4096, protection, anonymous | MAP_FIXED, -1, 0);
		_exit(*page);
	}
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	munmap((void *)page, 4096);
	if (status != 0)
		fputs("not here: children see memory marked MADV_DONTFORK; ", stderr);
	return status == 0;
}

static inline int bench_make(struct bench *bench)
{
	int result = is_ring(bench) ? uring_open(&bench->options, &bench->driver)
	                            : selector_open(&bench->options, &bench->driver);

	if (result == 0) {
		bench->table = bench->driver->table;
		CHECK_EQUAL(strcmp(bench->table->name, bench->kind), 0);
	}
	return result;
}

static inline void bench_open(struct bench *bench)
{
	CHECK_EQUAL(bench_make(bench), 0);
	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
}

static inline void record_free(struct record *record)
{
	free(record->data);
	memset(record, 0, sizeof(*record));
}

static inline void record_reserve(struct record *record, size_t size)
{
	if (record->size + size <= record->capacity)
		return;
	record->capacity = (record->size + size) * 2;
	record->data = realloc(record->data, record->capacity);
	CHECK(record->data != NULL);
}

static inline void record_result(struct record *record, int result, uint32_t flags)
{
	if (record->completions < 64)
		record->results[record->completions] = result;
	record->completions++;
	record->ends += (flags & UL_MORE) == 0;
	record->result = result;
	record->flags = flags;
}

#define TAKE_FIRST 40000
#define TAKE_REST 60000

/* Take what waits, as much as there is room in two pieces; the result. */
static inline int record_take(struct bench *bench, struct record *record, ul_token token)
{
	struct iovec iov[2];
	int result;

	record_reserve(record, TAKE_FIRST + TAKE_REST);
	iov[0] = (struct iovec){ record->data + record->size, TAKE_FIRST };
	iov[1] = (struct iovec){ record->data + record->size + TAKE_FIRST, TAKE_REST };
	result = bench->table->take(bench->driver, token, iov, record->completions % 2 + 1);
	if (result > 0) {
		record->size += (size_t)result;
		record_result(record, result, UL_MORE);
	} else if (result != -EAGAIN && result != -ENOENT) {
		record_result(record, result, 0);
	}
	return result;
}

static inline void record_add(struct bench *bench, const struct ul_completion *completion)
{
	struct record *record = completion->owner;

	CHECK(record != NULL);
	if (completion->flags & UL_READABLE) {
		CHECK_EQUAL(completion->flags, UL_READABLE | UL_MORE);
		CHECK_EQUAL(completion->result, 0);
		record->readable++;
		if (!record->lazy)
			record_take(bench, record, completion->token);
		return;
	}
	if (completion->flags & UL_LENT) {
		size_t size = (size_t)completion->result;

		record_reserve(record, size);
		memcpy(record->data + record->size, completion->data, size);
		record->size += size;
		record->address_size = completion->address_size;
		if (completion->address != NULL)
			memcpy(&record->address, completion->address, completion->address_size);
		bench->table->recycle(bench->driver, completion->data);
	}
	record_result(record, completion->result, completion->flags);
}

static inline int bench_harvest(struct bench *bench)
{
	struct ul_completion completions[16];
	int total = 0;
	int count;

	while ((count = bench->table->harvest(bench->driver, completions, 16)) > 0) {
		for (int index = 0; index < count; index++)
			record_add(bench, &completions[index]);
		total += count;
	}
	CHECK_EQUAL(count, 0);
	return total;
}

static inline int bench_turn(struct bench *bench, int64_t timeout_ns)
{
	CHECK_EQUAL(bench->table->turn(bench->driver, timeout_ns), 0);
	return bench_harvest(bench);
}

/* Turn until `condition`. */
#define UNTIL(bench, condition)                                                       \
	do {                                                                          \
		int64_t deadline_ = now_ns() + PATIENCE_NS;                           \
		while (!(condition)) {                                                \
			CHECK(now_ns() < deadline_);                                  \
			bench_turn(bench, TURN_NS);                                   \
		}                                                                     \
	} while (0)

/* Turn without sleeping, so often that what is ready must have come. */
static inline void bench_quiet(struct bench *bench)
{
	for (int turn = 0; turn < 5; turn++)
		bench_turn(bench, 2 * MILLISECOND_NS);
}

/* A thread's: it drives the bench's driver as one that had it before. */
static inline void *drive_for_a_while(void *argument)
{
	struct bench *bench = argument;

	CHECK_EQUAL(bench->table->begin(bench->driver), 0);
	bench_quiet(bench);
	bench->table->end(bench->driver);
	return NULL;
}

/* What a verb answered, as the one completion it stands for. */
static inline int started(struct record *record, int result)
{
	if (result == -EINPROGRESS) {
		CHECK(record->token != 0);
		return result;
	}
	CHECK_EQUAL(record->token, 0);
	record_result(record, result, 0);
	return result;
}

/* Start a one-shot operation and turn until it ends; its result. */
#define RESULT_OF(bench, record, call)                                                \
	({                                                                            \
		int ends_ = (record)->ends;                                           \
		started(record, call);                                                \
		UNTIL(bench, (record)->ends > ends_);                                 \
		(record)->result;                                                     \
	})

/* Ask for read(2) or write(2) at `offset` (-1: the file's own), as the core does. */
static inline int submit_transfer(struct bench *bench, struct record *record, uint8_t opcode,
                                  int fd, const void *data, uint32_t size, int64_t offset)
{
	struct ul_request request = {
		.opcode = opcode,
		.fd = fd,
		.address = (uintptr_t)data,
		.address2 = (uint64_t)offset,
		.length = size,
	};

	return bench->table->submit(bench->driver, record, &request, &record->token);
}

/* Cancel and wait for the end, if there is one to come. */
static inline void bench_cancel(struct bench *bench, struct record *record)
{
	int ends = record->ends;
	int result = bench->table->cancel(bench->driver, record->token);

	CHECK(result == 0 || result == -EINPROGRESS);
	if (result == -EINPROGRESS) {
		UNTIL(bench, record->ends > ends);
	} else {
		/* Over without a word. */
		record->ends++;
		record->result = -ECANCELED;
	}
	CHECK_EQUAL(bench->table->cancel(bench->driver, record->token), -ENOENT);
}

static inline void bench_close(struct bench *bench)
{
	bench->table->end(bench->driver);
	bench->table->shutdown(bench->driver);
	bench_harvest(bench);
	CHECK_EQUAL(bench->table->statistics(bench->driver)->in_flight, 0);
	bench->table->destroy(bench->driver);
	bench->driver = NULL;
}

static inline void make_pair(int sockets[2])
{
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
}

static inline void close_pair(int sockets[2])
{
	close(sockets[0]);
	close(sockets[1]);
}

static inline int make_listener(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*address);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	CHECK_EQUAL(listen(fd, 128), 0);
	CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &size), 0);
	return fd;
}

static inline int make_udp(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*address);

	memset(address, 0, sizeof(*address));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &size), 0);
	return fd;
}

/* Two ends of a TCP connection, non-blocking. */
static inline void make_tcp_pair(int sockets[2])
{
	struct sockaddr_in address;
	int listener = make_listener(&address);
	int one = 1;

	sockets[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQUAL(connect(sockets[0], (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQUAL(fcntl(sockets[0], F_SETFL, O_NONBLOCK), 0);
	do {
		sockets[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (sockets[1] < 0 && errno == EAGAIN);
	CHECK(sockets[1] >= 0);
	setsockopt(sockets[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(sockets[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
}

/* Byte `position` of every test stream. */
static inline unsigned char pattern(size_t position)
{
	return (unsigned char)(position * 31 + (position >> 8) * 7 + (position >> 16));
}

static inline bool is_pattern(const unsigned char *data, size_t size)
{
	for (size_t position = 0; position < size; position++)
		if (data[position] != pattern(position))
			return false;
	return true;
}

struct test {
	const char *name;
	void (*run)(struct bench *bench);
};

#define TEST(function) { #function, function }

/*
 * PROGRAM KIND [MASK [NAME]]: run all tests or one with the features of MASK
 * off.  77 when there is no such driver here.
 */
static inline int run_tests(const struct test *tests, int count, char **arguments, int given)
{
	const char *kind = given > 1 ? arguments[1] : "uring";
	uint64_t mask = given > 2 ? strtoull(arguments[2], NULL, 0) : 0;
	struct bench first = { .kind = kind };

	if (is_ring(&first)) {
		struct ul_probe probe;

		if (ul_probe(&probe, 0) != 0) {
			fprintf(stderr, "no io_uring: %s\n", probe.reason);
			return 77;
		}
	}
	for (int index = 0; index < count; index++) {
		struct bench bench = { .kind = kind, .options = { .disable = mask } };
		int64_t start = now_ns();

		if (given > 3 && strcmp(arguments[3], tests[index].name) != 0)
			continue;
		fprintf(stderr, "%s ... ", tests[index].name);
		tests[index].run(&bench);
		fprintf(stderr, "ok (%d ms)\n", (int)((now_ns() - start) / MILLISECOND_NS));
	}
	return 0;
}

#endif
