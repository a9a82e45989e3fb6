/*
 * OpenSSL as it is in the process: functions of the libssl that Python's _ssl uses.
 *
 * They are looked up in what _ssl is linked with, so nothing of OpenSSL is needed to
 * build, and no version of it is ours to keep.  The prototypes are those of its manual.
 */
#ifndef UL_OPENSSL_H
#define UL_OPENSSL_H

#include "../base/py.h"

typedef struct ssl_st SSL;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;

#define OPENSSL_FUNCTIONS(X) \
	X(int, SSL_read, (SSL *, void *, int)) \
	X(int, SSL_write, (SSL *, const void *, int)) \
	X(int, SSL_pending, (const SSL *)) \
	X(int, SSL_has_pending, (const SSL *)) \
	X(int, SSL_get_error, (const SSL *, int)) \
	X(int, SSL_want, (const SSL *)) \
	X(BIO *, SSL_get_rbio, (const SSL *)) \
	X(BIO *, SSL_get_wbio, (const SSL *)) \
	X(void, SSL_set_bio, (SSL *, BIO *, BIO *)) \
	X(int, BIO_get_new_index, (void)) \
	X(BIO_METHOD *, BIO_meth_new, (int, const char *)) \
	X(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int))) \
	X(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int))) \
	X(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \
	X(int, BIO_meth_set_destroy, (BIO_METHOD *, int (*)(BIO *))) \
	X(BIO *, BIO_new, (const BIO_METHOD *)) \
	X(const BIO_METHOD *, BIO_s_mem, (void)) \
	X(const char *, BIO_method_name, (const BIO *)) \
	X(int, BIO_free, (BIO *)) \
	X(void, BIO_set_data, (BIO *, void *)) \
	X(void *, BIO_get_data, (BIO *)) \
	X(void, BIO_set_init, (BIO *, int)) \
	X(void, BIO_set_flags, (BIO *, int)) \
	X(void, BIO_clear_flags, (BIO *, int)) \
	X(void, ERR_clear_error, (void))

/* How an error is put into a thread's queue: since 3.0, and before; the other is NULL. */
#define OPENSSL_ERROR_FUNCTIONS(X) \
	X(void, ERR_new, (void)) \
	X(void, ERR_set_error, (int, int, const char *, ...)) \
	X(void, ERR_put_error, (int, int, int, const char *, int))

struct openssl {
#define DECLARE_FUNCTION(result, name, arguments) result (*name) arguments;
	OPENSSL_FUNCTIONS(DECLARE_FUNCTION)
	OPENSSL_ERROR_FUNCTIONS(DECLARE_FUNCTION)
#undef DECLARE_FUNCTION
};
extern struct openssl openssl;

/* Of openssl/ssl.h and openssl/bio.h, the same in every version since 1.1.0. */
#define OPENSSL_READING 3           /* of SSL_want() */
#define OPENSSL_ERROR_ZERO_RETURN 6
#define OPENSSL_BIO_RETRY_READ 0x09 /* BIO_FLAGS_SHOULD_RETRY, BIO_FLAGS_READ */
#define OPENSSL_BIO_STATE 0x0f      /* these and BIO_FLAGS_WRITE, BIO_FLAGS_IO_SPECIAL */
#define OPENSSL_BIO_CTRL_PENDING 10
#define OPENSSL_BIO_CTRL_FLUSH 11
#define OPENSSL_BIO_SOURCE_SINK 0x0400

/* Find the functions in what the module at `path` is linked with.  NULL, or why not. */
const char *openssl_find(const char *path);
/* For a BIO that found no memory: without an error in the queue it would be one to call again. */
void openssl_tell_no_memory(void);
/*
 * The SSL (borrowed) inside of an _ssl._SSLSocket that was made with these two
 * MemoryBIOs; NULL without an exception when it is not where it is expected.
 */
SSL *openssl_inside(PyObject *socket, PyObject *incoming, PyObject *outgoing);

#endif
