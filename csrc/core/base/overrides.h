/* Methods of a loop that are not the core's own: found by one comparison, as a rule. */
#ifndef UL_OVERRIDES_H
#define UL_OVERRIDES_H

#include "../loop.h"

/* The methods that the core goes around, as long as they are its own. */
enum {
	OVERRIDES_TIME = 1 << 0,
	OVERRIDES_CALL_SOON = 1 << 1,
	OVERRIDES_CALL_AT = 1 << 2,
	OVERRIDES_CREATE_FUTURE = 1 << 3,
};

/* Takes the core's own out of all methods of its type. */
void overrides_init(const PyMethodDef *methods);

/* Finds them out and notes the type's version; for loop_overrides(). */
unsigned loop_find_overrides(Loop *loop);

/*
 * CPython gives a type another version whenever it, or a base of it, is changed;
 * loop_setattro() sees what is set on the loop itself.
 */
static inline unsigned loop_overrides(Loop *loop)
{
	if (likely(loop->overrides.version == Py_TYPE(loop)->tp_version_tag))
		return loop->overrides.found;
	return loop_find_overrides(loop);
}

/* loop.create_future(), of any loop. */
PyObject *loop_make_future(PyObject *loop);

#endif
