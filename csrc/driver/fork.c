/* The list of what a fork concerns.  See fork.h. */
#include "fork.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

_Atomic unsigned fork_epoch;

static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t nodes_once = PTHREAD_ONCE_INIT;
static struct fork_node *nodes;
static int nodes_error;

static void before_fork(void)
{
	struct fork_node *node;

	pthread_mutex_lock(&fork_lock);
	for (node = nodes; node != NULL; node = node->next)
		node->before(node);
}

static void after_in_parent(void)
{
	pthread_mutex_unlock(&fork_lock);
}

static void after_in_child(void)
{
	struct fork_node *node;

	atomic_fetch_add(&fork_epoch, 1);
	for (node = nodes; node != NULL; node = node->next)
		node->in_child(node);
	/* Taken by this very thread, before the fork. */
	pthread_mutex_unlock(&fork_lock);
}

static void install(void)
{
	nodes_error = -pthread_atfork(before_fork, after_in_parent, after_in_child);
}

__attribute__((constructor)) static void install_early(void)
{
	pthread_once(&nodes_once, install);
}

int fork_is_seen(void)
{
	pthread_once(&nodes_once, install);
	return nodes_error;
}

int fork_add(struct fork_node *node)
{
	int result = fork_is_seen();

	if (result != 0)
		return result;
	pthread_mutex_lock(&fork_lock);
	node->next = nodes;
	node->link = &nodes;
	if (nodes != NULL)
		nodes->link = &node->next;
	nodes = node;
	pthread_mutex_unlock(&fork_lock);
	return 0;
}

void fork_remove(struct fork_node *node)
{
	if (node->link == NULL)
		return;
	pthread_mutex_lock(&fork_lock);
	*node->link = node->next;
	if (node->next != NULL)
		node->next->link = node->link;
	node->link = NULL;
	pthread_mutex_unlock(&fork_lock);
}

void fork_forbid(void)
{
	pthread_mutex_lock(&fork_lock);
}

void fork_permit(void)
{
	pthread_mutex_unlock(&fork_lock);
}
