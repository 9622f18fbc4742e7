"""Which fixes can be promised: a confidence threshold above which few of the automatic fixes are wrong.

Fixes are suspects with a confidence of at least t. Held-out trusted rows with the same property are a random sample
of them, so an exact test says whether more than `max_fix_error` of the fixes on the other rows may be wrong.
Thresholds are tested as in Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) by a fixed sequence: it
starts at the threshold that the stated confidences make most worth while, without a look at the truth of a trusted
row, and goes on to lower ones until its first failure. So the promise as a whole fails with probability at most
1 - coverage over the draw of the trusted rows.

Rows that were chosen for verification by an earlier ranking lie unevenly in the present one. Their test is
post-stratified: within a band of neighbouring confidences the verified rows stand for the fixes of that band, and
the test is taken at the effective number of rows of the sum over the bands: an approximation, and one that needs
errors to depend on confidence alone. Fixes next to which hardly anything was verified are not promised.

n held-out trusted rows that are suspects, of which k have a wrong fix; N_fix fixes on rows that are not trusted.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from labelfix.sampling import effective_rows, pool_weights

__all__ = ["Guarantee", "chance_to_promise", "find_guarantee", "planned_error", "worth"]

# Plans are made with more errors than stated, and a few at least: the most confident are too sure, on human labels
# by about this factor. What is promised does not depend on it.
OVERCONFIDENCE, LEAST_ERROR = 2.0, 0.002
GROWTH = 1.1
ROWS_PER_BAND = 20
# Of a band, the fixes per verified one may be so many times those of the whole set.
MOST_UNEVEN = 2.0
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
    at_random: bool,
    trusted: int,
    kept_share: float = 1.0,
    rows: int,
    max_fix_error: float,
    coverage: float,
) -> Guarantee:
    """Return the lowest threshold whose fixes can be promised.

    Parameters
    ----------
    confidence, wrong, weight, sample
        (n,) of the held-out trusted rows that are suspects: probability of the predicted label, whether it is
        wrong, weight of the row within its draw, and that draw.
    others
        Confidence of all other suspects.
    at_random
        Whether every draw was a simple random sample of all rows. The test is then exact (hypergeometric); else it
        is taken at the effective number of rows.
    trusted, kept_share, rows
        M, how many trusted rows there were to be counted, the share of all trusted rows that they are, and how many
        rows are not trusted.
    max_fix_error, coverage
        What is to be promised.
    """
    order = np.argsort(-confidence, kind="stable")
    seen = _Seen(confidence[order].astype(np.float64), wrong[order], weight[order], sample[order], at_random)
    others = np.sort(others.astype(np.float64))
    risk = 1 - coverage
    counts = _sequence(seen.confidence, least_rows(max_fix_error, risk))
    best: int | None = None
    start = _start(counts, seen, others, max_fix_error, risk)
    for count in counts[start:] if start is not None else ():
        if _chance(count, seen, others, max_fix_error) > risk:
            break
        best = count
    shown = best or (counts[start] if start is not None else len(order))
    threshold = float(seen.confidence[best - 1]) if best else None
    return Guarantee(
        max_fix_error=max_fix_error,
        coverage=coverage,
        threshold=threshold,
        fixes=0 if threshold is None else _fixes_from(threshold, others),
        rows=shown,
        wrong=int(seen.wrong[:shown].sum()),
        rows_needed=0 if best else _rows_needed(others, rows, trusted, kept_share, max_fix_error, risk),
    )


@dataclass(frozen=True)
class _Seen:
    """Held-out trusted rows that are suspects, (n,) each, the most confident first."""

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    at_random: bool

    def effective(self, count: int, others: np.ndarray) -> tuple[float, float]:
        """Return how many verified fixes the best `count` rows are worth, and how many of these are wrong.

        `others` are the confidences of the suspects that nobody verified, ascending.
        """
        if self.at_random:
            return float(count), float(self.wrong[:count].sum())
        fixes = _fixes_from(self.confidence[count - 1], others)
        if not fixes:
            return 0.0, 0.0
        shares, rows, wrong = [], [], []
        start, above = 0, len(others)
        for end in _band_ends(self.confidence[:count]):
            weight = pool_weights(self.weight[start:end], self.sample[start:end])
            rows.append(effective_rows(weight))
            wrong.append(weight @ self.wrong[start:end] / weight.sum())
            below = int(np.searchsorted(others, self.confidence[end - 1]))
            shares.append((above - below) / fixes)
            start, above = end, below
        share_H, rows_H = np.array(shares), np.array(rows)
        if (share_H * rows_H.sum() > MOST_UNEVEN * rows_H).any():
            return 0.0, 0.0
        effective = 1 / float(np.sum(share_H**2 / rows_H))
        return effective, float(share_H @ wrong) * effective


def _band_ends(confidence: np.ndarray) -> list[int]:
    """Return where bands of about `ROWS_PER_BAND` of the rows, sorted from sure to unsure, end; no tie is cut."""
    bands = max(len(confidence) // ROWS_PER_BAND, 1)
    marks = np.linspace(0, len(confidence), bands + 1)[1:].round().astype(int)
    return sorted({_end_of_tie(confidence, mark) for mark in marks})


def _end_of_tie(confidence: np.ndarray, count: int) -> int:
    """Return how many rows, sorted from sure to unsure, are at least as sure as number `count` of them, from 1."""
    return int(np.searchsorted(-confidence, -confidence[count - 1], side="right"))


def least_rows(max_fix_error: float, risk: float) -> int:
    """Return how many verified fixes, none of them wrong, could pass at the least, were there no end of fixes."""
    return math.floor(math.log(risk) / math.log1p(-max_fix_error))


def _sequence(confidence: np.ndarray, least: int) -> list[int]:
    """Return growing counts of rows above a threshold, moved on so that no tie is cut; few rows give none."""
    counts: list[int] = []
    count = float(max(least // 2, 1))  # a finite set of fixes may need fewer than an endless one
    while counts[-1:] != [len(confidence)] and count <= len(confidence):
        tied = _end_of_tie(confidence, int(count))
        if tied not in counts:
            counts.append(tied)
        count = min(max(count * GROWTH, count + 1), max(len(confidence), tied))
    return counts


def _start(
    counts: list[int], seen: _Seen, others: np.ndarray, max_fix_error: float, risk: float
) -> int | None:
    """Return the place in `counts` to start from, by confidences and numbers of rows alone; None if all fail.

    Larger sets than the one that passes come next anyway, and nothing comes after one that fails.
    """
    worths = []
    for count in counts:
        rows, _ = seen.effective(count, others)
        fixes = _fixes_from(seen.confidence[count - 1], others)
        rate = planned_error(others[len(others) - fixes :])
        chance = chance_to_promise(rate, math.floor(rows + EQUAL), fixes, max_fix_error, risk)
        worths.append(worth(chance, fixes))
    return int(np.argmax(worths)) if max(worths, default=0.0) > 0 else None


def worth(chance: float, fixes: int) -> float:
    """Return what a set of fixes is worth that can be promised with some chance.

    By the square root: a promise that may well fail is worth less than one of half as many fixes that will not.
    """
    return chance * math.sqrt(fixes)


def planned_error(confidence: np.ndarray) -> float:
    """Return the share of wrong fixes to plan with, from the confidences of some; 1 for none."""
    stated = float(np.mean(1 - confidence)) if len(confidence) else 1.0
    return min(OVERCONFIDENCE * stated + LEAST_ERROR, 1.0)


def _fixes_from(threshold: float, others: np.ndarray) -> int:
    """Return how many of the confidences `others`, ascending, are at least the threshold."""
    return int(len(others) - np.searchsorted(others, threshold))


def _chance(count: int, seen: _Seen, others: np.ndarray, max_fix_error: float) -> float:
    """Return the chance of so few wrong fixes among the best `count` trusted rows if too many others were wrong.

    Between whole numbers of wrong fixes, which post-stratified ones are not, it is interpolated.
    """
    effective, wrong = seen.effective(count, others)
    rows = math.floor(effective + EQUAL)
    if not rows:
        return 1.0
    fixes = _fixes_from(seen.confidence[count - 1], others)
    wrong *= rows / effective
    fewer = math.floor(wrong + EQUAL)
    chances = chance_of_so_few(np.array([fewer, fewer + 1]), rows, fixes, max_fix_error)
    return float(np.interp(wrong, [fewer, fewer + 1], chances))


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
    others: np.ndarray, rows: int, trusted: int, kept_share: float, max_fix_error: float, risk: float
) -> int | None:
    """Return about how many more random trusted rows make a promise, if confidence is as good as it says.

    `others` are the confidences of the suspects among `rows` rows that are not trusted, ascending.
    """
    needed = []
    for size in {math.ceil(len(others) * part) for part in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1) if len(others)}:
        rate = planned_error(others[-size:])
        seen = math.ceil(math.log(risk) / math.log1p(-max_fix_error))
        if rate > 0.9 * max_fix_error:
            continue  # so close to the limit that any number of rows would be a guess
        while stats.binom.cdf(math.ceil(rate * seen), seen, max_fix_error) > risk:
            seen = math.ceil(seen * 1.1)
        needed.append(max(math.ceil((seen * rows / size - trusted) / kept_share), 1))
    return min(needed) if needed else None
