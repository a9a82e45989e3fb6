"""What the core's internal entry points refuse, and that they refuse it before anything else."""

import asyncio
import errno
import os
from unittest import mock

import pytest

from uring_loop import _core

TOO_LARGE = 1 << 32


class Shrinking:
    """It says that it is a handle, and takes the last one out of the list that it is in."""

    def __init__(self, handles):
        self.handles = handles

    @property
    def __class__(self):
        del self.handles[1:]
        return asyncio.Handle


def shrinking():
    handles = []
    handles.extend([Shrinking(handles), Shrinking(handles)])
    return handles


def made_by_another_loop():
    return asyncio.TimerHandle(0, print, (), mock.Mock(get_debug=bool))


REFUSED = [
    ("_append_ready", lambda: (object(),), TypeError, "a handle of this loop"),
    ("_set_ready", lambda: ((),), TypeError, "a list of handles"),
    ("_set_ready", lambda: ([print],), TypeError, "a handle of this loop"),
    ("_set_ready", lambda: (shrinking(),), RuntimeError, "changed while it was read"),
    ("_set_timers", lambda: ((),), TypeError, "a list of timers"),
    ("_set_timers", lambda: ([made_by_another_loop()],), TypeError, "this loop's call_at()"),
    ("_hand_over", tuple, TypeError, "takes a callback"),
    ("_request", lambda: (print, None, (0, 3, 0, 0, TOO_LARGE, 0)), OverflowError, "32 bits"),
    ("_request", lambda: (print, None, (0, 3, -1, 0, 0, 0)), OverflowError, ""),
]


@pytest.mark.parametrize(("method", "arguments", "kind", "words"), REFUSED)
def test_core_arguments_that_a_loop_refuses_change_nothing(sim, method, arguments, kind, words):
    handle, timer = sim.loop.call_soon(print), sim.loop.call_later(1, print)
    with pytest.raises(kind) as caught:
        getattr(sim.loop, method)(*arguments())
    assert words in str(caught.value)
    assert sim.loop._get_ready() == [handle]
    assert sim.loop._get_timers() == [timer]
    assert sim.driver.operations == {}


@pytest.mark.parametrize(
    ("function", "arguments", "kind"),
    [
        (_core.Opened, (1,), TypeError),
        (_core.file_status_now, (-1,), OverflowError),
        (_core.file_status_now, (1 << 31,), OverflowError),
        (_core.file_status_now, (1 << 64,), OverflowError),
        (_core.file_is_local, ("text",), TypeError),
        (_core.file_close_now, (-1,), OverflowError),
        (_core.set_helpers, (), TypeError),
        (_core.set_helpers, (1,), TypeError),
    ],
)
def test_core_arguments_that_functions_of_the_module_refuse(function, arguments, kind):
    with pytest.raises(kind):
        function(*arguments)


def test_core_arguments_of_set_helpers_under_other_names_are_refused():
    with pytest.raises(TypeError, match=r"exactly (\d+) keyword") as caught:
        _core.set_helpers(handle_class=asyncio.Handle)
    count = int(str(caught.value).split()[3])
    with pytest.raises(TypeError, match="needs handle_class"):
        _core.set_helpers(**{f"unknown_{number}": print for number in range(count)})


def test_core_arguments_of_a_number_that_names_no_file_are_answered_as_the_kernel_does():
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    assert _core.file_is_local(number) is False
    assert _core.file_close_now(number) is False
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        _core.file_status_now(number)


def test_core_arguments_for_a_closed_loop_are_refused(sim):
    sim.loop._close()
    with pytest.raises(RuntimeError, match="closed"):
        sim.loop._hand_over(print)
