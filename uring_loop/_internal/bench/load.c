/*
 * The load generator: drives a server with as little work as it can, checks
 * every byte that comes back, and prints one line of JSON.
 *
 * One thread, epoll, no allocation while it measures.  Bounded in time, in
 * connections and in bytes in flight.  It also reads the server's CPU clock
 * (and its count of system calls) at both ends of the window in which it
 * counts messages, so that the figures belong to exactly those messages.
 *
 *   echo     messages of --size bytes, --in-flight of them per connection
 *            (with --udp each connection is a connected UDP socket)
 *   http     one GET after another on kept-alive connections
 *   connect  connect, one message, its echo, reset; again
 *   idle     open --connections, say so, hold them until standard input ends
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

static double percentile_us(const struct load *load, double share)
{
	uint64_t total = 0, seen = 0;
	uint32_t i;

	for (i = 0; i < BUCKETS; i++)
		total += load->latencies[i];
	for (i = 0; i < BUCKETS; i++) {
		seen += load->latencies[i];
		if (total && seen >= (uint64_t)((double)total * share))
			break;
	}
	if (!total || i == BUCKETS)
		return 0;
	/* The bucket holds (32 + low bits) << shift; answer with its middle. */
	return ((double)(SUB_BUCKETS + i % SUB_BUCKETS) + 0.5) *
	       (double)(UINT64_C(1) << (i / SUB_BUCKETS)) / 1000;
}

static uint64_t servers_ns(const struct load *load)
{
	uint64_t total = 0;
	uint32_t i;

	for (i = 0; i < load->options.server_count; i++)
		total += clock_ns(load->server_clocks[i]);
	return total;
}

static struct reading read_clocks(const struct load *load)
{
	return (struct reading){
		.wall_ns = now_ns(),
		.server_ns = servers_ns(load),
		.own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
		.calls = call_counter_read(&load->calls),
	};
}

static void begin_window(struct load *load)
{
	memset(load->latencies, 0, sizeof(load->latencies));
	load->longest_ns = 0;
	load->messages = 0;
	load->measuring = true;
	load->begin = read_clocks(load);
}

static void end_window(struct load *load)
{
	load->end = read_clocks(load);
	load->counted = load->messages;
	load->draining = true;
}

static void report(const struct load *load)
{
	const struct reading *begin = &load->begin, *end = &load->end;

	printf("{\"messages\": %llu, \"seconds\": %.6f, \"errors\": %llu, \"p50_us\": %.1f, "
	       "\"p99_us\": %.1f, \"longest_us\": %.1f, \"load_cpu_seconds\": %.6f",
	       (unsigned long long)load->counted, (double)(end->wall_ns - begin->wall_ns) / 1e9,
	       (unsigned long long)load->errors, percentile_us(load, 0.50),
	       percentile_us(load, 0.99), (double)load->longest_ns / 1000,
	       (double)(end->own_ns - begin->own_ns) / 1e9);
	if (load->options.server_count)
		printf(", \"server_cpu_seconds\": %.9f",
		       (double)(end->server_ns - begin->server_ns) / 1e9);
	if (load->calls.how)
		printf(", \"server_calls\": %llu, \"calls_how\": \"%s\"",
		       (unsigned long long)(end->calls - begin->calls), load->calls.how);
	if (load->errors)
		printf(", \"first_error\": \"%s\"", load->first_error);
	printf("}\n");
}

static void serve_events(struct load *load, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(load->epoll, events, EVENTS, timeout_ms), k;

	if (count < 0 && errno != EINTR)
		fail("epoll_wait");
	for (k = 0; k < count; k++)
		serve(load, events[k].data.ptr, events[k].events);
}

static uint32_t waiting(const struct load *load)
{
	uint32_t i, count = 0;

	for (i = 0; i < load->options.connections; i++) {
		const struct connection *connection = &load->connections[i];

		if (connection->fd >= 0)
			count += load->options.mode == CONNECT ? !connection->received :
				 connection->sent != connection->received;
	}
	return count;
}

/* What was sent has to come back, if late: nothing may be lost. */
static void drain(struct load *load)
{
	uint64_t until = now_ns() + DRAIN_NS;
	uint32_t left;

	while ((left = waiting(load)) && now_ns() < until)
		serve_events(load, 100);
	if (left)
		note_error(load, "on %u connections a message never came back", left);
	if (!load->counted)
		note_error(load, "no message came back");
}

static void run(struct load *load)
{
	const struct options *options = &load->options;
	uint64_t begin = now_ns(), now = begin;
	uint64_t warm_ns = (uint64_t)(options->warm_up * 1e9);
	uint64_t until = begin + warm_ns + (uint64_t)(options->seconds * 1e9);
	uint32_t i;

	for (i = 0; i < options->connections; i++)
		send_due(load, &load->connections[i], now_ns());
	/* However little the machine had for us: there is a window, and something in it. */
	while (now < until || (!(load->measuring && load->messages) && now < until + DRAIN_NS)) {
		serve_events(load, 100);
		now = now_ns();
		if (!load->measuring && now - begin >= warm_ns)
			begin_window(load);
		else if (load->measuring && options->messages &&
			 load->messages >= options->messages)
			break;
	}
	end_window(load);
	drain(load);
	report(load);
}

static void hold(struct load *load)
{
	uint32_t count = load->options.connections, i;
	ssize_t size;
	char byte;

	for (i = 0; i < count && load->options.speak; i++)
		speak_once(load, &load->connections[i]);
	printf("{\"ready\": %u, \"errors\": %llu}\n", count, (unsigned long long)load->errors);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	for (i = 0; i < count; i++) {
		size = recv(load->connections[i].fd, &byte, 1, MSG_DONTWAIT);
		if (size >= 0 || errno != EAGAIN)
			note_error(load, "a held connection did not stay open and silent");
		reset_when_closed(&load->connections[i]);
	}
	printf("{\"held\": %u, \"errors\": %llu%s%s%s}\n", count, (unsigned long long)load->errors,
	       load->errors ? ", \"first_error\": \"" : "", load->first_error,
	       load->errors ? "\"" : "");
}

static void open_all(struct load *load)
{
	const struct options *options = &load->options;
	uint32_t total = options->connections + options->idle, i;

	load->connections = calloc(total, sizeof(*load->connections));
	load->buffer = malloc(BUFFER_SIZE > options->size ? BUFFER_SIZE : options->size);
	if (!load->connections || !load->buffer)
		fail("memory");
	load->epoll = options->mode == IDLE ? -1 : epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < total; i++) {
		if (options->mode == HTTP) {
			load->connections[i].head = malloc(HEAD_SIZE);
			if (!load->connections[i].head)
				fail("memory");
		}
		open_connection(load, &load->connections[i]);
	}
	/* The silent ones must be accepted before the clock runs. */
	for (i = options->connections; i < total; i++)
		if (options->mode == ECHO && options->speak)
			speak_once(load, &load->connections[i]);
}

static void pin(int core)
{
	cpu_set_t set;

	if (core < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

int main(int count, char **arguments)
{
	static struct load load = {
		.options = {.connections = 100, .size = 1024, .in_flight = 1, .seconds = 1,
			    .warm_up = 0.25, .core = -1},
	};
	struct options *options = &load.options;
	uint32_t i;

	parse_options(options, count, arguments);
	/* Nothing here may outlive its bounds, whatever the server does. */
	alarm((unsigned int)(options->warm_up + options->seconds) + 60);
	if (options->mode == IDLE)
		alarm(MAX_SECONDS);
	pin(options->core);
	for (i = 0; i < options->server_count; i++)
		if (clock_getcpuclockid(options->servers[i], &load.server_clocks[i]))
			fail("clock_getcpuclockid");
	if (options->counter)
		call_counter_map(&load.calls, options->counter);
	else if (options->count_calls)
		call_counter_open(&load.calls, options->servers[0]);
	while (load.slot_mask < options->in_flight)
		load.slot_mask = load.slot_mask * 2 + 1;
	make_templates(&load);
	open_all(&load);
	if (options->mode == IDLE)
		hold(&load);
	else
		run(&load);
	return load.errors ? 3 : 0;
}
