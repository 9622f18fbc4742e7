"""When a list passes: an exact test that stays valid while a person verifies row after row.

A list of L labels may hold at most b wrong ones. n of its rows are drawn in random order, and after every ten of
them, and after the last, the list passes if at most c_t of the first t were wrong. With b + 1 wrong labels in the
list, row t + 1 is wrong with probability (b + 1 - k) / (L - t), where k of the first t were. Going through t and k
with it gives the exact probability that such a list has passed by row t, and c_t is the largest number that keeps
this at most level * (t / n)^3: alpha spending (Lan & DeMets 1983, "Discrete sequential boundaries for clinical
trials"; the power family of Kim & DeMets 1987). A list with more wrong labels passes less often, so that b + 1 is
the worst case.
"""

import functools

import numpy as np
from scipy import stats

__all__ = ["LOOK_EVERY", "boundary", "passing_chance"]

LOOK_EVERY = 10
POWER = 3


@functools.lru_cache(maxsize=4096)
def boundary(size: int, drawn: int, most_wrong: int, level: float) -> np.ndarray:
    """Return how many of the first t drawn rows may be wrong, (n + 1,) int64 by t; -1 where the list cannot pass.

    Parameters
    ----------
    size, drawn
        L and n.
    most_wrong
        b, the most wrong labels that the list may hold.
    level
        The most that the probability of passing may be for a list that holds more.
    """
    allowed = np.full(drawn + 1, -1)
    if most_wrong < size:
        most = (
            int(stats.hypergeom.ppf(level, size, most_wrong + 1, drawn)) + 1
        )  # no test at this level allows more
        spent = 0.0
        for t, waiting in _steps(size, drawn, most_wrong + 1, most):
            if not _is_look(t, drawn):
                continue
            risk = spent + np.cumsum(waiting)
            allowed[t] = np.searchsorted(risk, level * (t / drawn) ** POWER, side="right") - 1
            if allowed[t] >= 0:
                spent = float(risk[allowed[t]])
                waiting[: allowed[t] + 1] = 0.0
    allowed.flags.writeable = False
    return allowed


def passing_chance(size: int, wrong: int, allowed: np.ndarray) -> float:
    """Return the probability that a list with so many wrong labels passes at some look.

    Parameters
    ----------
    size, wrong
        L, and how many of its labels are wrong.
    allowed
        (n + 1,) from `boundary`.
    """
    drawn, passed = len(allowed) - 1, 0.0
    for t, waiting in _steps(size, drawn, wrong, int(allowed.max())):
        passed += float(waiting[: allowed[t] + 1].sum())
        waiting[: allowed[t] + 1] = 0.0
    return passed


def _is_look(t: int, drawn: int) -> bool:
    return t % LOOK_EVERY == 0 or t == drawn


def _steps(size: int, drawn: int, wrong: int, most: int):  # type: ignore[no-untyped-def]
    """Yield t and the probabilities, by k up to `most`, that k of t rows are wrong and the list has not passed.

    What is set to 0 in them has passed and does not go on.
    """
    found = np.arange(most + 1)
    waiting = np.zeros(most + 1)
    waiting[:1] = 1.0
    for t in range(1, drawn + 1):
        hit = waiting * np.clip((wrong - found) / (size - t + 1), 0.0, 1.0)
        waiting -= hit
        waiting[1:] += hit[:-1]
        yield t, waiting
