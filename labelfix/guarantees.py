"""Which fixes can be promised: a confidence threshold above which few of the automatic fixes are wrong.

Fixes are suspects with a confidence of at least t. Held-out trusted rows with the same property are a random sample
of them, so an exact test says whether more than `max_fix_error` of the fixes on the other rows may be wrong.
Thresholds are tested as in Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) by fixed sequences: from
each of two starting points a sequence goes on to lower thresholds until its first failure, and the two share the
allowed risk. One starts where, by the stated confidences, the most promised fixes are to be expected, the other
where a promise is most likely at all; neither looks at the truth of a trusted row. So the promise as a whole fails
with probability at most 1 - coverage over the draw of the trusted rows.

n held-out trusted rows that are suspects, of which k have a wrong fix; N_fix fixes on rows that are not trusted.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from labelfix.sampling import effective_rows, pool_weights

__all__ = ["Guarantee", "chance_to_promise", "find_guarantee", "first_risk"]

# Shares of the risk: of the sequence that hopes for many fixes, and of the one that is most likely to start.
RISK_SHARES = (0.6, 0.4)
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
    sample: np.ndarray,
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
    confidence, wrong, weight, sample
        (n,) of the held-out trusted rows that are suspects: probability of the predicted label, whether it is
        wrong, weight of the row within its draw, and that draw. The test is exact for equal weights and a finite
        set of fixes (hypergeometric); else it is taken at the effective number of rows.
    others
        Confidence of all other suspects.
    trusted, rows
        M, how many trusted rows were drawn in all, and how many rows are not trusted.
    max_fix_error, coverage
        What is to be promised.
    """
    order = np.lexsort((wrong, -confidence))
    seen = _Seen(confidence[order].astype(np.float64), wrong[order], weight[order], sample[order])
    others = np.sort(others.astype(np.float64))
    counts = _sequence(seen.confidence, least_rows(max_fix_error, 1 - coverage))
    best: int | None = None
    starts = _starts(counts, seen, others, max_fix_error, 1 - coverage)
    for start, risk in starts:
        for count in counts[start:]:
            if _chance(count, seen, others, max_fix_error) > risk:
                break
            best = max(best or 0, count)
    shown = best or (counts[starts[0][0]] if starts else len(order))
    threshold = float(seen.confidence[best - 1]) if best else None
    return Guarantee(
        max_fix_error=max_fix_error,
        coverage=coverage,
        threshold=threshold,
        fixes=0 if threshold is None else _fixes_from(threshold, others),
        rows=shown,
        wrong=int(seen.wrong[:shown].sum()),
        rows_needed=0 if best else _rows_needed(others, rows, trusted, max_fix_error, first_risk(coverage)),
    )


@dataclass(frozen=True)
class _Seen:
    """Held-out trusted rows that are suspects, (n,) each, the most confident first."""

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    sample: np.ndarray


def least_rows(max_fix_error: float, risk: float) -> int:
    """Return how many verified fixes, none of them wrong, could pass at the least, were there no end of fixes."""
    return math.floor(math.log(risk) / math.log1p(-max_fix_error))


def _sequence(confidence: np.ndarray, least: int) -> list[int]:
    """Return growing counts of rows above a threshold, moved on so that no tie is cut; few rows give none."""
    counts: list[int] = []
    count = float(max(least // 2, 1))  # a finite set of fixes may need fewer than an endless one
    while counts[-1:] != [len(confidence)] and count <= len(confidence):
        tied = int(np.searchsorted(-confidence, -confidence[int(count) - 1], side="right"))
        if tied not in counts:
            counts.append(tied)
        count = min(max(count * GROWTH, count + 1), max(len(confidence), tied))
    return counts


def _starts(
    counts: list[int], seen: _Seen, others: np.ndarray, max_fix_error: float, risk: float
) -> list[tuple[int, float]]:
    """Return places in `counts` to start from, each with its risk; from confidences and numbers of rows alone."""
    hopes, chances = [], []
    for count in counts:
        rows = effective_rows(pool_weights(seen.weight[:count], seen.sample[:count]))
        fixes = _fixes_from(seen.confidence[count - 1], others)
        rate = float(np.mean(1 - others[len(others) - fixes :])) if fixes else 1.0
        verified = math.floor(rows + EQUAL)
        hopes.append(fixes * chance_to_promise(rate, verified, fixes, max_fix_error, RISK_SHARES[0] * risk))
        chances.append(chance_to_promise(rate, verified, fixes, max_fix_error, RISK_SHARES[1] * risk))
    if not counts or max(hopes) == 0:
        return []
    hopeful, likely = int(np.argmax(hopes)), int(np.argmax(chances))
    if hopeful == likely or max(chances) == 0:
        return [(hopeful, risk)]
    return [(hopeful, RISK_SHARES[0] * risk), (likely, RISK_SHARES[1] * risk)]


def _fixes_from(threshold: float, others: np.ndarray) -> int:
    """Return how many of the confidences `others`, ascending, are at least the threshold."""
    return int(len(others) - np.searchsorted(others, threshold))


def _chance(count: int, seen: _Seen, others: np.ndarray, max_fix_error: float) -> float:
    """Return the chance of so few wrong fixes among the best `count` trusted rows if too many others were wrong."""
    weight = pool_weights(seen.weight[:count], seen.sample[:count])
    rows = math.floor(effective_rows(weight) + EQUAL)
    wrong = math.ceil(weight[seen.wrong[:count]].sum() / weight.sum() * rows - EQUAL)
    fixes = _fixes_from(seen.confidence[count - 1], others)
    return float(chance_of_so_few(wrong, rows, fixes, max_fix_error))


def first_risk(coverage: float) -> float:
    """Return the risk that is planned with: of the sequence that hopes for many fixes."""
    return RISK_SHARES[0] * (1 - coverage)


def chance_of_so_few(wrong: Any, rows: int, fixes: int, max_fix_error: float) -> Any:
    """Return the chance of at most `wrong` wrong fixes among `rows` verified ones if too many of `fixes` are wrong.

    Hypergeometric: the verified rows and the fixes are one set, from which the former were drawn at random. `wrong`
    may be an array.
    """
    too_many = math.floor(max_fix_error * fixes + EQUAL) + 1
    if too_many > fixes:
        return np.ones(np.shape(wrong))  # hardly any other fix is left: nothing worth a promise
    return stats.hypergeom.cdf(wrong, rows + fixes, wrong + too_many, rows)


def chance_to_promise(rate: float, rows: int, fixes: int, max_fix_error: float, risk: float) -> float:
    """Return the chance that `rows` verified fixes pass the test for `fixes` others, at an error of `rate`."""
    wrong = np.arange(math.ceil(max_fix_error * rows) + 1)  # more cannot pass
    passes = chance_of_so_few(wrong, rows, fixes, max_fix_error) <= risk
    allowed = int(np.argmin(passes)) - 1 if not passes.all() else len(wrong) - 1
    return float(stats.binom.cdf(allowed, rows, rate)) if allowed >= 0 else 0.0


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
