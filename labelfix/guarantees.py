"""Which fixes can be promised: a confidence threshold above which few of the automatic fixes are wrong.

Fixes are suspects with a confidence of at least t. Held-out trusted rows with the same property are a random sample
of them, so an exact test says whether more than `max_fix_error` of the fixes on the other rows may be wrong.
Thresholds are tested as in Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) by fixed sequences: from
a few starting points, which depend on how many trusted rows there are but not on their truth, each sequence goes
on to lower thresholds until its first failure; the starting points share the allowed risk. So the promise as a
whole fails with probability at most 1 - coverage over the draw of the trusted rows.

n held-out trusted rows that are suspects, of which k have a wrong fix; N_fix fixes on rows that are not trusted.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Guarantee", "find_guarantee"]

# A sequence starts where so many trusted rows are above the threshold, in units of the least that could pass with
# no wrong fix among them: the first finds small clean sets, the others tolerate some wrong fixes; and its share of
# the risk.
STARTS = ((1.0, 0.5), (1.7, 0.25), (3.0, 0.25))
GROWTH = 1.2
EQUAL = 1e-9


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is promised of the automatic fixes.

    Attributes
    ----------
    max_fix_error, coverage
        At most this share of the fixes is wrong, with this confidence.
    threshold
        Suspects of at least this confidence are fixed; None where nothing can be promised.
    fixes
        How many rows that is, trusted ones aside.
    rows, wrong
        Held-out trusted rows above the threshold, and how many of them have a wrong fix; where nothing is
        promised, of the best set that was tested.
    rows_needed
        About how many more random trusted rows would make a promise possible; 0 where one is made, None where
        even the most confident suspects are likely wrong too often.
    """

    max_fix_error: float
    coverage: float
    threshold: float | None
    fixes: int
    rows: int
    wrong: int
    rows_needed: int | None


def find_guarantee(
    confidence: np.ndarray,
    wrong: np.ndarray,
    weight: np.ndarray,
    others: np.ndarray,
    *,
    trusted: int,
    rows: int,
    max_fix_error: float,
    coverage: float,
) -> Guarantee:
    """Return the lowest threshold whose fixes can be promised.

    Parameters
    ----------
    confidence, wrong, weight
        (n,) of the held-out trusted rows that are suspects: probability of the predicted label, whether it is
        wrong, weight of the row. Equal weights are tested exactly against the finite set of fixes
        (hypergeometric); else the binomial test is taken at the effective number of rows.
    others
        Confidence of all other suspects.
    trusted, rows
        M, how many trusted rows were drawn in all, and how many rows are not trusted.
    max_fix_error, coverage
        What is to be promised.
    """
    order = np.lexsort((wrong, -confidence))
    confidence, wrong, weight = confidence[order].astype(np.float64), wrong[order], weight[order]
    others = np.sort(others.astype(np.float64))
    clean = np.zeros(len(wrong), bool)
    best: int | None = None
    least = len(confidence)
    for factor, part in STARTS:
        risk = part * (1 - coverage)
        first = _first_that_could_pass(confidence, clean, weight, others, max_fix_error, risk)
        least = min(least, first)
        for count in _sequence(math.ceil(factor * first), confidence):
            if _chance(count, confidence, wrong, weight, others, max_fix_error) > risk:
                break
            best = max(best or 0, count)
    shown = best or min(least, len(confidence))
    risk = STARTS[0][1] * (1 - coverage)
    threshold = float(confidence[best - 1]) if best else None
    return Guarantee(
        max_fix_error=max_fix_error,
        coverage=coverage,
        threshold=threshold,
        fixes=0 if threshold is None else int(len(others) - np.searchsorted(others, threshold)),
        rows=shown,
        wrong=int(wrong[:shown].sum()),
        rows_needed=0 if best else _rows_needed(others, rows, trusted, max_fix_error, risk),
    )


def _first_that_could_pass(
    confidence: np.ndarray,
    clean: np.ndarray,
    weight: np.ndarray,
    others: np.ndarray,
    max_fix_error: float,
    risk: float,
) -> int:
    """Return the least count that would pass with no wrong fix; one more than there are where none would."""
    for count in range(math.floor(math.log(risk) / math.log1p(-max_fix_error)), len(confidence) + 1):
        if _chance(count, confidence, clean, weight, others, max_fix_error) <= risk:
            return count
    return len(confidence) + 1


def _sequence(first: int, confidence: np.ndarray) -> list[int]:
    """Return growing counts of rows above a threshold, moved on so that no tie is cut."""
    counts: list[int] = []
    count = float(first)
    while counts[-1:] != [len(confidence)] and first <= len(confidence):
        tied = int(
            np.searchsorted(-confidence, -confidence[min(int(count), len(confidence)) - 1], side="right")
        )
        if tied not in counts:
            counts.append(tied)
        count = max(count * GROWTH, count + 1)
    return counts


def _chance(
    count: int,
    confidence: np.ndarray,
    wrong: np.ndarray,
    weight: np.ndarray,
    others: np.ndarray,
    max_fix_error: float,
) -> float:
    """Return the chance of so few wrong fixes among the best `count` trusted rows if too many others were wrong."""
    used = weight[:count]
    if np.ptp(used) <= EQUAL * used.mean():
        fixes = int(len(others) - np.searchsorted(others, confidence[count - 1]))
        seen = int(wrong[:count].sum())
        too_many = math.floor(max_fix_error * fixes + EQUAL) + 1
        if too_many > fixes:
            return 1.0  # hardly any other fix is left: nothing worth a promise
        return float(stats.hypergeom.cdf(seen, count + fixes, seen + too_many, count))
    rows = used.sum() ** 2 / np.square(used).sum()
    seen_share = used[wrong[:count]].sum() / used.sum()
    # P(binomial <= k) at fractional k and n, by the Beta distribution
    return (
        float(stats.beta.sf(max_fix_error, seen_share * rows + 1, rows - seen_share * rows))
        if seen_share < 1
        else 1.0
    )


def _rows_needed(
    others: np.ndarray, rows: int, trusted: int, max_fix_error: float, risk: float
) -> int | None:
    """Return about how many more random trusted rows make a promise, if confidence is as good as it says.

    `others` are the confidences of the suspects among `rows` rows that are not trusted, ascending.
    """
    needed = []
    for size in {math.ceil(len(others) * part) for part in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1) if len(others)}:
        rate = float(np.mean(1 - others[-size:]))
        seen = math.ceil(math.log(risk) / math.log1p(-max_fix_error))
        if rate > 0.9 * max_fix_error:
            continue  # so close to the limit that any number of rows would be a guess
        while stats.binom.cdf(math.ceil(rate * seen), seen, max_fix_error) > risk:
            seen = math.ceil(seen * 1.1)
        needed.append(max(math.ceil(seen * rows / size) - trusted, 1))
    return min(needed) if needed else None
