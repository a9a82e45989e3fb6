/*
 * What Python sees of the driver.  cffi's cdef() is given this text and C
 * includes it (through open.h), so the two cannot drift apart: nothing but
 * declarations here, no preprocessor but "#define NAME number".
 *
 * No verb is among them: an operation is started by the core, which makes its owner first.
 */

/* Which driver ul_open() makes. */
#define UL_KIND_AUTO 0
#define UL_KIND_URING 1
#define UL_KIND_SELECTOR 2

/* What the ring may make use of; ul_options.disable takes these bits too. */
#define UL_FEATURE_EXT_ARG 0x1
#define UL_FEATURE_SINGLE_ISSUER 0x2
#define UL_FEATURE_DEFER_TASKRUN 0x4
#define UL_FEATURE_COOP_TASKRUN 0x8
#define UL_FEATURE_REGISTERED_FD 0x10
#define UL_FEATURE_NO_IOWAIT 0x20
#define UL_FEATURE_POLL_FIRST 0x40
#define UL_FEATURE_CQE_SKIP 0x80
#define UL_FEATURE_MULTISHOT_POLL 0x100
#define UL_FEATURE_MULTISHOT_ACCEPT 0x200
#define UL_FEATURE_MULTISHOT_RECV 0x400
#define UL_FEATURE_MULTISHOT_UNIX 0x800
#define UL_FEATURE_BUFFER_RING 0x1000
#define UL_FEATURE_SYNC_CANCEL 0x2000
#define UL_FEATURE_RESTRICTED 0x4000
#define UL_FEATURE_COUNT 15

/* How a driver is to be made; 0 in a field is the driver's own choice. */
struct ul_options {
	uint32_t size;           /* sizeof(struct ul_options), guards a mismatch; or 0 */
	uint32_t sq_entries;     /* ring: submission queue entries */
	uint32_t cq_entries;     /* ring: completion queue entries */
	uint32_t buffer_count;   /* lent buffers for ordinary receives */
	uint32_t buffer_size;    /* bytes of each of them */
	uint32_t datagram_count; /* ring: lent buffers for datagrams */
	uint32_t datagram_size;  /* ring: the longest datagram that is not cut */
	uint64_t disable;        /* ring: UL_FEATURE_* to do without */
};

/* Why there is no driver. */
struct ul_failure {
	int32_t error;           /* errno */
	char reason[180];        /* a phrase, with the cure where there is one */
};

/* What the ring of this process can do, found once by trying. */
struct ul_probe {
	int32_t error;           /* 0, or the errno for which there is no ring */
	uint32_t last_opcode;    /* IORING_OP_* */
	uint32_t kernel_features; /* IORING_FEAT_* */
	uint32_t setup_flags;    /* IORING_SETUP_* in use */
	uint64_t features;       /* UL_FEATURE_* in use */
	char reason[180];        /* when there is an error */
	int32_t feature_errors[UL_FEATURE_COUNT]; /* by bit: 0, or why it is not there */
};

struct ul_driver;

/*
 * The driver goes to `place`, which is there before it, so that no failure of the caller's
 * loses it: who cannot take it from there gives the place to ul_abandon(), else the driver
 * is freed with ul_destroy().  0, or -1 with the reason in `failure` and NULL in `place`.
 */
int ul_open(int kind, const struct ul_options *options, struct ul_failure *failure,
            struct ul_driver **place);
void ul_destroy(struct ul_driver *driver);
void ul_abandon(struct ul_driver **place);
const char *ul_name(struct ul_driver *driver);
uintptr_t ul_table_address(struct ul_driver *driver);

/* 0 when there is a ring.  `disable`: UL_FEATURE_* to do without. */
int ul_probe(struct ul_probe *result, uint64_t disable);
/* Whether a ring of this process is charged to RLIMIT_MEMLOCK, by a trial: 1, 0 or -errno. */
int ul_ring_is_charged(void);
/* UL_FEATURE_* that `driver` uses (0: the selector). */
uint64_t ul_features(struct ul_driver *driver);
/* Whether a request with this IORING_OP_* is ever answered by other than -EOPNOTSUPP. */
int ul_has_request(struct ul_driver *driver, uint8_t opcode);
/*
 * How large the ring is: entries of the submission and the completion queue, and
 * how many of each were asked for.  Four zeros on the selector.
 */
void ul_ring_size(struct ul_driver *driver, uint32_t sizes[4]);
/* "ext_arg" for bit 0 and so on; NULL behind the last. */
const char *ul_feature_name(uint32_t bit);
/* Where it is told what is wrong with UL_FEATURE_* (0: with the ring) in this kernel; or NULL. */
const char *ul_known_bug(uint64_t feature);

/* Fill `values`; how many there are.  Names in the same order, NULL behind the last. */
uint32_t ul_statistics(struct ul_driver *driver, uint64_t *values, uint32_t capacity);
const char *ul_statistics_name(uint32_t index);
/* "batches" or "submissions" where the name is one of many; else NULL. */
const char *ul_statistics_group(uint32_t index);

/*
 * Whether sendfile(2) of this piece of a file would not wait for a disk: 1; or
 * it might: 0.  Waits for none itself.  `thoroughly`: the file is being read,
 * so pages may be there whose contents are not.
 */
int ul_file_in_memory(int fd, int64_t offset, uint32_t size, int thoroughly);
