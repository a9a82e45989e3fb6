/* The kernel's offer.  See setup.h. */
#include "setup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels.h"
#include "restrictions.h"

static const char *const feature_names[UL_FEATURE_COUNT] = {
	"ext_arg", "single_issuer", "defer_taskrun", "coop_taskrun", "registered_fd",
	"no_iowait", "poll_first", "cqe_skip", "multishot_poll", "multishot_accept",
	"multishot_recv", "multishot_unix", "buffer_ring", "sync_cancel", "restricted",
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

/* Facts found once per process, where forks are forbidden; the same for every ring. */
static struct {
	bool found;
	uint32_t last_opcode;
	bool has_opcode[256];    /* of UL_OPCODES */
	int probe_error;         /* of IORING_REGISTER_PROBE */
	int buffer_ring_error;
	int registered_fd_error;
	bool has_workers;        /* IORING_REGISTER_IOWQ_MAX_WORKERS */
	int restrictions_error;  /* of the ring that was made last */
} kernel_facts;

/* A shortage says nothing about the kernel: what is missing may be there later. */
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
	unsigned as_they_are[2] = { 0, 0 };
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
	/* The answer is how many were registered, or -errno. */
	result = io_uring_register_ring_fd(&ring);
	kernel_facts.registered_fd_error = result == 1 ? 0 : result < 0 ? result : -EINVAL;
	kernel_facts.has_workers = io_uring_register_iowq_max_workers(&ring, as_they_are) == 0;
	room_close(&ring);
out:
	free(probe);
	return is_shortage(kernel_facts.probe_error) ? kernel_facts.probe_error : 0;
}

/* Find the facts once; again what was found short of something. */
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

/* Without the features that depend on one that is not there. */
static uint64_t consistent(uint64_t features)
{
	if ((features & UL_FEATURE_BUFFER_RING) == 0)
		features &= ~(uint64_t)UL_FEATURE_MULTISHOT_RECV;
	if ((features & UL_FEATURE_MULTISHOT_RECV) == 0)
		features &= ~(uint64_t)UL_FEATURE_MULTISHOT_UNIX;
	return features;
}

/* What the kernel offers, or else the ring does without. */
static void restrict_ring(struct io_uring *ring, uint64_t disable,
                          const struct io_uring_params *params, uint64_t *features)
{
	if (disable & UL_FEATURE_RESTRICTED)
		return;
	kernel_facts.restrictions_error = -EINVAL;
	if (params->flags & IORING_SETUP_R_DISABLED)
		kernel_facts.restrictions_error =
			restrictions_apply(ring, kernel_facts.has_opcode, *features,
			                   kernel_facts.has_workers);
	if (kernel_facts.restrictions_error == 0)
		*features |= UL_FEATURE_RESTRICTED;
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
		{ UL_FEATURE_COOP_TASKRUN,
		  basic | flag | IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN },
		/* 5.18 */
		{ 0, basic | IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL },
		/* 5.10 */
		{ 0, basic | IORING_SETUP_R_DISABLED },
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
	restrict_ring(ring, disable, params, features);
	return 0;
}

int32_t setup_feature_error(uint64_t feature, uint64_t disable)
{
	if (feature & disable)
		return ECANCELED;
	if (feature == UL_FEATURE_BUFFER_RING && kernel_facts.buffer_ring_error != 0)
		return -kernel_facts.buffer_ring_error;
	if (feature == UL_FEATURE_REGISTERED_FD && kernel_facts.registered_fd_error != 0)
		return -kernel_facts.registered_fd_error;
	if (feature == UL_FEATURE_RESTRICTED && kernel_facts.restrictions_error != 0)
		return -kernel_facts.restrictions_error;
	if (kernel_bug_of(kernel_running(), feature, UINT64_MAX) != NULL)
		return EBADE;
	return kernel_facts.probe_error != 0 ? -kernel_facts.probe_error : EINVAL;
}

uint32_t setup_last_opcode(void)
{
	return kernel_facts.last_opcode;
}
