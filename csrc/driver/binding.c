/* The functions of binding.h: the verbs without an owner, for Python. */
#include "options.h"

#include <string.h>

void ul_destroy(struct ul_driver *driver)
{
	driver->table->destroy(driver);
}

const char *ul_name(struct ul_driver *driver)
{
	return driver->table->name;
}

uintptr_t ul_table_address(struct ul_driver *driver)
{
	return (uintptr_t)driver->table;
}

static const char *const statistics_names[] = {
	"turns", "enters", "submitted", "completed", "wakes",
	"rearmed", "starved", "overflowed", "rebuilt", "in_flight",
};

#define STATISTICS_COUNT (sizeof(struct ul_statistics) / sizeof(uint64_t))
_Static_assert(sizeof(statistics_names) / sizeof(char *) == STATISTICS_COUNT,
               "one name for each counter");

uint32_t ul_statistics(struct ul_driver *driver, uint64_t *values, uint32_t capacity)
{
	const struct ul_statistics *statistics = driver->table->statistics(driver);
	size_t count = capacity < STATISTICS_COUNT ? capacity : STATISTICS_COUNT;

	memcpy(values, statistics, count * sizeof(*values));
	return STATISTICS_COUNT;
}

const char *ul_statistics_name(uint32_t index)
{
	return index < STATISTICS_COUNT ? statistics_names[index] : NULL;
}

int ul_connect(struct ul_driver *driver, int fd, const void *address,
               uint32_t address_size, uint64_t *token)
{
	return driver->table->connect(driver, NULL, fd, address, address_size, token);
}

int ul_poll(struct ul_driver *driver, int fd, uint32_t events, uint64_t *token)
{
	return driver->table->poll(driver, NULL, fd, events, token);
}

int ul_timeout(struct ul_driver *driver, uint64_t duration_ns, uint64_t *token)
{
	return driver->table->timeout(driver, NULL, duration_ns, token);
}

int ul_read(struct ul_driver *driver, int fd, void *buffer, uint32_t size,
            int64_t offset, uint64_t *token)
{
	return driver->table->read(driver, NULL, fd, buffer, size, offset, token);
}

int ul_write(struct ul_driver *driver, int fd, const void *data, uint32_t size,
             int64_t offset, uint64_t *token)
{
	return driver->table->write(driver, NULL, fd, data, size, offset, token);
}

int ul_splice(struct ul_driver *driver, int fd_in, int64_t offset_in, int fd_out,
              int64_t offset_out, uint32_t size, uint32_t flags, uint64_t *token)
{
	return driver->table->splice(driver, NULL, fd_in, offset_in, fd_out, offset_out, size,
	                             flags, token);
}
