/*
 * The attributes of a class's instances in their dictionaries, by their places there: to look
 * them up by name, two dozen for each message, would cost a fifth of a stream's instructions.
 *
 * Instances of one class share the keys of their dictionaries; each has an array of values,
 * where a name's slot is the same in all.  That is CPython's own, and tried out on a sample
 * at import: where it is not as expected, and for an instance that has keys of its own, the
 * public PyDict_Next() is used, from the position where the name was found last.
 */
#ifndef UL_ATTRIBUTES_H
#define UL_ATTRIBUTES_H

#include "../base/py.h"

/* Of one name. */
struct place {
	Py_ssize_t position;  /* PyDict_Next()'s, where it was found last */
	Py_ssize_t slot;      /* among shared keys, counted from 1; 0: not known */
};

/* Of one class. */
struct layout {
	PyObject *sample;     /* owned or NULL; a dictionary that keeps `keys` */
	const void *keys;     /* what instances share, or NULL: nothing is known of it */
};

struct named_place {
	PyObject *const *name;
	struct place *place;
};

/* Before the array of values (pycore_dict.h, struct _dictvalues). */
#define VALUES_HEAD (PY_VERSION_HEX >= 0x030D0000 ? sizeof(void *) : 0)

static inline PyObject **attribute_values(PyObject *attributes)
{
	return (PyObject **)((char *)((PyDictObject *)attributes)->ma_values + VALUES_HEAD);
}

/* Takes the layout of a sample's dictionary, and finds the slots of some of its names. */
int layout_take(struct layout *self, PyObject *sample, const struct named_place *places,
                size_t count);

PyObject *attribute_search(PyObject *attributes, PyObject *name, struct place *place);

/* An attribute, borrowed, or NULL without an exception. */
static inline PyObject *attribute_at(const struct layout *layout, PyObject *attributes,
                                     PyObject *name, struct place *place)
{
	const PyDictObject *dict = (const PyDictObject *)attributes;
	PyObject *value;

	if (likely(dict->ma_keys == layout->keys && dict->ma_values != NULL && place->slot > 0)) {
		value = attribute_values(attributes)[place->slot - 1];
		if (likely(value != NULL))
			return value;
	}
	return attribute_search(attributes, name, place);
}

/* Whether an attribute is true (1), or false (0); -1: it is not there, or neither. */
static inline int as_flag(const PyObject *value)
{
	if (likely(value == Py_False))
		return 0;
	return value == Py_True ? 1 : -1;
}

#endif
