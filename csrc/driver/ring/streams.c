/*
 * The streams that receive, recv and recv_from, and the buffers they lend.
 *
 * A stream is one slot that starts itself again until its owner cancels it or
 * the descriptor ends it.  Three forms, the first that the kernel has:
 *
 *     multishot from the buffer ring     6.0, datagrams 6.1
 *     one-shot from the buffer ring      5.19, and sockets multishot is not for
 *     poll, then one-shot with a buffer of the slot's own: an idle connection
 *     holds no buffer
 *
 * A receive that keeps filling small buffers becomes a bulk receive, and back
 * when it stops: it is cancelled and started again.  At most one receive of a
 * stream is in the kernel, so the bytes stay in order.
 *
 * A bulk receive only polls in the kernel; its owner then take()s with recv(2)
 * into memory of its own.  Copying is what bulk costs, so it is done once, by
 * the kernel; buffers to lend would be copied from, and a ring of large ones
 * would be cold as well, or, if small, leave most streams without one and
 * serve those that have one again and again.
 */
#include "queue.h"
#include "socket_facts.h"

/* Full small buffers in a row that make a stream a bulk stream. */
#define FULL_TO_BULK 2
/* Receives in a row that a small buffer would have held, to end that. */
#define SLIGHT_TO_SMALL 16
/* Answers in a row that should not come; an endless loop is worse than an error. */
#define RETRIES_MAX 8

/*
 * A datagram's buffer begins as multishot recvmsg lays it out; the one-shot
 * form does the same: header, room for the sender, payload.
 */
#define NAME_OFFSET sizeof(struct io_uring_recvmsg_out)
#define PAYLOAD_OFFSET (NAME_OFFSET + sizeof(struct sockaddr_storage))

/* --- Starting ------------------------------------------------------------- */

static bool stream_is_unix(int fd, enum ul_stream kind)
{
	if (kind != UL_STREAM_UNKNOWN && kind != UL_STREAM_OTHER)
		return kind == UL_STREAM_UNIX;
	return socket_is_unix(fd);
}

static uint16_t poll_first_bit(const struct uring *uring, bool poll_first)
{
	return poll_first && uring_has(uring, UL_FEATURE_POLL_FIRST) ?
	               IORING_RECVSEND_POLL_FIRST : 0;
}

/* Wait for a buffer of its own, of which there is none. */
static void starve(struct uring *uring, struct uring_slot *slot)
{
	uring->statistics.buffers_exhausted++;
	slot->base.state = STATE_QUEUED;
	slot->base.flags |= SLOT_BEGAN;
	uring_list_add(uring, slot, LIST_STARVED);
}

/* Readable: now is the time for a buffer. */
static void own_buffer_receive(struct uring *uring, struct uring_slot *slot)
{
	struct pool *pool = &uring->pools[uring_pool_of(slot)];
	unsigned char *data;

	if (slot->buffer < 0)
		slot->buffer = pool_take(pool);
	if (slot->buffer < 0) {
		starve(uring, slot);
		return;
	}
	data = pool_data(pool, (uint32_t)slot->buffer);
	slot->sqe.flags = 0;
	slot->sqe.ioprio = 0;
	/* If there is nothing after all the buffer comes back, and is not held until there is. */
	slot->sqe.msg_flags = MSG_DONTWAIT;
	if (slot->base.verb == URING_RECV) {
		slot->sqe.addr = (uintptr_t)data;
		slot->sqe.len = pool->size;
	} else {
		struct uring_cold *cold = slot->cold;

		cold->vector[0] = (struct iovec){ data + PAYLOAD_OFFSET,
		                                  pool->size - PAYLOAD_OFFSET };
		cold->message.msg_iov = cold->vector;
		cold->message.msg_iovlen = 1;
		cold->message.msg_name = data + NAME_OFFSET;
		cold->message.msg_namelen = sizeof(struct sockaddr_storage);
	}
	uring_push(uring, slot);
}

void uring_receive_start(struct uring *uring, struct uring_slot *slot, bool poll_first)
{
	const struct pool *pool = &uring->pools[uring_pool_of(slot)];

	if (slot->base.flags & SLOT_BULK) {
		uring_push_poll(uring, slot, slot->sqe.fd, POLLIN);
		return;
	}
	if (pool->ring == NULL) {
		if (poll_first)
			uring_push_poll(uring, slot, slot->sqe.fd, POLLIN);
		else
			own_buffer_receive(uring, slot);
		return;
	}
	slot->sqe.flags = IOSQE_BUFFER_SELECT;
	slot->sqe.msg_flags = 0;
	slot->sqe.buf_group = pool->group;
	slot->sqe.ioprio = poll_first_bit(uring, poll_first);
	if (slot->base.verb == URING_RECV_FROM) {
		struct msghdr *message = &slot->cold->message;

		memset(message, 0, sizeof(*message));
		message->msg_namelen = sizeof(struct sockaddr_storage);
		slot->sqe.ioprio |= IORING_RECV_MULTISHOT;
	} else {
		slot->sqe.addr = 0;
		slot->sqe.len = 0;
		if (slot->base.flags & SLOT_ONE_SHOT)
			slot->sqe.len = pool->size;
		else
			slot->sqe.ioprio |= IORING_RECV_MULTISHOT;
	}
	uring_push(uring, slot);
}

static void receive_again(struct uring *uring, struct uring_slot *slot, bool poll_first)
{
	uring->statistics.rearmed++;
	slot->base.flags |= SLOT_BEGAN;
	uring_receive_start(uring, slot, poll_first);
}

int uring_recv(struct ul_driver *driver, void *owner, int fd, enum ul_stream kind,
               ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot;
	int result = uring_pool_prepare(uring, POOL_SMALL);

	*token = 0;
	if (unlikely(result != 0))
		return result;
	slot = uring_start(uring, URING_RECV, owner, IORING_OP_RECV, fd);
	if (unlikely(slot == NULL))
		return uring->closed ? -ESHUTDOWN : -ENOMEM;
	if (!uring_has(uring, UL_FEATURE_MULTISHOT_RECV) ||
	    (!uring_has(uring, UL_FEATURE_MULTISHOT_UNIX) && stream_is_unix(fd, kind)))
		slot->base.flags |= SLOT_ONE_SHOT;
	*token = slot_token(&slot->base);
	uring_receive_start(uring, slot, uring->pools[POOL_SMALL].ring == NULL);
	return -EINPROGRESS;
}

int uring_recv_from(struct ul_driver *driver, void *owner, int fd, ul_token *token)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot;
	int result = uring_pool_prepare(uring, POOL_DATAGRAM);

	*token = 0;
	if (unlikely(result != 0))
		return result;
	slot = uring_start(uring, URING_RECV_FROM, owner, IORING_OP_RECVMSG, fd);
	if (unlikely(slot == NULL))
		return uring->closed ? -ESHUTDOWN : -ENOMEM;
	slot->cold = uring_cold_take(uring);
	if (unlikely(slot->cold == NULL)) {
		uring_slot_free(uring, slot);
		return -ENOMEM;
	}
	slot->sqe.addr = (uintptr_t)&slot->cold->message;
	slot->sqe.len = 1;
	*token = slot_token(&slot->base);
	uring_receive_start(uring, slot, uring->pools[POOL_DATAGRAM].ring == NULL);
	return -EINPROGRESS;
}

/* --- Buffers -------------------------------------------------------------- */

void uring_recycle(struct ul_driver *driver, unsigned char *data)
{
	struct uring *uring = uring_of(driver);
	struct pool *pool = &uring->pools[POOL_SMALL];

	while (!pool_owns(pool, data)) {
		pool++;
		assert(pool < uring->pools + POOLS);
	}
	pool_give(pool, pool_index(pool, data));
}

void uring_drop_buffer(struct uring *uring, struct uring_slot *slot,
                       const struct io_uring_cqe *cqe)
{
	struct pool *pool = &uring->pools[uring_pool_of(slot)];

	if (cqe->flags & IORING_CQE_F_BUFFER) {
		uint32_t index = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

		pool_lend(pool, index);
		pool_give(pool, index);
	} else if (slot->buffer >= 0 && (cqe->flags & IORING_CQE_F_MORE) == 0) {
		pool_give(pool, (uint32_t)slot->buffer);
		slot->buffer = -1;
	}
}

void uring_feed_starved(struct uring *uring)
{
	uint32_t count = uring->lists[LIST_STARVED].count;
	uint32_t promised[POOLS] = { 0 };

	while (count-- > 0) {
		struct uring_slot *slot = uring_slot_at(uring, uring->lists[LIST_STARVED].first);
		struct pool *pool = &uring->pools[uring_pool_of(slot)];
		uint32_t available = pool->ring != NULL ? pool->in_ring : pool->free_count;

		uring_list_drop(uring, slot);
		if (promised[uring_pool_of(slot)] < available) {
			promised[uring_pool_of(slot)]++;
			uring->statistics.rearmed++;
			uring_receive_start(uring, slot, true);
		} else {
			uring_list_add(uring, slot, LIST_STARVED);
		}
	}
}

/* The buffer that came with a successful receive, lent. */
static unsigned char *lend_buffer(struct uring *uring, struct uring_slot *slot,
                                  const struct io_uring_cqe *cqe)
{
	struct pool *pool = &uring->pools[uring_pool_of(slot)];
	uint32_t index;

	if (likely(cqe->flags & IORING_CQE_F_BUFFER)) {
		index = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	} else {
		assert(slot->buffer >= 0);
		index = (uint32_t)slot->buffer;
		slot->buffer = -1;
	}
	return pool_lend(pool, index);
}

void uring_move(struct uring_slot *slot)
{
	uring_stop_moving(slot);
	slot->base.flags ^= SLOT_BULK;
	slot->streak = 0;
}

/* Should `slot` be a bulk stream from now on, or none any more? */
static bool wants_to_move(const struct uring *uring, struct uring_slot *slot, uint32_t size)
{
	uint32_t small = uring->pools[POOL_SMALL].size;

	if ((slot->base.flags & SLOT_BULK) == 0) {
		if (likely(size < small)) {
			slot->streak = 0;
			return false;
		}
		if (slot->streak < FULL_TO_BULK)
			slot->streak++;
		return slot->streak == FULL_TO_BULK;
	}
	if (unlikely(slot->base.flags & SLOT_FOR_GOOD))
		return false;
	if (size > small) {
		slot->streak = 0;
		return false;
	}
	if (slot->streak < SLIGHT_TO_SMALL)
		slot->streak++;
	return slot->streak == SLIGHT_TO_SMALL;
}

/* --- Completions ---------------------------------------------------------- */

/* Errors with which a receive ends that may be started again. */
static bool is_passing(int error)
{
	return error == -ENOBUFS || error == -ECANCELED || error == -ENOMEM ||
	       error == -EAGAIN || error == -EINTR;
}

/*
 * A stream ended without a word for its owner: start it again, let it wait for
 * a buffer, or give up with the error.
 */
static int receive_interrupted(struct uring *uring, struct uring_slot *slot, int error,
                               struct ul_completion *out)
{
	bool cancelling = slot->base.state == STATE_CANCELLING;

	if (slot->phase == PHASE_MOVING && !cancelling && is_passing(error)) {
		uring_move(slot);
		receive_again(uring, slot, false);
		return 0;
	}
	switch (error) {
	case -ENOBUFS:
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		starve(uring, slot);
		return 0;
	case -ECANCELED:
		if (cancelling)
			break;
		if (slot->retries++ == RETRIES_MAX)
			break;
		receive_again(uring, slot, true);
		return 0;
	case -ENOMEM:
		/* Some kernels say so for a moment (5.x to 6.13). */
		if (cancelling || slot->retries++ == RETRIES_MAX)
			break;
		receive_again(uring, slot, true);
		return 0;
	case -EAGAIN:
	case -EINTR:
		if (cancelling)
			return uring_finish(uring, slot, out, -ECANCELED, 0);
		uring->statistics.rearmed++;
		slot->base.flags |= SLOT_BEGAN;
		if (error == -EAGAIN && !uring_has(uring, UL_FEATURE_POLL_FIRST))
			uring_push_poll(uring, slot, slot->sqe.fd, POLLIN);
		else
			uring_receive_start(uring, slot, true);
		return 0;
	default:
		break;
	}
	return uring_finish(uring, slot, out, error, 0);
}

/* The kernel is through with this start of the stream; its data is in `out`. */
static void data_was_last(struct uring *uring, struct uring_slot *slot,
                          const struct io_uring_cqe *cqe, struct ul_completion *out)
{
	unsigned char *data = out->data;
	bool more_waits;

	if (slot->base.state == STATE_CANCELLING) {
		const struct sockaddr *address = out->address;
		uint32_t address_size = out->address_size;
		uint32_t flags = out->flags & ~(uint32_t)UL_MORE;

		uring_finish(uring, slot, out, out->result, flags);
		out->data = data;
		out->address = address;
		out->address_size = address_size;
		return;
	}
	/* Skips an attempt that would find nothing. */
	more_waits = (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0 ||
	             (uint32_t)cqe->res == uring->pools[uring_pool_of(slot)].size;
	if (slot->phase == PHASE_MOVING)
		uring_move(slot);
	receive_again(uring, slot, !more_waits);
}

int uring_bulk_readable(struct uring_slot *slot, struct ul_completion *out)
{
	slot->phase = PHASE_READABLE;
	slot->base.state = STATE_QUEUED;
	*out = (struct ul_completion){
		.owner = slot->base.owner,
		.token = slot_token(&slot->base),
		.flags = UL_READABLE | UL_MORE,
	};
	return 1;
}

int uring_take(struct ul_driver *driver, ul_token token, const struct iovec *iov,
               uint32_t count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = token >> TAG_SHIFT == 0 ? uring_slot_find(uring, token) : NULL;
	struct ul_completion end;
	ssize_t result;

	if (unlikely(slot == NULL || slot->phase != PHASE_READABLE))
		return -ENOENT;
	do {
		if (count == 1)
			result = recv(slot->sqe.fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT);
		else
			result = recvmsg(slot->sqe.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (result < 0 && errno == EINTR);
	if (result < 0)
		result = -errno;
	slot->phase = PHASE_DIRECT;
	if (unlikely(result <= 0 && result != -EAGAIN)) {
		uring_finish(uring, slot, &end, (int)result, 0);
		return (int)result;
	}
	if (likely(result > 0)) {
		slot->retries = 0;
		if (unlikely(wants_to_move(uring, slot, (uint32_t)result)))
			uring_move(slot);
	}
	receive_again(uring, slot, true);
	return (int)result;
}

/*
 * The cancel that ends a receive is submitted with the next turn, before that runs
 * any of the ring's work; with DEFER_TASKRUN nothing is received until then.
 */
void uring_hold(struct ul_driver *driver, ul_token token, bool for_good)
{
	struct uring *uring = uring_of(driver);
	struct uring_slot *slot = token >> TAG_SHIFT == 0 ? uring_slot_find(uring, token) : NULL;

	if (slot == NULL || slot->base.verb != URING_RECV || slot->base.state == STATE_CANCELLING ||
	    slot->base.state == STATE_DONE)
		return;
	slot->base.flags &= (uint16_t)~SLOT_FOR_GOOD;
	if (for_good)
		slot->base.flags |= SLOT_FOR_GOOD;
	if (slot->base.flags & SLOT_BULK)
		slot->streak = 0;
	if (slot->base.flags & SLOT_BULK || slot->phase == PHASE_MOVING)
		return;
	if (slot->phase == PHASE_POLLING) {
		/* The poll goes on: no receive had begun. */
		uring_move(slot);
	} else if ((slot->list != LIST_NONE && slot->base.state == STATE_QUEUED) ||
	           uring_unsubmitted(uring, slot)) {
		uring_withdraw(uring, slot);
		uring_move(slot);
		uring_receive_start(uring, slot, true);
	} else {
		slot->phase = PHASE_MOVING;
		/* One whose end the old ring has left us is not in the kernel any more. */
		if ((slot->base.flags & SLOT_LEFT_OVER) == 0)
			uring_push_cancel(uring, slot);
	}
}

/* Tell the completion of this harvest that came before `out`, if any, that it is not alone. */
static void mark_followed(const struct uring *uring, struct uring_slot *slot,
                          const struct ul_completion *out)
{
	uint32_t position = (uint32_t)(out - uring->batch);
	uint32_t before = (uint32_t)slot->result;

	/* The place of another harvest has another stream's, or is not before us. */
	if (before < position && unlikely(uring->batch[before].token == out->token) &&
	    uring->batch[before].flags & UL_LENT)
		uring->batch[before].flags |= UL_FOLLOWED;
	slot->result = (int32_t)position;
}

int uring_recv_completed(struct uring *uring, struct uring_slot *slot,
                         const struct io_uring_cqe *cqe, struct ul_completion *out)
{
	if (unlikely(cqe->res <= 0)) {
		uring_drop_buffer(uring, slot, cqe);
		if (cqe->flags & IORING_CQE_F_MORE)
			return 0;
		if (cqe->res == 0)
			return uring_finish(uring, slot, out, 0, 0);
		return receive_interrupted(uring, slot, cqe->res, out);
	}
	out->owner = slot->base.owner;
	out->token = slot_token(&slot->base);
	out->result = cqe->res;
	out->flags = UL_LENT | UL_MORE;
	out->data = lend_buffer(uring, slot, cqe);
	out->address = NULL;
	out->address_size = 0;
	slot->retries = 0;
	if (unlikely(wants_to_move(uring, slot, (uint32_t)cqe->res)) &&
	    slot->base.state == STATE_IN_KERNEL && slot->phase != PHASE_MOVING) {
		slot->phase = PHASE_MOVING;
		if (cqe->flags & IORING_CQE_F_MORE)
			uring_push_cancel(uring, slot);
	}
	if (unlikely((cqe->flags & IORING_CQE_F_MORE) == 0))
		data_was_last(uring, slot, cqe, out);
	if (likely(out->flags & UL_MORE))
		mark_followed(uring, slot, out);
	return 1;
}

int uring_recv_from_completed(struct uring *uring, struct uring_slot *slot,
                              const struct io_uring_cqe *cqe, struct ul_completion *out)
{
	const struct io_uring_recvmsg_out *header;
	const struct msghdr *message = &slot->cold->message;
	unsigned char *data;
	uint32_t name_size;
	int32_t size = cqe->res;

	if (unlikely(size < 0)) {
		uring_drop_buffer(uring, slot, cqe);
		if (cqe->flags & IORING_CQE_F_MORE)
			return 0;
		return receive_interrupted(uring, slot, size, out);
	}
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		if (unlikely(size < (int32_t)PAYLOAD_OFFSET)) {
			/* No datagram: a socket that ends says so. */
			uring_drop_buffer(uring, slot, cqe);
			if (cqe->flags & IORING_CQE_F_MORE)
				return 0;
			return receive_interrupted(uring, slot, -EAGAIN, out);
		}
		data = lend_buffer(uring, slot, cqe);
		header = (const struct io_uring_recvmsg_out *)data;
		size -= (int32_t)PAYLOAD_OFFSET;
		name_size = header->namelen;
	} else {
		data = lend_buffer(uring, slot, cqe);
		name_size = message->msg_namelen;
	}
	if (name_size > sizeof(struct sockaddr_storage))
		name_size = sizeof(struct sockaddr_storage);
	out->owner = slot->base.owner;
	out->token = slot_token(&slot->base);
	out->result = size;
	out->flags = UL_LENT | UL_MORE;
	out->data = data + PAYLOAD_OFFSET;
	out->address = name_size != 0 ? (const struct sockaddr *)(data + NAME_OFFSET) : NULL;
	out->address_size = name_size;
	slot->retries = 0;
	if (unlikely((cqe->flags & IORING_CQE_F_MORE) == 0))
		data_was_last(uring, slot, cqe, out);
	return 1;
}
