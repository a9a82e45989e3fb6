/* The trial of the ring, with a driver of its own.  See trial.h. */
#include "trial.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fork.h"
#include "setup.h"

#define TRIAL_TURNS 50
#define TRIAL_WAIT_NS (100 * 1000000)

/* Turn until `token` completes with what is not UL_MORE, or with data. */
static int trial_wait(struct ul_driver *driver, ul_token token, bool data, int *result)
{
	const struct ul_table *table = driver->table;
	struct ul_completion completions[8];
	bool found = false;
	int turns;

	for (turns = 0; turns < TRIAL_TURNS && !found; turns++) {
		int error = table->turn(driver, TRIAL_WAIT_NS);
		int count;

		if (error != 0)
			return error;
		while ((count = table->harvest(driver, completions, 8)) > 0) {
			for (int index = 0; index < count; index++) {
				struct ul_completion *completion = &completions[index];

				if (completion->flags & UL_LENT)
					table->recycle(driver, completion->data);
				if (completion->token == token &&
				    (data || (completion->flags & UL_MORE) == 0)) {
					*result = completion->result;
					found = true;
				}
			}
		}
	}
	return found ? 0 : -ETIMEDOUT;
}

/* A filter may let a ring be made and refuse its use: so use it. */
static int trial(uint64_t disable, struct ul_probe *found, char *reason, size_t reason_size)
{
	static const char word[] = "ring";
	struct ul_options options = { .disable = disable, .sq_entries = 8, .cq_entries = 32,
	                              .buffer_count = 4 };
	struct iovec iov = { (void *)word, sizeof(word) };
	struct ul_driver *driver;
	const struct ul_table *table = &uring_table;
	int sockets[2] = { -1, -1 };
	const char *step = "io_uring_setup";
	ul_token recv_token;
	ul_token token;
	int answer = 0;
	int result = uring_open(&options, &driver);

	if (result != 0)
		goto out;
	found->features = ul_features(driver);
	step = "socketpair";
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets) != 0) {
		result = -errno;
		goto close;
	}
	step = "begin";
	result = table->begin(driver);
	if (result != 0)
		goto close;
	step = "receive";
	result = table->recv(driver, NULL, sockets[0], UL_STREAM_UNKNOWN, &recv_token);
	if (result != -EINPROGRESS)
		goto end;
	step = "send";
	result = table->send(driver, NULL, sockets[1], &iov, 1, &token);
	if (result != -EINPROGRESS)
		goto end;
	step = "submit";
	result = trial_wait(driver, recv_token, true, &answer);
	if (result == 0 && answer != (int)sizeof(word)) {
		step = "receive";
		result = answer < 0 ? answer : -EIO;
	}
	if (result != 0)
		goto end;
	step = "cancel";
	result = table->cancel(driver, recv_token);
	if (result == -EINPROGRESS)
		result = trial_wait(driver, recv_token, false, &answer);
	if (result == 0 && answer != -ECANCELED)
		result = -EIO;
end:
	table->end(driver);
close:
	table->shutdown(driver);
	table->destroy(driver);
	if (sockets[0] >= 0) {
		close(sockets[0]);
		close(sockets[1]);
	}
out:
	if (result != 0)
		snprintf(reason, reason_size, "io_uring does not work here: %s: %s", step,
		         strerror(-result));
	return result;
}

/* The administrator's word, when there is one: 0, 1 or 2. */
static int disabled_sysctl(void)
{
	FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	int value = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%d", &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

/* The limit is told where there is one; whether it is to blame, the kernel does not say. */
static void explain_shortage(char *reason, size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		snprintf(reason, size, "no memory for a ring, not even for a small one");
	else
		snprintf(reason, size, "no memory for a ring, not even for a small one "
		         "(RLIMIT_MEMLOCK is %llu KiB)", (unsigned long long)limit.rlim_cur / 1024);
}

void uring_explain(int error, char *reason, size_t size)
{
	int disabled = disabled_sysctl();

	if (error == -EPERM && disabled != 0)
		snprintf(reason, size, "io_uring is disabled (kernel.io_uring_disabled=%d)",
		         disabled);
	else if (error == -EPERM || error == -EACCES)
		snprintf(reason, size, "io_uring is forbidden, by a container's seccomp filter "
		         "or a security module: %s", strerror(-error));
	else if (error == -ENOSYS)
		snprintf(reason, size, "this kernel or sandbox has no io_uring");
	else if (error == -EOPNOTSUPP)
		snprintf(reason, size,
			         "io_uring of this kernel is too old (Linux 5.7 is the first)");
	else if (error == -EBADE)
		snprintf(reason, size, "io_uring of this kernel is known to be broken (%s)",
		         ul_known_bug(0));
	else if (error == -ENOMEM)
		explain_shortage(reason, size);
	else
		snprintf(reason, size, "io_uring_setup failed: %s", strerror(-error));
}

int uring_try(struct ul_probe *result, uint64_t disable)
{
	struct ring_size size = { 2, 4 };
	struct io_uring_params params;
	struct io_uring ring;
	uint64_t features;
	int error;
	uint32_t bit;

	memset(result, 0, sizeof(*result));
	do {
		fork_forbid();
		error = setup_ring(&ring, &size, disable, &params, &features);
		if (error == 0)
			room_close(&ring);
		fork_permit();
	} while (error == -ENOMEM && room_again(&size));
	if (error != 0) {
		result->error = -error;
		uring_explain(error, result->reason, sizeof(result->reason));
		return error;
	}
	result->last_opcode = setup_last_opcode();
	result->kernel_features = params.features;
	result->setup_flags = params.flags;
	result->features = features;
	error = trial(disable, result, result->reason, sizeof(result->reason));
	for (bit = 0; bit < UL_FEATURE_COUNT; bit++) {
		uint64_t feature = UINT64_C(1) << bit;

		if ((result->features & feature) == 0)
			result->feature_errors[bit] = setup_feature_error(feature, disable);
	}
	result->error = -error;
	return error;
}
