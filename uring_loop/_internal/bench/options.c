/* The command line of the load generator. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static void check(const struct options *options)
{
	bool good = (options->port || options->unix_path) && options->connections &&
		    options->connections + options->idle <= MAX_CONNECTIONS && options->size &&
		    options->size <= MAX_SIZE && options->in_flight &&
		    options->in_flight <= MAX_IN_FLIGHT && options->seconds > 0 &&
		    options->seconds + options->warm_up <= MAX_SECONDS &&
		    options->server_count <= MAX_SERVERS &&
		    (options->server_count == 1 || !options->count_calls);

	if (!good) {
		fprintf(stderr, "load: no address, or a number out of range\n");
		exit(2);
	}
}

void parse_options(struct options *options, int count, char **arguments)
{
	static const struct option names[] = {
		{"mode", required_argument, NULL, 'm'},
		{"tcp", required_argument, NULL, 't'},
		{"udp", required_argument, NULL, 'g'},
		{"unix", required_argument, NULL, 'u'},
		{"connections", required_argument, NULL, 'c'},
		{"idle", required_argument, NULL, 'i'},
		{"size", required_argument, NULL, 's'},
		{"in-flight", required_argument, NULL, 'f'},
		{"messages", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 'd'},
		{"warm-up", required_argument, NULL, 'w'},
		{"tls", no_argument, NULL, 'x'},
		{"resume", no_argument, NULL, 'e'},
		{"shape", required_argument, NULL, 'l'},
		{"speak", no_argument, NULL, 'k'},
		{"core", required_argument, NULL, 'p'},
		{"server", required_argument, NULL, 'v'},
		{"count-calls", no_argument, NULL, 'y'},
		{"counter", required_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(count, arguments, "", names, NULL)) != -1) {
		switch (option) {
		case 'm':
			options->mode = !strcmp(optarg, "http") ? HTTP :
				!strcmp(optarg, "connect") ? CONNECT :
				!strcmp(optarg, "idle") ? IDLE : ECHO;
			break;
		case 't': options->port = (uint16_t)atoi(optarg); break;
		case 'g':
			options->port = (uint16_t)atoi(optarg);
			options->datagrams = true;
			break;
		case 'u': options->unix_path = optarg; break;
		case 'c': options->connections = (uint32_t)atoi(optarg); break;
		case 'i': options->idle = (uint32_t)atoi(optarg); break;
		case 's': options->size = (uint32_t)atoi(optarg); break;
		case 'f': options->in_flight = (uint32_t)atoi(optarg); break;
		case 'n': options->messages = strtoull(optarg, NULL, 10); break;
		case 'd': options->seconds = atof(optarg); break;
		case 'w': options->warm_up = atof(optarg); break;
		case 'x': options->tls = true; break;
		case 'e': options->resume = true; break;
		case 'l':
			options->shape = !strcmp(optarg, "lines") ? LINES :
				!strcmp(optarg, "frames") ? FRAMES :
				!strcmp(optarg, "bulks") ? BULKS : PLAIN;
			break;
		case 'k': options->speak = true; break;
		case 'p': options->core = atoi(optarg); break;
		case 'v':
			if (options->server_count < MAX_SERVERS)
				options->servers[options->server_count] = (pid_t)atoi(optarg);
			options->server_count++;
			break;
		case 'y': options->count_calls = true; break;
		case 'r': options->counter = optarg; break;
		default: exit(2);
		}
	}
	if (options->mode == HTTP) {
		options->size = sizeof(HTTP_REQUEST) - 1;
		options->in_flight = 1;
	}
	if (options->mode == CONNECT)
		options->in_flight = 1;
	/* One at a time: a datagram is a message, and none may be lost to a full buffer. */
	if (options->datagrams)
		options->in_flight = 1;
	check(options);
}
