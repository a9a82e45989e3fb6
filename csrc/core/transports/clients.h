/* The clients of a server: transports. */
#ifndef UL_CLIENTS_H
#define UL_CLIENTS_H

#include "../base/py.h"

struct transport;
typedef struct ClientList ClientList;

/* The server counts it as open from now on; 0, or -1 with an exception. */
int client_enter(struct transport *self, PyObject *server);
void client_leave(struct transport *self);  /* keeps no exception; may call _detach() */
void client_forget(struct transport *self); /* the same, and calls nobody */

int clients_init_types(PyObject *module);

#endif
