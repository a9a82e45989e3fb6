/*
 * asyncio's StreamReader, StreamWriter and StreamReaderProtocol, and the classes that
 * uring_loop/_internal/stream_classes.py has made of them, whose hot methods are ours.
 *
 * The ways around a class's methods are open only while it is plain: every method and
 * attribute of asyncio's class is what it was when ours was made of it.
 */
#ifndef UL_CLASSES_H
#define UL_CLASSES_H

#include "attributes.h"

struct stream_class {
	PyTypeObject *asyncio; /* owned, or NULL: nothing is made of it */
	PyTypeObject *own;     /* owned; a subclass of that, of the same layout */
	PyObject *names;       /* owned tuple: the methods of both, state's names excepted */
	PyObject *found;       /* owned tuple: what they were in asyncio's */
	PyObject *found_own;   /* owned tuple: and in ours */
	PyObject *state;       /* owned tuple: names of the instances' attributes */
	Py_ssize_t usual;      /* as many attributes has an instance, unless somebody set more */
	struct layout layout;  /* of those */
	uint64_t version;      /* of our type, when it was looked at */
	bool plain;            /* and what was found */
};

extern struct stream_class reader_class, writer_class, protocol_class;

/* Looks at the class again. */
bool stream_class_look(struct stream_class *self);

/* Whether nobody has replaced anything. */
static inline bool stream_class_is_plain(struct stream_class *self)
{
	/* CPython gives a type another version whenever it or a base of it is changed. */
	if (likely(self->own->tp_version_tag == self->version))
		return self->plain;
	return stream_class_look(self);
}

/*
 * The attributes of an instance of ours whose methods may be gone around, an owned
 * dictionary; NULL, without an exception: it is not one, or has methods of its own.
 */
PyObject *stream_class_open(struct stream_class *self, PyObject *instance);

/* Where the attributes stand that C looks at. */
struct reader_places {
	struct place _limit, _loop, _buffer, _eof, _waiter, _exception, _transport, _paused;
};
struct writer_places {
	struct place _transport, _protocol, _reader;
};
struct protocol_places {
	struct place _paused, _connection_lost, _stream_reader_wr, _client_connected_cb;
	struct place _strong_reader;
};
extern struct reader_places reader_places;
extern struct writer_places writer_places;
extern struct protocol_places protocol_places;

/* An attribute of an instance of ours, borrowed, or NULL without an exception. */
#define reader_attribute(attributes, name) \
	attribute_at(&reader_class.layout, attributes, names.name, &reader_places.name)
#define writer_attribute(attributes, name) \
	attribute_at(&writer_class.layout, attributes, names.name, &writer_places.name)
#define protocol_attribute(attributes, name) \
	attribute_at(&protocol_class.layout, attributes, names.name, &protocol_places.name)

/* Make an exact instance of asyncio's one of ours, if it is `loop`'s; 0 or -1. */
int stream_class_adopt(struct stream_class *self, PyObject *instance, PyObject *loop);

/*
 * A protocol is given to a transport of `loop`: when it is exactly asyncio's, and made
 * for this loop, it and its reader become instances of ours.  0; -1 with an exception.
 */
int streams_adopt(PyObject *protocol, PyObject *loop);

extern PyMethodDef stream_functions[]; /* of the module */

#endif
