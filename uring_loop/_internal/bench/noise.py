"""Which differences count: how a loop compares, and what the same loop measured twice says of it.

Owns the arithmetic of ratios and the rule that calls a difference. Knows no loop and no row.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Of two rounds both would lie on one side too often: one time in thirteen.
LEAST_ROUNDS = 3
# From so many rounds on the lowest and the highest sixth are left out, or one bad round of many
# would decide.
LEFT_OUT = 6

LESS, MORE, SAME = "less", "more", "same"


@dataclass(frozen=True)
class Ratio:
    """How a loop compares with another: median over rounds, and between what the rounds lie."""

    median: float
    low: float
    high: float
    rounds: int


def of_pairs(pairs: Sequence[float]) -> Ratio:
    """The ratio that a quotient of each round makes."""
    ordered = sorted(pairs)
    left_out = len(ordered) // LEFT_OUT
    return Ratio(
        statistics.median(ordered),
        ordered[left_out],
        ordered[-1 - left_out],
        len(ordered),
    )


def ratio(values: Sequence[float], others: Sequence[float]) -> Ratio:
    """Compare round by round; rounds are paired, so slow spells cancel."""
    return of_pairs([value / other for value, other in zip(values, others, strict=False)])


def factor(control: Ratio) -> float:
    """How far one loop, measured twice, was from itself; of which of the two is chance."""
    return max(control.high, 1 / control.low)


def verdict(compared: Ratio, control: Ratio | None) -> str:
    """LESS or MORE where no round lies within the noise, else SAME.

    control: the ratio of a loop to itself, measured in the same rounds; None if there is none.
    What reads as noise is everything between that and its inverse. For two loops that are the
    same, values that vary independently are called different in one comparison of a hundred
    with three rounds, and in far fewer with more.
    """
    if control is None or min(compared.rounds, control.rounds) < LEAST_ROUNDS:
        return SAME
    noise = factor(control)
    if compared.high < 1 / noise:
        return LESS
    if compared.low > noise:
        return MORE
    return SAME
