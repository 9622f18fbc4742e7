"""Which fixes can be promised: a confidence threshold above which few of the automatic fixes are wrong.

Fixes are suspects with a confidence of at least t. Held-out trusted rows with the same property are a random sample
of them, so an exact test says whether more than `max_fix_error` of the fixes on the other rows may be wrong.
Thresholds are tested as in Learn-then-Test (Angelopoulos et al. 2021, arXiv 2110.01052) by a fixed sequence: it
starts at the threshold that is most worth while by confidences (`worth`), without a look at the truth of a trusted
row, and goes on to lower ones until its first failure. So the promise as a whole fails with probability at most
1 - coverage over the draw of the trusted rows.

Rows that were chosen for verification by an earlier ranking lie unevenly in the present one. Their test holds
where errors are alike within a band of some twenty verified rows of like confidence, and no rarer in a band of more
doubt. They may then all lie among the fixes below some confidence; so all fixes are taken to be as thinly verified
as those are where that is least. With S_j the share of the fixes in the bands from j down and N_j the verified rows
in them, d = min_j N_j / S_j, and p_h the error of band h, growing with doubt,

    sum_h n_h p_h = sum_j (p_j - p_(j-1)) N_j >= d sum_j (p_j - p_(j-1)) S_j = d sum_h s_h p_h,

so that d times the share of wrong fixes is the least number of verified ones that are expected to be wrong, however
the errors lie; and unequal chances that sum to it come out low less often than equal ones (Hoeffding 1956, "On the
distribution of the number of successes in independent trials"). That is for fixes without end; where they end, the
test is hypergeometric, and the tests hold it to its risk by enumeration.

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
# by about this factor. Which promise is tried first depends on it; whether it holds does not.
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
        Whether every draw was a simple random sample of all rows. The test is then exact (hypergeometric) without
        any assumption about the errors.
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
        if not _chance(count, seen, others, max_fix_error) <= risk:
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

    def verified(self, count: int, others: np.ndarray) -> "_Verified":
        """Return what the best `count` rows say of the fixes that are at least as confident.

        `others` are the confidences of the suspects that nobody verified, ascending.
        """
        fixes = _fixes_from(self.confidence[count - 1], others)
        if self.at_random:
            return _Verified(count, int(self.wrong[:count].sum()), fixes, 1.0)
        if not fixes:
            return _Verified(0, 0, 0, 1.0)
        shares, seen, rows, wrong = [], [], [], []
        start, above = 0, len(others)
        for end in _band_ends(self.confidence[:count]):
            weight = pool_weights(self.weight[start:end], self.sample[start:end])
            seen.append(end - start)
            rows.append(effective_rows(weight))
            wrong.append(rows[-1] * (weight @ self.wrong[start:end]) / weight.sum())
            below = int(np.searchsorted(others, self.confidence[end - 1]))
            shares.append((above - below) / fixes)
            start, above = end, below
        share_H, seen_H, rows_H = np.array(shares), np.array(seen), np.array(rows)
        if (share_H * count > MOST_UNEVEN * seen_H).any():
            return _Verified(0, 0, fixes, 1.0)
        # of the bands from each one down
        share_from, seen_from = share_H[::-1].cumsum(), seen_H[::-1].cumsum()
        density = seen_from[share_from > 0] / share_from[share_from > 0] / count
        return _Verified(
            math.floor(rows_H.sum() + EQUAL),
            math.ceil(sum(wrong) - EQUAL),
            fixes,
            float(density.min()),
        )


@dataclass(frozen=True)
class _Verified:
    """Verified rows of a set of fixes, how many of them are wrong, the fixes that nobody verified, and evenness.

    `thinnest` is how densely the fixes below some confidence are verified, where that is least, next to all of
    them. Rows count by their effective number, wrong ones are rounded up.
    """

    rows: int
    wrong: int
    fixes: int
    thinnest: float


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
    """Return the place in `counts` that is most worth while; None if all fail.

    It goes by confidences and numbers of rows alone. Larger sets than the one that passes come next anyway, and
    nothing comes after one that fails.
    """
    worths = []
    for count in counts:
        seen_here = seen.verified(count, others)
        rate = planned_error(others[len(others) - seen_here.fixes :])
        chance = chance_to_promise(
            rate, seen_here.rows, seen_here.fixes, max_fix_error, risk, thinnest=seen_here.thinnest
        )
        worths.append(worth(chance, seen_here.fixes))
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
    """Return the chance of so few wrong fixes among the best `count` trusted rows if too many others were wrong."""
    here = seen.verified(count, others)
    return float(chance_of_so_few(here.wrong, here.rows, here.fixes, max_fix_error, thinnest=here.thinnest))


def chance_of_so_few(
    wrong: Any, rows: int, fixes: int, max_fix_error: float, *, thinnest: float = 1.0
) -> Any:
    """Return the chance of at most `wrong` wrong fixes among `rows` verified ones if too many of `fixes` are wrong.

    Hypergeometric: the verified rows and the fixes are one set, from which the former were drawn at random; where
    some fixes are verified more thinly than others, it is a set of so many fixes as there would be if all were as
    thinly verified as the `thinnest`. `wrong` may be an array.
    """
    too_many = math.floor(max_fix_error * fixes + EQUAL) + 1
    if not rows or too_many > fixes:
        return np.ones(np.shape(wrong))  # hardly any other fix is left: nothing worth a promise
    total = rows + math.ceil(fixes / thinnest - EQUAL)
    return stats.hypergeom.cdf(wrong, total, np.minimum(wrong + too_many, total), rows)


def chance_to_promise(
    rate: float, rows: int, fixes: int, max_fix_error: float, risk: float, *, thinnest: float = 1.0
) -> float:
    """Return the chance that `rows` verified fixes pass the test for `fixes` others, at an error of `rate`."""
    wrong = np.arange(math.ceil(max_fix_error * rows) + 1)  # more cannot pass
    passes = chance_of_so_few(wrong, rows, fixes, max_fix_error, thinnest=thinnest) <= risk
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
        rate = float(np.mean(1 - others[-size:]))
        seen = math.ceil(math.log(risk) / math.log1p(-max_fix_error))
        if rate > 0.9 * max_fix_error:
            continue  # so close to the limit that any number of rows would be a guess
        while stats.binom.cdf(math.ceil(rate * seen), seen, max_fix_error) > risk:
            seen = math.ceil(seen * 1.1)
        needed.append(max(math.ceil((seen * rows / size - trusted) / kept_share), 1))
    return min(needed) if needed else None
