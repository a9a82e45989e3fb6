/* Where the attributes of instances are: found once, by a sample, and again where not. */
#include "attributes.h"

PyObject *attribute_search(PyObject *attributes, PyObject *name, struct place *place)
{
	Py_ssize_t position = place->position, before = 0;
	PyObject *key, *value;

	if (likely(PyDict_Next(attributes, &position, &key, &value) && key == name))
		return value;
	position = 0;
	while (PyDict_Next(attributes, &position, &key, &value)) {
		if (key == name) {
			place->position = before;
			return value;
		}
		before = position;
	}
	/* Not there, or under a name that is only equal. */
	return PyDict_GetItemWithError(attributes, name);
}

/* The slot of a name of the sample, by a value that no other has; 0: there is none. */
static int slot_find(struct layout *self, PyObject *name, Py_ssize_t *slot)
{
	PyDictObject *dict = (PyDictObject *)self->sample;
	PyObject *old = Py_XNewRef(PyDict_GetItemWithError(self->sample, name));
	PyObject *unique = old == NULL ? NULL : PyList_New(0);
	Py_ssize_t i;
	int status = 0;

	*slot = 0;
	if (unique != NULL)
		status = PyDict_SetItem(self->sample, name, unique);
	if (unique != NULL && status == 0 && dict->ma_keys == self->keys &&
	    dict->ma_values != NULL) {
		/* As many slots as it has attributes there are, at least. */
		for (i = 0; i < dict->ma_used && *slot == 0; i++) {
			if (attribute_values(self->sample)[i] == unique)
				*slot = i + 1;
		}
		status = PyDict_SetItem(self->sample, name, old);
	}
	Py_XDECREF(unique);
	Py_XDECREF(old);
	return PyErr_Occurred() ? -1 : status;
}

int layout_take(struct layout *self, PyObject *sample, const struct named_place *places,
                size_t count)
{
	const PyDictObject *dict = (const PyDictObject *)sample;
	size_t i;

	Py_XSETREF(self->sample, Py_NewRef(sample));
	self->keys = dict->ma_values == NULL ? NULL : dict->ma_keys;
	for (i = 0; i < count; i++) {
		places[i].place->slot = 0;
		if (self->keys != NULL &&
		    slot_find(self, *places[i].name, &places[i].place->slot) < 0)
			return -1;
	}
	return 0;
}
