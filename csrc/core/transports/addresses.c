/*
 * Socket addresses, both ways, with what was converted last kept for reuse.
 *
 * A server hears from the same peers again and again, and answers to the very
 * object that it was given: one cache finds the object by the struct, the
 * other the struct by the object.  Both belong to the loop and hold only tuples
 * of str and int, which cannot be part of a reference cycle.
 */
#include "addresses.h"
#include "../loop.h"

#include <arpa/inet.h>
#include <string.h>

#define CACHE_SLOTS 256
/* struct sockaddr_in6, the largest that is cached. */
#define CACHED_SIZE sizeof(struct sockaddr_in6)

struct heard {
	PyObject *object;     /* owned or NULL */
	uint32_t size;
	unsigned char raw[CACHED_SIZE];
};

struct spoken {
	PyObject *object;     /* owned or NULL: nobody else can get its address */
	uint32_t size;
	unsigned char raw[CACHED_SIZE];
};

struct address_cache {
	struct heard heard[CACHE_SLOTS];    /* by the struct's contents */
	struct spoken spoken[CACHE_SLOTS];  /* by the object's identity */
};

void addresses_release(Loop *loop)
{
	struct address_cache *cache = loop->addresses;
	size_t i;

	if (cache == NULL)
		return;
	loop->addresses = NULL;
	for (i = 0; i < CACHE_SLOTS; i++) {
		Py_XDECREF(cache->heard[i].object);
		Py_XDECREF(cache->spoken[i].object);
	}
	PyMem_Free(cache);
}

/* NULL, without an exception, when memory is out: then nothing is cached. */
static struct address_cache *cache_of(Loop *loop)
{
	if (unlikely(loop->addresses == NULL))
		loop->addresses = PyMem_Calloc(1, sizeof(struct address_cache));
	return loop->addresses;
}

static uint32_t size_of(int family)
{
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* ---- from the kernel ------------------------------------------------------------ */

bool address_is_known(int family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

static size_t hash_raw(const void *raw, size_t size)
{
	const unsigned char *bytes = raw;
	uint64_t hash = 0, word;
	size_t i;

	for (i = 0; i < size; i += sizeof(word)) {
		word = 0;
		memcpy(&word, bytes + i, size - i < sizeof(word) ? size - i : sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	return (size_t)(hash >> 8) & (CACHE_SLOTS - 1);
}

static PyObject *new_in4(const struct sockaddr_in *address)
{
	char host[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host));
	return Py_BuildValue("(si)", host, ntohs(address->sin_port));
}

static PyObject *new_in6(const struct sockaddr_in6 *address)
{
	char host[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, &address->sin6_addr, host, sizeof(host));
	return Py_BuildValue("(siII)", host, ntohs(address->sin6_port),
	                     (unsigned int)ntohl(address->sin6_flowinfo),
	                     (unsigned int)address->sin6_scope_id);
}

static PyObject *new_unix(const struct sockaddr_un *address, uint32_t size)
{
	size_t length = size - offsetof(struct sockaddr_un, sun_path);

	if (length > 0 && address->sun_path[0] == '\0')
		return PyBytes_FromStringAndSize(address->sun_path, (Py_ssize_t)length);
	return PyUnicode_DecodeFSDefaultAndSize(address->sun_path,
	                                        (Py_ssize_t)strnlen(address->sun_path, length));
}

PyObject *address_new(Loop *loop, const struct sockaddr *address, uint32_t size)
{
	struct address_cache *cache;
	struct heard *entry;
	PyObject *object;

	if (address == NULL || size < offsetof(struct sockaddr_un, sun_path))
		Py_RETURN_NONE;
	if (address->sa_family == AF_UNIX)
		return new_unix((const struct sockaddr_un *)address, size);
	if (unlikely(size < size_of(address->sa_family)))
		Py_RETURN_NONE;
	size = size_of(address->sa_family);
	cache = cache_of(loop);
	entry = cache == NULL ? NULL : &cache->heard[hash_raw(address, size)];
	if (likely(entry != NULL && entry->object != NULL && entry->size == size &&
	           memcmp(entry->raw, address, size) == 0))
		return Py_NewRef(entry->object);
	object = address->sa_family == AF_INET ? new_in4((const struct sockaddr_in *)address)
	                                       : new_in6((const struct sockaddr_in6 *)address);
	if (entry != NULL && object != NULL) {
		memcpy(entry->raw, address, size);
		entry->size = size;
		Py_XSETREF(entry->object, Py_NewRef(object));
	}
	return object;
}

/* ---- from Python -------------------------------------------------------------------- */

/* A plain int in 0..most. */
static bool parse_number(PyObject *object, uint32_t most, uint32_t *number)
{
	long long value;
	int overflow;

	if (!PyLong_CheckExact(object))
		return false;
	value = PyLong_AsLongLongAndOverflow(object, &overflow);
	if (overflow != 0 || value < 0 || value > (long long)most)
		return false;
	*number = (uint32_t)value;
	return true;
}

static bool parse_internet(int family, PyObject *address, struct raw_address *raw)
{
	Py_ssize_t count = PyTuple_GET_SIZE(address);
	uint32_t port, flow = 0, scope = 0;
	Py_ssize_t length;
	const char *host;

	if (count != 2 && !(family == AF_INET6 && (count == 3 || count == 4)))
		return false;
	if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(address, 0)) ||
	    !PyUnicode_IS_ASCII(PyTuple_GET_ITEM(address, 0)) ||
	    !parse_number(PyTuple_GET_ITEM(address, 1), UINT16_MAX, &port) ||
	    (count > 2 && !parse_number(PyTuple_GET_ITEM(address, 2), 0xfffff, &flow)) ||
	    (count > 3 && !parse_number(PyTuple_GET_ITEM(address, 3), UINT32_MAX, &scope)))
		return false;
	host = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(address, 0), &length);
	if (host == NULL || strlen(host) != (size_t)length) {
		PyErr_Clear();
		return false;
	}
	if (family == AF_INET) {
		memset(&raw->in4, 0, sizeof(raw->in4));
		raw->in4.sin_family = AF_INET;
		raw->in4.sin_port = htons((uint16_t)port);
		raw->size = sizeof(raw->in4);
		return inet_pton(AF_INET, host, &raw->in4.sin_addr) == 1;
	}
	memset(&raw->in6, 0, sizeof(raw->in6));
	raw->in6.sin6_family = AF_INET6;
	raw->in6.sin6_port = htons((uint16_t)port);
	raw->in6.sin6_flowinfo = htonl(flow);
	raw->in6.sin6_scope_id = scope;
	raw->size = sizeof(raw->in6);
	return inet_pton(AF_INET6, host, &raw->in6.sin6_addr) == 1;
}

static bool parse_unix(PyObject *address, struct raw_address *raw)
{
	PyObject *path = NULL;
	bool fits = false;

	if (PyBytes_CheckExact(address))
		path = Py_NewRef(address);
	else if (PyUnicode_CheckExact(address))
		path = PyUnicode_EncodeFSDefault(address);
	if (path == NULL) {
		PyErr_Clear();
		return false;
	}
	/* Shorter than the field: a path keeps its end mark, an abstract name needs none. */
	if ((size_t)PyBytes_GET_SIZE(path) < sizeof(raw->un.sun_path)) {
		size_t length = (size_t)PyBytes_GET_SIZE(path);

		memset(&raw->un, 0, sizeof(raw->un));
		raw->un.sun_family = AF_UNIX;
		memcpy(raw->un.sun_path, PyBytes_AS_STRING(path), length);
		raw->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
		fits = length == 0 || raw->un.sun_path[0] == '\0' ||
		       strlen(raw->un.sun_path) == length;
	}
	Py_DECREF(path);
	return fits;
}

bool address_parse(Loop *loop, int family, PyObject *address, struct raw_address *raw)
{
	struct address_cache *cache;
	struct spoken *entry = NULL;

	if (family == AF_UNIX)
		return parse_unix(address, raw);
	if ((family != AF_INET && family != AF_INET6) || !PyTuple_CheckExact(address))
		return false;
	cache = loop == NULL ? NULL : cache_of(loop);
	if (likely(cache != NULL)) {
		entry = &cache->spoken[hash_raw(&address, sizeof(address))];
		if (likely(entry->object == address &&
		           entry->size == size_of(family))) {
			memcpy(&raw->any, entry->raw, entry->size);
			raw->size = entry->size;
			return true;
		}
	}
	if (!parse_internet(family, address, raw))
		return false;
	if (entry != NULL) {
		memcpy(entry->raw, &raw->any, raw->size);
		entry->size = raw->size;
		Py_XSETREF(entry->object, Py_NewRef(address));
	}
	return true;
}
