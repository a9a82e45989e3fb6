/*
 * asyncio's StreamReader, StreamWriter and StreamReaderProtocol, and the classes that
 * uring_loop/stream_classes.py has made of them, whose hot methods are ours.
 *
 * The ways around a class's methods are open only while it is plain: every method and
 * attribute of asyncio's class is what it was when ours was made of it.
 */
#ifndef UL_CLASSES_H
#define UL_CLASSES_H

#include "../base/py.h"

struct stream_class {
	PyTypeObject *asyncio; /* owned, or NULL: nothing is made of it */
	PyTypeObject *own;     /* owned; a subclass of that, of the same layout */
	PyObject *names;       /* owned tuple: the methods of both, state's names excepted */
	PyObject *found;       /* owned tuple: what they were in asyncio's */
	PyObject *found_own;   /* owned tuple: and in ours */
	PyObject *state;       /* owned tuple: names of the instances' attributes */
	Py_ssize_t usual;      /* as many attributes has an instance, unless somebody set more */
	PyObject *optional;    /* owned; one more that some have */
	Py_ssize_t optional_place;
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

/*
 * Where in the dictionaries of a class's instances the attributes were found last.  The
 * code of asyncio that makes them always sets them in the same order.
 */
struct reader_places {
	Py_ssize_t _limit, _loop, _buffer, _eof, _waiter, _exception, _transport, _paused;
};
struct writer_places {
	Py_ssize_t _transport, _protocol, _reader;
};
struct protocol_places {
	Py_ssize_t _paused, _connection_lost, _stream_reader_wr, _client_connected_cb;
};
extern struct reader_places reader_places;
extern struct writer_places writer_places;
extern struct protocol_places protocol_places;

PyObject *attribute_search(PyObject *attributes, PyObject *name, Py_ssize_t *place);

/* An attribute, borrowed, or NULL without an exception: by a guess of its place. */
static inline PyObject *attribute_at(PyObject *attributes, PyObject *name, Py_ssize_t *place)
{
	Py_ssize_t position = *place;
	PyObject *key, *value;

	if (likely(PyDict_Next(attributes, &position, &key, &value) && key == name))
		return value;
	return attribute_search(attributes, name, place);
}

#define reader_attribute(attributes, name) \
	attribute_at(attributes, names.name, &reader_places.name)
#define writer_attribute(attributes, name) \
	attribute_at(attributes, names.name, &writer_places.name)
#define protocol_attribute(attributes, name) \
	attribute_at(attributes, names.name, &protocol_places.name)

/* Whether an attribute is true (1), or false (0); -1: it is not there, or neither. */
static inline int as_flag(const PyObject *value)
{
	return likely(value == Py_False) ? 0 : value == Py_True ? 1
	                                                        : -1;
}

/* Make an exact instance of asyncio's one of ours, if it is `loop`'s; 0 or -1. */
int stream_class_adopt(struct stream_class *self, PyObject *instance, PyObject *loop);

/*
 * A protocol is given to a transport of `loop`: when it is exactly asyncio's, and made
 * for this loop, it and its reader become instances of ours.  0; -1 with an exception.
 */
int streams_adopt(PyObject *protocol, PyObject *loop);

extern PyMethodDef stream_functions[]; /* of the module */

#endif
