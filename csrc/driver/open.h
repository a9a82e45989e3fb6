/*
 * How a driver is made: binding.h for C, and what the makers share.
 */
#ifndef OPEN_H
#define OPEN_H

#include <stdint.h>

#include "driver.h"
#include "binding.h"

extern const struct ul_table uring_table;
extern const struct ul_table selector_table;

/* 0 with a driver that the caller frees with its destroy(), or -errno. */
int uring_open(const struct ul_options *options, struct ul_driver **driver);
int selector_open(const struct ul_options *options, struct ul_driver **driver);

#endif
