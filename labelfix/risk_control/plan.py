"""What to draw: the size of a list and of its nested sets, and the chance of a promise, from confidences alone.

The choice decides how much is promised, never whether a promise holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from labelfix.risk_control.promise import most_wrong

__all__ = ["GOOD_CHANCE", "Plan", "choose_list", "nested_sizes", "plans", "recommended"]

# Plans assume more errors than the confidences state, and a few at least: the most confident predictions may be
# overconfident, and a promise that fails costs more than a smaller one.
OVERCONFIDENCE, LEAST_ERROR = 1.5, 0.002
GROWTH = 1.1
# A list with fewer rows left per drawn one than this is worth less; one with more than this is hardly sampled.
LEFT_PER_ROW, MOST_PER_ROW = 2, 2000
# The first set expects so many drawn rows at least, and so many times what a set without any wrong label needs.
FIRST_ROWS, FIRST_SET = 60, 1.2
# Sets whose chances differ by less are as likely to pass.
AS_LIKELY = 0.005
# Counts of rows in the table of plans; the chance from which on one is recommended, and below which none is.
COUNTS = (50, 100, 200, 300, 500, 1000, 2000, 5000)
GOOD_CHANCE, NO_CHANCE = 0.8, 0.05


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A list of the `size` most confident rows of which `drawn` are verified, and the chance to promise it."""

    drawn: int
    size: int
    chance: float


def choose_list(confidence: np.ndarray, drawn: int, max_error: float, level: float) -> Plan:
    """Return the list whose promise is worth most: the chance times the square root of what it covers.

    Parameters
    ----------
    confidence
        (m,) descending.
    drawn
        n, how many rows are verified.
    """
    drawn = min(drawn, len(confidence))
    most = min(len(confidence), MOST_PER_ROW * drawn)
    sizes = {min(math.ceil(drawn * GROWTH**step), most) for step in range(200)}
    errors = np.cumsum(1 - confidence.astype(np.float64))
    best, highest = Plan(drawn=drawn, size=most, chance=0.0), 0.0
    for size in sorted(sizes):
        chance = _chance(size, drawn, errors[size - 1] / size, max_error, level)
        left = size - drawn
        value = chance * math.sqrt(left) * min(left / (LEFT_PER_ROW * drawn), 1.0)
        if value > highest:
            best, highest = Plan(drawn=drawn, size=size, chance=chance), value
    return best


def nested_sizes(
    confidence: np.ndarray, size: int, drawn: int, max_error: float, level: float
) -> tuple[int, ...]:
    """Return the sizes of the nested sets of a list, ascending; the last one is the whole list.

    The first set is the largest one that is as likely to pass as any.

    Parameters
    ----------
    confidence
        (at least `size`,) descending.
    size, drawn
        L, and n: a set of s rows expects n s / L of the drawn ones.
    """
    if not size or not drawn:
        return ()
    least = max(FIRST_SET * math.log(level) / math.log1p(-max_error), FIRST_ROWS)
    first = min(math.ceil(least * size / drawn), size)
    sizes = sorted({min(math.ceil(first * GROWTH**step), size) for step in range(200)})
    errors = np.cumsum(1 - confidence[:size].astype(np.float64))
    chances = [_chance(s, round(drawn * s / size), errors[s - 1] / s, max_error, level) for s in sizes]
    start = int(np.flatnonzero(np.array(chances) >= max(chances) - AS_LIKELY)[-1])
    return tuple(sizes[start:])


def plans(confidence: np.ndarray, max_error: float, level: float, asked: int) -> list[Plan]:
    """Return what may be promised after how many rows, `asked` among them, where there are as many fixes."""
    counts = sorted({asked, *COUNTS})
    return [
        choose_list(confidence, count, max_error, level)
        for count in counts
        if count == asked or 2 * count <= len(confidence)
    ]


def recommended(options: Sequence[Plan]) -> Plan | None:
    """Return the plan with the fewest rows that has a good chance, else the likeliest; None if all are hopeless."""
    good = [plan for plan in options if plan.chance >= GOOD_CHANCE and plan.size >= LEFT_PER_ROW * plan.drawn]
    best = good[0] if good else max(options, key=lambda plan: plan.chance)
    return best if best.chance >= NO_CHANCE else None


def _chance(size: int, drawn: int, stated: float, max_error: float, level: float) -> float:
    """Return about the chance that a set passes after all its drawn rows, if `stated` of its labels are wrong."""
    error = min(OVERCONFIDENCE * stated + LEAST_ERROR, 1.0)
    limit = most_wrong(max_error, size)
    allowed = int(stats.hypergeom.ppf(level, size, limit + 1, drawn))
    allowed -= stats.hypergeom.cdf(allowed, size, limit + 1, drawn) > level
    return float(stats.binom.cdf(allowed, drawn, error)) if allowed >= 0 else 0.0
