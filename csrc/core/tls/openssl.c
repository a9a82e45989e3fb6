/* OpenSSL as it is in the process: finding its functions, and the SSL of a Python object. */
#include "openssl.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct openssl openssl;

/* What has to be readable before OpenSSL is asked about it. */
#define LOOKED_AT_BYTES 256
#define BIO_LOOKED_AT_BYTES 64

const char *openssl_find(const char *path)
{
	static bool found;
	struct openssl functions;
	void *library;
	bool all = true;

	if (found)
		return NULL;
	/* Without a path it would be the program, whose OpenSSL may be another. */
	library = path[0] == '\0' ? NULL : dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (library == NULL)
		return "the ssl module is not a library of its own";
	/* The handle's symbols are those of the module, and of what it is linked with. */
#define FIND_FUNCTION(result, name, arguments) \
	functions.name = (result (*) arguments)dlsym(library, #name); \
	all = all && functions.name != NULL;
	OPENSSL_FUNCTIONS(FIND_FUNCTION)
#undef FIND_FUNCTION
#define LOOK_FOR_FUNCTION(result, name, arguments) \
	functions.name = (result (*) arguments)dlsym(library, #name);
	OPENSSL_ERROR_FUNCTIONS(LOOK_FOR_FUNCTION)
#undef LOOK_FOR_FUNCTION
	all = all && ((functions.ERR_new != NULL && functions.ERR_set_error != NULL) ||
	              functions.ERR_put_error != NULL);
	/* The interpreter keeps it. */
	dlclose(library);
	if (!all)
		return "the ssl module's OpenSSL is linked into it, and hidden";
	openssl = functions;
	found = true;
	return NULL;
}

void openssl_tell_no_memory(void)
{
	/* ERR_LIB_BIO; ERR_R_MALLOC_FAILURE of OpenSSL 3, and of 1.1.1. */
	const int library = 32, reason = 256 | 3 << 18, old_reason = 1 | 64;

	if (openssl.ERR_new != NULL && openssl.ERR_set_error != NULL) {
		openssl.ERR_new();
		openssl.ERR_set_error(library, reason, NULL);
	} else {
		openssl.ERR_put_error(library, 0, old_reason, "", 0);
	}
}

/* Whether the kernel can read there: it says so where we would be killed. */
static bool is_readable(const void *address, size_t size)
{
	int ends[2];
	ssize_t written;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	do {
		written = write(ends[1], address, size);
	} while (written < 0 && errno == EINTR);
	close(ends[0]);
	close(ends[1]);
	return written == (ssize_t)size;
}

/* Word `index` behind the head of an object that has it; NULL else. */
static void *word_of(PyObject *object, size_t index)
{
	size_t offset = sizeof(PyObject) + index * sizeof(void *);
	void *word;

	if ((size_t)Py_TYPE(object)->tp_basicsize < offset + sizeof(word))
		return NULL;
	memcpy(&word, (const char *)object + offset, sizeof(word));
	return word;
}

/*
 * Whether a MemoryBIO's BIO is made by the OpenSSL that was found: another in the same
 * process has its names elsewhere.
 */
static bool is_of_this_openssl(BIO *bio)
{
	BIO *own;
	bool same;

	if (!is_readable(bio, BIO_LOOKED_AT_BYTES))
		return false;
	own = openssl.BIO_new(openssl.BIO_s_mem());
	same = own != NULL && openssl.BIO_method_name(own) == openssl.BIO_method_name(bio);
	if (own != NULL)
		openssl.BIO_free(own);
	return same;
}

/*
 * In CPython 3.11 to 3.15 the SSL is the second field of an _SSLSocket, and the BIO the
 * first of a MemoryBIO.  That is a guess until OpenSSL has said which BIOs the SSL has.
 */
SSL *openssl_inside(PyObject *socket, PyObject *incoming, PyObject *outgoing)
{
	/* Borrowed from the types themselves, which the interpreter keeps. */
	static const PyTypeObject *trusted;
	SSL *ssl = word_of(socket, 1);
	BIO *expected[2] = {word_of(incoming, 0), word_of(outgoing, 0)};

	if (ssl == NULL || expected[0] == NULL || expected[1] == NULL || openssl.SSL_read == NULL)
		return NULL;
	/* Objects of any other type are looked at each time, with care. */
	if (Py_TYPE(socket) != trusted &&
	    !(is_readable(ssl, LOOKED_AT_BYTES) && is_of_this_openssl(expected[0])))
		return NULL;
	if (openssl.SSL_get_rbio(ssl) != expected[0] || openssl.SSL_get_wbio(ssl) != expected[1])
		return NULL;
	trusted = Py_TYPE(socket);
	return ssl;
}
