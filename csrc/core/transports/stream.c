/*
 * The stream transport: its life, from connection_made() to the closed
 * descriptor.
 */
#include "stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* ---- the end ------------------------------------------------------------------------ */

static void stream_join(struct transport *base)
{
	if (!stream_of(base)->lent)
		transport_join_operations(base);
}

/* Nothing will empty the queue that sendfile waits for. */
static void stream_lost(struct transport *base)
{
	Stream *self = stream_of(base);
	PyObject *error;

	if (self->empty_waiter == NULL)
		return;
	error = PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
	if (error == NULL)
		PyErr_WriteUnraisable((PyObject *)self);
	else
		stream_fail_empty_waiter(self, error);
	Py_XDECREF(error);
}

static int stream_closing(struct transport *base)
{
	Stream *self = stream_of(base);

	if (stream_catch_up(base) < 0)
		return -1;
	if (self->chunk_count > 0 || base->state != TRANSPORT_CLOSING)
		return 0;
	if (base->protocol_paused && !base->loop->closed) {
		/* It is resumed first, and may still write: SSLProtocol does. */
		stream_mark_dirty(self);
		return 0;
	}
	return transport_lose(base, Py_None);
}

/* ---- the beginning -------------------------------------------------------------------- */

static int stream_set_protocol(struct transport *base, PyObject *protocol)
{
	int buffered = PyObject_IsInstance(protocol, helpers.buffered_protocol);
	Stream *self = stream_of(base);
	bool was_held = self->buffered && !self->roomy;

	if (buffered < 0)
		return -1;
	self->buffered = buffered;
	/* Of a class of ours it is known; of others their buffers tell. */
	self->roomy = buffered && PyObject_HasAttr((PyObject *)Py_TYPE(protocol), names._roomy);
	if (was_held != (self->buffered && !self->roomy))
		stream_hold(self);
	return transport_set_protocol(base, protocol);
}

static const struct transport_kind stream_kind = {
	.received = stream_received,
	.sent = stream_sent,
	.set_protocol = stream_set_protocol,
	.arm = stream_arm,
	.has_kept = stream_has_kept,
	.pause = stream_pause,
	.closing = stream_closing,
	.catch_up = stream_catch_up,
	.has_context = true,
	.end_repeats = true,
	.backlog = stream_backlog,
	.maybe_pause_protocol = stream_maybe_pause_protocol,
	.drop_queue = stream_drop_queue,
	.lost = stream_lost,
	.join = stream_join,
};

PyObject *stream_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                     PyObject *Py_UNUSED(kwargs))
{
	Stream *self = (Stream *)transport_new(type, &stream_kind);

	if (self == NULL)
		return NULL;
	self->chunks = self->chunks_inline;
	self->chunk_mask = STREAM_INLINE_CHUNKS - 1;
	return (PyObject *)self;
}

/* What both beginnings come to.  `server`, `extra`: or Py_None. */
static int stream_open(Stream *self, Loop *loop, PyObject *sock, int fd, PyObject *protocol,
                       PyObject *waiter, PyObject *extra, PyObject *server,
                       const struct accepted *accepted)
{
	int one = 1;

	if (transport_open(&self->base, loop, sock, fd, protocol, accepted) < 0)
		return -1;
	if (accepted != NULL)
		self->kind = accepted->kind;
	/* Small writes leave without waiting for an acknowledgement, as in asyncio. */
	if ((accepted == NULL || !accepted->no_delay) &&
	    (self->base.family == AF_INET || self->base.family == AF_INET6))
		setsockopt(self->base.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (extra != Py_None) {
		Py_XSETREF(self->base.extra, PyDict_Copy(extra));
		if (self->base.extra == NULL)
			goto fail;
	}
	if (server != Py_None && (transport_recall_peername(&self->base) < 0 ||
	                          client_enter(&self->base, server) < 0))
		goto fail;
	if (transport_start(&self->base, waiter) == 0)
		return 0;
fail:
	transport_give_up(&self->base);
	return -1;
}

int stream_init(Stream *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"loop", "sock", "protocol", "waiter", "extra", "server", NULL};
	PyObject *loop, *sock, *protocol, *waiter = Py_None, *extra = Py_None;
	PyObject *server = Py_None;
	int fd;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO|OOO:StreamTransport", keywords,
	                                 LoopType, &loop, &sock, &protocol, &waiter, &extra,
	                                 &server))
		return -1;
	fd = transport_socket_fd(sock);
	if (fd < 0)
		return -1;
	/* A descriptor: its socket object is made when first asked for. */
	return stream_open(self, (Loop *)loop, PyLong_Check(sock) ? NULL : sock, fd, protocol,
	                   waiter, extra, server, NULL);
}

PyObject *stream_accept(Loop *loop, int fd, PyObject *protocol, PyObject *server,
                        const struct accepted *accepted)
{
	PyObject *self = stream_new((PyTypeObject *)helpers.stream_transport, NULL, NULL);

	if (self != NULL && stream_open((Stream *)self, loop, NULL, fd, protocol, Py_None,
	                                Py_None, server, accepted) < 0)
		Py_CLEAR(self);
	return self;
}

/* ---- memory ---------------------------------------------------------------------------- */

int stream_traverse(Stream *self, visitproc visit, void *arg)
{
	size_t i;

	Py_VISIT(self->empty_waiter);
	for (i = 0; i < self->chunk_count; i++)
		Py_VISIT(self->chunks[(self->chunk_head + i) & self->chunk_mask].owner);
	return transport_traverse(&self->base, visit, arg);
}

int stream_clear(Stream *self)
{
	self->lent = false; /* who borrowed it is garbage too */
	Py_CLEAR(self->empty_waiter);
	return transport_clear(&self->base);
}

void stream_dealloc(Stream *self)
{
	if (transport_dealloc_begins(&self->base) < 0)
		return;
	assert(!self->is_dirty);
	stream_clear(self);
	stream_drop_queue(&self->base);
	if (self->chunks != self->chunks_inline)
		PyMem_Free(self->chunks);
	transport_dealloc_ends(&self->base);
}
