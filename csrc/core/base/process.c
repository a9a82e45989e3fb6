/* State that all loops of the process share and change. */
#include "process.h"

struct process process = {.plain_socket_version = VERSION_UNKNOWN};
