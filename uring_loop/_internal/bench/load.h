/*
 * What the three parts of the load generator share: its options, a connection,
 * and the counts.  load.c measures, wire.c talks to the server, options.c reads
 * the command line.
 */
#ifndef PERF_LOAD_H
#define PERF_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "calls.h"

#define MAX_CONNECTIONS 200000
/* So many come from one address of 127.0.0.0/8, the next from the next.  connect() has 28,000 ports
 * for each, but takes every other one first; beyond 14,000 it searches, at both sides' expense. */
#define CONNECTIONS_PER_ADDRESS 10000
#define MAX_SERVERS 64
/* One less than a power of two: send_due() notes the time of the next one too. */
#define MAX_IN_FLIGHT 63
#define MAX_SIZE (4 << 20)
#define MAX_SECONDS 300
#define BUFFER_SIZE (256 << 10)
#define EVENTS 256
/* How long a message may be late at the end before it counts as lost. */
#define DRAIN_NS UINT64_C(3000000000)
/* Distinct messages; few enough that they stay in the first cache. */
#define TEMPLATES 16
#define LARGE_TEMPLATES 4
#define HEAD_SIZE 2048
/* Buckets of the latency histogram: 32 for each power of two nanoseconds. */
#define SUB_BUCKETS 32
#define BUCKETS (64 * SUB_BUCKETS)

#define HTTP_REQUEST "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"

enum mode { ECHO, HTTP, CONNECT, IDLE };

struct ssl_st;                          /* OpenSSL's SSL */
struct ssl_session_st;                  /* and its SSL_SESSION */

struct connection {
	int fd;
	struct ssl_st *tls;             /* owned; NULL without TLS */
	struct ssl_session_st *session; /* owned; of the connection before, to be resumed */
	bool waits_for_room;            /* EPOLLOUT is asked for */
	uint32_t sent;                  /* messages sent in full */
	uint32_t received;              /* messages received in full */
	uint32_t sent_bytes;            /* of the message being sent */
	uint32_t received_bytes;        /* of the message being received */
	uint32_t body_left;             /* http: bytes of the body to come */
	uint32_t head_bytes;            /* http: bytes in `head` */
	char *head;
	uint64_t sent_at[MAX_IN_FLIGHT + 1];
};

enum shape {
	PLAIN,
	LINES,                          /* a newline at the end */
	FRAMES,                         /* four bytes that say how many follow */
	BULKS,                          /* Redis's: $, that number, a line end, they, another */
};

struct options {
	enum mode mode;
	const char *unix_path;
	bool datagrams;                 /* UDP and not TCP */
	bool tls;                       /* over TCP */
	bool resume;                    /* TLS: with the session of the connection before */
	uint16_t port;
	uint32_t connections;
	uint32_t idle;
	uint32_t size;
	uint32_t in_flight;
	uint64_t messages;              /* end after so many; 0: only time ends it */
	double seconds;
	double warm_up;
	enum shape shape;               /* of messages */
	bool speak;
	int core;
	pid_t servers[MAX_SERVERS];     /* whose CPU time is read */
	uint32_t server_count;
	bool count_calls;
	const char *counter;            /* file with a count kept by trace_calls */
};

/* The clocks at one end of the window. */
struct reading {
	uint64_t wall_ns;
	uint64_t server_ns;
	uint64_t own_ns;
	uint64_t calls;
};

struct load {
	struct options options;
	int epoll;
	struct connection *connections;
	char *templates[TEMPLATES];
	uint32_t template_count;
	uint32_t slot_mask;             /* of sent_at; as few as will do, for the cache */
	char *buffer;
	uint64_t messages;
	uint64_t errors;
	char first_error[160];
	uint64_t latencies[BUCKETS];
	uint64_t longest_ns;
	bool measuring;
	bool draining;                  /* nothing new is sent any more */
	uint64_t counted;               /* messages in the window */
	struct reading begin, end;
	clockid_t server_clocks[MAX_SERVERS];
	struct call_counter calls;
};

/* options.c: the command line, checked; ends the program when it is wrong. */
void parse_options(struct options *options, int count, char **arguments);

/* wire.c. */
void fail(const char *what);
uint64_t clock_ns(clockid_t clock);
uint64_t now_ns(void);
/* Count an error and keep the first one's words. */
__attribute__((format(printf, 2, 3)))
void note_error(struct load *load, const char *format, ...);
void make_templates(struct load *load);
void open_connection(struct load *load, struct connection *connection);
/* A reset leaves no TIME_WAIT behind, so ports never run out. */
void reset_when_closed(const struct connection *connection);
/* Send everything now due in one call, and ask for room when it does not fit. */
void send_due(struct load *load, struct connection *connection, uint64_t now);
/* Do what epoll's `events` ask for on this connection. */
void serve(struct load *load, struct connection *connection, uint32_t events);
/* One message there and back, waiting for it: proves that the server holds it. */
void speak_once(struct load *load, struct connection *connection);

#endif
