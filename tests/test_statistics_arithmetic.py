"""uring_loop/_internal/statistics.py: percentiles, delays and differences, from numbers alone."""

import functools

import pytest

from uring_loop._internal import statistics

MS = 1_000_000


def test_nothing_yet_is_all_zero():
    found = statistics.of_turns(0, 0, 0, [])
    assert found["utilization"] == 0
    assert set(found["turns"].values()) == set(found["delay"].values()) == {0}


def test_turn_counts_once_and_its_delay_by_its_length():
    """One turn of 50 ms in a second of sleep, and a hundred of a microsecond."""
    found = statistics.of_turns(
        50 * MS + 100_000, 950 * MS - 100_000, 50 * MS, [[896, 100, 100_000], [1, 1, 50 * MS]]
    )
    assert found["turns"]["p50_ns"] == found["turns"]["p90_ns"] == 1000
    assert found["turns"]["max_ns"] == 50 * MS
    # One moment of twenty is in that turn; of these, four fifths wait for 10 ms or more.
    assert found["delay"]["p50_ns"] == found["delay"]["p90_ns"] == 0
    assert found["delay"]["p99_ns"] == pytest.approx(40 * MS)
    assert found["delay"]["mean_ns"] == pytest.approx(50 * MS / 20 / 2, rel=0.01)


def test_loop_that_never_sleeps_delays_by_half_a_turn():
    found = statistics.of_turns(1000 * MS, 0, 10 * MS, [[1, 100, 1000 * MS]])
    assert found["delay"]["p50_ns"] == pytest.approx(5 * MS)
    assert found["delay"]["mean_ns"] == pytest.approx(5 * MS)
    # Of what is spread evenly over 10 ms.
    assert found["delay"]["stddev_ns"] == pytest.approx(10 * MS / 12**0.5)
    assert found["turns"]["stddev_ns"] == 0


def test_difference_of_histograms_has_only_the_new_turns():
    before = {"time": statistics.of_turns(100, 100, 100, [[64, 1, 100]]), "turns": 1}
    after = {
        "time": statistics.of_turns(1100, 400, 500, [[64, 3, 300], [448, 1, 500], [192, 1, 200]]),
        "turns": 5,
    }
    found = statistics.difference(after, before)
    assert found["turns"] == 4
    assert found["time"]["histogram"] == [[64, 2, 200], [448, 1, 500], [192, 1, 200]]
    assert (found["time"]["busy_ns"], found["time"]["idle_ns"]) == (1000, 300)
    assert found["time"]["turns"]["max_ns"] == 500


def test_longest_turn_of_a_difference_is_not_an_earlier_one():
    before = {"time": statistics.of_turns(10_000, 0, 9000, [[8192, 1, 9000], [896, 1, 1000]])}
    after = {"time": statistics.of_turns(11_000, 0, 9000, [[8192, 1, 9000], [896, 2, 2000]])}
    assert statistics.difference(after, before)["time"]["turns"]["max_ns"] == 1000


def test_idle_time_of_a_difference_is_not_negative():
    before = {"time": statistics.of_turns(0, 1000, 0, [])}
    after = {"time": statistics.of_turns(900, 500, 0, [])}
    assert statistics.difference(after, before)["time"]["idle_ns"] == 0


def test_difference_of_counters_alone_is_of_these():
    assert statistics.difference({"turns": 5}, {"turns": 2}) == {"turns": 3}


def test_callback_wrapped_in_partials_is_named_by_the_function():
    def work():
        raise NotImplementedError

    wrapped = functools.partial(functools.partial(work), 1)
    assert statistics.name_of(wrapped) == statistics.name_of(work)
    assert statistics.name_of(work).endswith("<locals>.work")
