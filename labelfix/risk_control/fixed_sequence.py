"""Which fixes can be promised: a confidence threshold above which few of the automatic fixes are wrong.

Fixes are suspects with a confidence of at least t. Verified rows with the same property are a sample of them
(`labelfix.risk_control.draws`), so an exact test (`labelfix.risk_control.p_values`) says whether more than
`max_fix_error` of the other fixes may be wrong. Thresholds are tested as in Learn-then-Test (Angelopoulos et al.
2021, arXiv 2110.01052) by a fixed sequence: it starts with the sample and the threshold that are most worth while
by confidences (`labelfix.risk_control.p_values.worth`), without a look at the truth of a trusted row, and goes on
to lower thresholds until its first failure. So the promise as a whole fails with probability at most 1 - coverage
over the draw of the trusted rows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from labelfix.risk_control.draws import Sample, Suspects, end_of_tie, samples_of
from labelfix.risk_control.p_values import least_rows

__all__ = ["Guarantee", "find_guarantee"]

GROWTH = 1.1


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is promised of the automatic fixes.

    Attributes
    ----------
    max_fix_error, coverage
        At most this share of the fixes is wrong, with this confidence.
    threshold
        Suspects of at least this confidence are fixed; None where nothing can be promised.
    frames
        Numbers of the draws whose frames (`labelfix.inputs.draw_columns`) a suspect has to be in, all of them, to
        be fixed; empty where it need not be in any.
    exact
        Whether the promise holds whatever the errors look like, as far as frames were made without a look at the
        truth of the rows in them; else it assumes that they are alike at like
        confidence, and no rarer with doubt (`labelfix.risk_control.draws`).
    fixes
        How many rows are fixed, trusted ones aside.
    rows, wrong
        Held-out trusted rows of the sample above the threshold, and how many of them have a wrong fix; where
        nothing is promised, of the set that was tested first, or of all that are suspects.
    rows_needed
        About how many more random trusted rows would make a promise possible; 0 where one is made, None where
        even the most confident suspects are likely wrong too often.
    """

    max_fix_error: float
    coverage: float
    threshold: float | None
    frames: tuple[int, ...]
    exact: bool
    fixes: int
    rows: int
    wrong: int
    rows_needed: int | None


def find_guarantee(
    confidence: np.ndarray,
    wrong: np.ndarray,
    weight: np.ndarray,
    draw: np.ndarray,
    others: np.ndarray,
    *,
    frames: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None,
    trained: Mapping[int, int] | None = None,
    trusted: int,
    kept_share: float = 1.0,
    rows: int,
    max_fix_error: float,
    coverage: float,
) -> Guarantee:
    """Return the lowest threshold whose fixes can be promised.

    Parameters
    ----------
    confidence, wrong, weight, draw, others, frames, trained
        As in `labelfix.risk_control.draws.Suspects`.
    trusted, kept_share, rows
        M, how many trusted rows of the random sample there were to be counted, the share of all trusted rows that
        they are, and how many rows are not trusted.
    max_fix_error, coverage
        What is to be promised.
    """
    suspects = Suspects(
        confidence=confidence.astype(np.float64),
        wrong=wrong,
        weight=weight,
        draw=draw,
        others=others.astype(np.float64),
        frames=frames or {},
        trained=trained or {},
    )
    risk = 1 - coverage
    sample, counts = _tried(samples_of(suspects), max_fix_error, risk)
    best: int | None = None
    for count in counts:
        if not sample.upto(count).chance(max_fix_error) <= risk:
            break
        best = count
    shown = best or (counts[0] if counts else len(sample.confidence))
    threshold = float(sample.confidence[best - 1]) if best else None
    return Guarantee(
        max_fix_error=max_fix_error,
        coverage=coverage,
        threshold=threshold,
        frames=() if threshold is None else sample.frames,
        exact=sample.even,
        fixes=0 if threshold is None else sample.fixes_from(threshold),
        rows=shown,
        wrong=int(sample.wrong[:shown].sum()),
        rows_needed=0 if best else _rows_needed(suspects, rows, trusted, kept_share, max_fix_error, risk),
    )


def _tried(samples: list[Sample], max_fix_error: float, risk: float) -> tuple[Sample, list[int]]:
    """Return the sample to test with, and the counts of its rows to test, in this order; none if all would fail.

    They start with what is most worth while. It goes by confidences and numbers of rows alone. Larger sets than the
    one that passes come next anyway, and nothing comes after one that fails.
    """
    least = least_rows(max_fix_error, risk)
    best, highest, start = max(samples, key=lambda sample: len(sample.confidence)), 0.0, math.inf
    for sample in samples:
        for count in _sequence(sample.confidence, least):
            value = sample.planned_worth(count, max_fix_error, risk)
            if value > highest:
                best, highest, start = sample, value, count
    return best, [count for count in _sequence(best.confidence, least) if count >= start]


def _sequence(confidence: np.ndarray, least: int) -> list[int]:
    """Return growing counts of rows above a threshold, moved on so that no tie is cut; few rows give none."""
    counts: list[int] = []
    count = float(max(least // 2, 1))  # a finite set of fixes may need fewer than an endless one
    while counts[-1:] != [len(confidence)] and count <= len(confidence):
        tied = end_of_tie(confidence, int(count))
        if tied not in counts:
            counts.append(tied)
        count = min(max(count * GROWTH, count + 1), max(len(confidence), tied))
    return counts


def _rows_needed(
    suspects: Suspects, rows: int, trusted: int, kept_share: float, max_fix_error: float, risk: float
) -> int | None:
    """Return about how many more random trusted rows make a promise, if confidence is as good as it says.

    `rows` are not trusted.
    """
    needed = []
    others = np.sort(suspects.others)
    for size in {math.ceil(len(others) * part) for part in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1) if len(others)}:
        rate = float(np.mean(1 - others[-size:]))
        seen = math.ceil(math.log(risk) / math.log1p(-max_fix_error))
        if rate > 0.9 * max_fix_error:
            continue  # so close to the limit that any number of rows would be a guess
        while stats.binom.cdf(math.ceil(rate * seen), seen, max_fix_error) > risk:
            seen = math.ceil(seen * 1.1)
        needed.append(max(math.ceil((seen * rows / size - trusted) / kept_share), 1))
    return min(*needed, rows) if needed else None
