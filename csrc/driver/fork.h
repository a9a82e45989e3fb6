/*
 * fork(2): what a driver must undo in the child before anything else runs.
 *
 * A child inherits the ring's descriptor and would keep the parent's
 * connections alive with it; and the ring's memory is not there any more.  So
 * each ring leaves a node here, called in every child.
 */
#ifndef FORK_H
#define FORK_H

#include <stdatomic.h>
#include <stdbool.h>

/* Raised in the child of every fork(). */
extern _Atomic unsigned fork_epoch;

static inline unsigned fork_epoch_now(void)
{
	return atomic_load(&fork_epoch);
}

/*
 * What was made at `epoch` is the parent's: shared with it, and nothing may be done to
 * it here but close(2).
 */
static inline bool made_before_fork(unsigned epoch)
{
	return epoch != atomic_load_explicit(&fork_epoch, memory_order_relaxed);
}

struct fork_node {
	/* Runs in the parent, just before: notes what the child cannot see any more. */
	void (*before)(struct fork_node *node);
	/* Runs in the child, inside fork(): async-signal-safe calls only. */
	void (*in_child)(struct fork_node *node);
	struct fork_node *next;
	struct fork_node **link;    /* what points to this node; NULL: not on the list */
};

/* 0, or -errno: there was no memory for the handlers that raise the epoch. */
int fork_is_seen(void);
/* 0 or -errno.  The node stays the caller's and must be removed before it goes. */
int fork_add(struct fork_node *node);
void fork_remove(struct fork_node *node);

/*
 * No fork between the two: for what a child must find either whole or not at all,
 * a ring that is being made or closed.  One thread at a time is there, so what is
 * found out once per process is safe in it, and no child inherits it half done.
 */
void fork_forbid(void);
void fork_permit(void);

#endif
