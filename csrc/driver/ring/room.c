/* Room for rings.  See room.h. */
#include "room.h"

#include "monotonic.h"

#include <stdatomic.h>
#include <time.h>

/* The smallest submission queue that is worth having a ring for. */
#define ENTRIES_MIN 16
/* A closed ring has given back its room by then, also on a busy machine. */
#define RETURN_NS UINT64_C(200000000)
#define LOOK_NS 2000000

/* When a ring was closed, as far as we know: another process's may have been, too. */
static _Atomic uint64_t closed_ns;
static _Atomic uint32_t open_rings;
/* A ring of so many entries was waited for in vain, beside so many open ones. */
static _Atomic uint32_t vain_entries = UINT32_MAX;
static _Atomic uint32_t vain_rings;

static bool is_vain(uint32_t entries)
{
	return entries >= atomic_load(&vain_entries) &&
	       atomic_load(&open_rings) >= atomic_load(&vain_rings);
}

static bool may_be_returned(void)
{
	uint64_t now = monotonic_ns();
	uint64_t never = 0;

	atomic_compare_exchange_strong(&closed_ns, &never, now);
	return now - atomic_load(&closed_ns) < RETURN_NS;
}

bool room_again(struct ring_size *size)
{
	static const struct timespec moment = {0, LOOK_NS};

	if (!is_vain(size->entries)) {
		if (may_be_returned()) {
			nanosleep(&moment, NULL);
			return true;
		}
		atomic_store(&vain_entries, size->entries);
		atomic_store(&vain_rings, atomic_load(&open_rings));
	}
	if (size->entries <= ENTRIES_MIN)
		return false;
	size->entries /= 2;
	size->cq_entries /= 2;
	return true;
}

void room_found(void)
{
	atomic_fetch_add(&open_rings, 1);
}

void room_close(struct io_uring *ring)
{
	io_uring_queue_exit(ring);
	atomic_fetch_sub(&open_rings, 1);
	atomic_store(&closed_ns, monotonic_ns());
}
