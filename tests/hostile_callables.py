"""Callables that come back: for whatever is a hostile caller, on a real loop or a fake driver."""


class Nothing:
    """A callback that somebody watches the end of."""

    def __call__(self):
        pass


def at_end(strike):
    """A callback that strikes when it is freed, or asked what it is."""

    class AtEnd:
        def __del__(self):
            strike()

        def __repr__(self):
            strike()
            return "hostile"

        def __call__(self, *ignored):
            pass

    return AtEnd()
