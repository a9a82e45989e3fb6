/*
 * Owns the sessions, their certificate and the memory of what they send.
 *
 * A BIO hands OpenSSL the bytes where the kernel has put them, another one takes
 * its records into memory that grows to what a connection once needed.
 */
#include "floor_tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD = 16 << 10, TEXT = 1 << 20, DAY = 24 * 60 * 60 };

struct output {
	char *bytes;
	size_t size, room;
};

struct session {
	SSL *ssl;
	const char *arrived;
	size_t left;
	struct output filling, leaving;
	size_t sent; /* of what is leaving */
};

static SSL_CTX *context;
static BIO_METHOD *method;
static char text[TEXT];

static void fail(const char *what)
{
	printf("{\"error\": \"floor: %s: %s\"}\n", what, ERR_reason_error_string(ERR_get_error()));
	exit(1);
}

static int bio_read(BIO *bio, char *bytes, int room)
{
	struct session *session = BIO_get_data(bio);
	size_t size = session->left < (size_t)room ? session->left : (size_t)room;

	BIO_clear_retry_flags(bio);
	if (!size) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(bytes, session->arrived, size);
	session->arrived += size;
	session->left -= size;
	return (int)size;
}

static int bio_write(BIO *bio, const char *bytes, int size)
{
	struct session *session = BIO_get_data(bio);
	struct output *output = &session->filling;

	if (output->room - output->size < (size_t)size) {
		output->room = 2 * output->room + (size_t)size;
		output->bytes = realloc(output->bytes, output->room);
		if (!output->bytes)
			fail("memory");
	}
	memcpy(output->bytes + output->size, bytes, (size_t)size);
	output->size += (size_t)size;
	return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* ECDSA P-256, signed by itself, as good as any: the load looks at bytes only. */
static void certify(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	if (!key || !certificate || !X509_set_version(certificate, 2) ||
	    !ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) ||
	    !X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY) ||
	    !X509_gmtime_adj(X509_getm_notAfter(certificate), DAY) ||
	    !X509_set_pubkey(certificate, key) || !X509_sign(certificate, key, EVP_sha256()) ||
	    SSL_CTX_use_certificate(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey(context, key) != 1)
		fail("certificate");
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void set_up(void)
{
	context = SSL_CTX_new(TLS_server_method());
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "floor");
	if (!context || !method || !BIO_meth_set_read(method, bio_read) ||
	    !BIO_meth_set_write(method, bio_write) || !BIO_meth_set_ctrl(method, bio_control))
		fail("set up");
	certify();
}

struct session *session_open(void)
{
	struct session *session = calloc(1, sizeof(*session));
	BIO *bio;

	if (!context)
		set_up();
	bio = BIO_new(method);
	if (!session || !bio || !(session->ssl = SSL_new(context)))
		fail("session");
	BIO_set_data(bio, session);
	BIO_set_init(bio, 1);
	SSL_set_bio(session->ssl, bio, bio);
	SSL_set_accept_state(session->ssl);
	return session;
}

void session_close(struct session *session)
{
	SSL_free(session->ssl);
	free(session->filling.bytes);
	free(session->leaving.bytes);
	free(session);
}

bool session_echo(struct session *session, const char *bytes, size_t size)
{
	size_t got = 0;
	int answer, error;

	session->arrived = bytes;
	session->left = size;
	while ((answer = SSL_read(session->ssl, text + got, RECORD)) > 0) {
		got += (size_t)answer;
		if (got > TEXT - RECORD) {
			if (SSL_write(session->ssl, text, (int)got) != (int)got)
				return false;
			got = 0;
		}
	}
	error = SSL_get_error(session->ssl, answer);
	ERR_clear_error();
	if (got && SSL_write(session->ssl, text, (int)got) != (int)got)
		return false;
	return error == SSL_ERROR_WANT_READ;
}

size_t session_output(struct session *session, const char **bytes)
{
	struct output empty = session->leaving;

	if (session->sent == session->leaving.size) {
		session->leaving = session->filling;
		session->filling = empty;
		session->filling.size = 0;
		session->sent = 0;
	}
	*bytes = session->leaving.bytes + session->sent;
	return session->leaving.size - session->sent;
}

void session_sent(struct session *session, size_t size)
{
	session->sent += size;
}
