/* The registration itself.  See epoll.h. */
#include "epoll.h"

#include <errno.h>
#include <sys/epoll.h>

int epoll_register(int epoll_fd, int fd, bool registered, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};
	int operation = registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (epoll_ctl(epoll_fd, operation, fd, &event) == 0)
		return 0;
	if (registered || errno != EEXIST)
		return -errno;
	/* The registration of a duplicate, closed behind our back, whose file is open still. */
	return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}
