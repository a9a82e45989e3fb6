/* What this kernel offers.  See setup.h. */
#include "setup.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fork.h"
#include "kernels.h"

static const char *const feature_names[UL_FEATURE_COUNT] = {
	"ext_arg", "single_issuer", "defer_taskrun", "coop_taskrun", "registered_fd",
	"no_iowait", "poll_first", "cqe_skip", "multishot_poll", "multishot_accept",
	"multishot_recv", "multishot_unix", "buffer_ring", "sync_cancel",
};

const char *ul_known_bug(uint64_t feature)
{
	const struct kernel_bug *bug = kernel_bug_of(kernel_running(), feature,
	                                             UINT64_MAX);

	return bug != NULL ? bug->source : NULL;
}

const char *ul_feature_name(uint32_t bit)
{
	return bit < UL_FEATURE_COUNT ? feature_names[bit] : NULL;
}

/* What one process finds once, where forks are forbidden; the same for every ring. */
static struct {
	bool found;
	uint32_t last_opcode;
	bool has_opcode[256];    /* of UL_OPCODES */
	int probe_error;         /* of IORING_REGISTER_PROBE */
	int buffer_ring_error;
	int registered_fd_error;
} kernel_facts;

/* For want of something that may be there later: says nothing about the kernel. */
static bool is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static int try_buffer_ring(struct io_uring *ring)
{
	struct io_uring_buf_reg request = { .ring_entries = 1 };
	long page = sysconf(_SC_PAGESIZE);
	void *entries = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	if (entries == MAP_FAILED)
		return -ENOMEM;
	request.ring_addr = (uintptr_t)entries;
	result = io_uring_register_buf_ring(ring, &request, 0);
	if (result == 0)
		io_uring_unregister_buf_ring(ring, 0);
	munmap(entries, (size_t)page);
	return result;
}

/* 0, or a shortage for which nothing can be found out now. */
static int find_facts(void)
{
	size_t size = sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op);
	struct io_uring_params params = { 0 };
	struct io_uring_probe *probe = calloc(1, size);
	struct io_uring ring;
	int opcode;
	int result;

	kernel_facts.buffer_ring_error = kernel_facts.registered_fd_error = -ENOMEM;
	kernel_facts.probe_error = -ENOMEM;
	if (probe == NULL)
		return -ENOMEM;
	/*
	 * A plain ring: registering is nobody's privilege there.  And an idle
	 * one: up to 5.18 a register call, even one that the kernel does not
	 * know, waits until no request is in flight.
	 */
	kernel_facts.probe_error = io_uring_queue_init_params(2, &ring, &params);
	if (kernel_facts.probe_error != 0)
		goto out;
	room_found();
	kernel_facts.probe_error = io_uring_register_probe(&ring, probe, 256);
	for (opcode = 0; kernel_facts.probe_error == 0 && opcode < probe->ops_len &&
	     opcode < UL_OPCODES; opcode++)
		kernel_facts.has_opcode[opcode] =
			(probe->ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0;
	kernel_facts.last_opcode = probe->last_op;
	kernel_facts.buffer_ring_error = try_buffer_ring(&ring);
	/* How many were registered, or -errno. */
	result = io_uring_register_ring_fd(&ring);
	kernel_facts.registered_fd_error = result == 1 ? 0 : result < 0 ? result : -EINVAL;
	room_close(&ring);
out:
	free(probe);
	return is_shortage(kernel_facts.probe_error) ? kernel_facts.probe_error : 0;
}

/* Once per process, but for what was found short of something. */
static int know_facts(void)
{
	int result;

	if (kernel_facts.found)
		return 0;
	result = find_facts();
	kernel_facts.found = result == 0 && !is_shortage(kernel_facts.buffer_ring_error) &&
	                     !is_shortage(kernel_facts.registered_fd_error);
	return result;
}

bool kernel_has_opcode(uint8_t opcode)
{
	return kernel_facts.has_opcode[opcode];
}

static uint64_t find_features(const struct io_uring_params *params)
{
	const uint64_t since_5_19 = UL_FEATURE_POLL_FIRST | UL_FEATURE_MULTISHOT_ACCEPT;
	const uint64_t since_6_0 = UL_FEATURE_MULTISHOT_RECV | UL_FEATURE_MULTISHOT_UNIX |
	                           UL_FEATURE_SYNC_CANCEL;
	uint64_t features = 0;

	if (params->features & IORING_FEAT_EXT_ARG)
		features |= UL_FEATURE_EXT_ARG;
	if (params->features & IORING_FEAT_CQE_SKIP)
		features |= UL_FEATURE_CQE_SKIP;
	if (params->features & IORING_FEAT_NO_IOWAIT)
		features |= UL_FEATURE_NO_IOWAIT;
	/* Resource tags came with 5.13, as multishot poll did. */
	if (params->features & IORING_FEAT_RSRC_TAGS)
		features |= UL_FEATURE_MULTISHOT_POLL;
	if (params->flags & IORING_SETUP_SINGLE_ISSUER)
		features |= UL_FEATURE_SINGLE_ISSUER;
	if (params->flags & IORING_SETUP_DEFER_TASKRUN)
		features |= UL_FEATURE_DEFER_TASKRUN;
	if (params->flags & IORING_SETUP_COOP_TASKRUN)
		features |= UL_FEATURE_COOP_TASKRUN;
	if (kernel_facts.has_opcode[OP_SOCKET])
		features |= since_5_19;
	if (kernel_facts.has_opcode[OP_SEND_ZC])
		features |= since_6_0;
	if (kernel_facts.buffer_ring_error == 0)
		features |= UL_FEATURE_BUFFER_RING;
	if (kernel_facts.registered_fd_error == 0)
		features |= UL_FEATURE_REGISTERED_FD;
	return features & ~kernel_bugs(kernel_running(), features);
}

/* What depends on something that is not there is not there. */
static uint64_t consistent(uint64_t features)
{
	if ((features & UL_FEATURE_BUFFER_RING) == 0)
		features &= ~(uint64_t)UL_FEATURE_MULTISHOT_RECV;
	if ((features & UL_FEATURE_MULTISHOT_RECV) == 0)
		features &= ~(uint64_t)UL_FEATURE_MULTISHOT_UNIX;
	return features;
}

int setup_ring(struct io_uring *ring, const struct ring_size *size, uint64_t disable,
               struct io_uring_params *params, uint64_t *features)
{
	const unsigned basic = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
	const unsigned flag = IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
	const struct {
		uint64_t needs;
		unsigned flags;
	} ladder[] = {
		/* 6.1 */
		{ UL_FEATURE_DEFER_TASKRUN | UL_FEATURE_SINGLE_ISSUER,
		  basic | flag | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN },
		/* 6.0 */
		{ UL_FEATURE_SINGLE_ISSUER | UL_FEATURE_COOP_TASKRUN,
		  basic | flag | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_COOP_TASKRUN },
		/* 5.19 */
		{ UL_FEATURE_COOP_TASKRUN, basic | flag | IORING_SETUP_COOP_TASKRUN },
		/* 5.18 */
		{ 0, basic | IORING_SETUP_SUBMIT_ALL },
		/* 5.6 */
		{ 0, basic },
	};
	const size_t rungs = sizeof(ladder) / sizeof(ladder[0]);
	const uint32_t entries = size->entries != 0 ? size->entries : 1;
	size_t rung;
	int result = -EINVAL;

	if (kernel_bug_of(kernel_running(), 0, 0) != NULL)
		return -EBADE;
	for (rung = 0; rung < rungs && result == -EINVAL; rung++) {
		if (ladder[rung].needs & disable)
			continue;
		memset(params, 0, sizeof(*params));
		params->flags = ladder[rung].flags;
		params->cq_entries = size->cq_entries < entries ? entries : size->cq_entries;
		result = io_uring_queue_init_params(entries, ring, params);
	}
	if (result != 0)
		return result;
	room_found();
	if ((params->features & (IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL)) !=
	    (IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL)) {
		room_close(ring);
		return -EOPNOTSUPP;
	}
	result = know_facts();
	if (result != 0) {
		room_close(ring);
		return result;
	}
	*features = consistent(find_features(params) & ~disable);
	return 0;
}

/* --- Does it work? -------------------------------------------------------- */

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

/* Not there, because of what? */
static int32_t feature_error(uint64_t feature, uint64_t disable)
{
	if (feature & disable)
		return ECANCELED;
	if (feature == UL_FEATURE_BUFFER_RING && kernel_facts.buffer_ring_error != 0)
		return -kernel_facts.buffer_ring_error;
	if (feature == UL_FEATURE_REGISTERED_FD && kernel_facts.registered_fd_error != 0)
		return -kernel_facts.registered_fd_error;
	if (kernel_bug_of(kernel_running(), feature, UINT64_MAX) != NULL)
		return EBADE;
	return kernel_facts.probe_error != 0 ? -kernel_facts.probe_error : EINVAL;
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
	result->last_opcode = kernel_facts.last_opcode;
	result->kernel_features = params.features;
	result->setup_flags = params.flags;
	result->features = features;
	error = trial(disable, result, result->reason, sizeof(result->reason));
	for (bit = 0; bit < UL_FEATURE_COUNT; bit++) {
		uint64_t feature = UINT64_C(1) << bit;

		if ((result->features & feature) == 0)
			result->feature_errors[bit] = feature_error(feature, disable);
	}
	result->error = -error;
	return error;
}
