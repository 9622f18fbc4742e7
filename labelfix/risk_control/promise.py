"""Which fixes can be promised: the confidence threshold above which few automatic fixes are wrong.

A fix is a label issue whose prediction has a confidence of at least t. Verified label issues above t are a sample
of the fixes (`labelfix.risk_control.draws`). An exact test (`labelfix.risk_control.p_values`) decides on the null
hypothesis that more than `max_fix_error` of the unverified fixes are wrong. Thresholds are tested in a fixed
sequence, as in Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052). It starts at the sample and the
threshold of the greatest planned worth (`labelfix.risk_control.p_values.worth`), which depend on confidences alone,
and goes on to lower thresholds until a test fails. So the promise fails with probability at most 1 - coverage over
the sampling of the trusted rows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from labelfix.risk_control.draws import LabelIssues, Sample, candidate_samples, end_of_tie
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
        Label issues of at least this confidence are fixed; None where nothing can be promised.
    frames
        Numbers of draws: a label issue is fixed only if it is in the sampling frames
        (`labelfix.inputs.draw_columns`) of all of them. Empty where frames do not matter.
    exact
        Whether the promise assumes nothing about the errors, given sampling frames that do not depend on the truth
        of the rows in them. Otherwise it assumes equal error rates at similar confidence, and none lower at less
        confidence (`labelfix.risk_control.draws`).
    fixes
        How many rows are fixed, trusted ones aside.
    rows, wrong
        Held-out trusted rows of the sample above the threshold, and how many of them have a wrong fix. Where
        nothing is promised, those of the first test, or all label issues of the sample where there was no test.
    rows_needed
        About how many more random trusted rows would make a promise possible; 0 where one is made, None where
        even the most confident label issues are likely wrong too often.
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
    unverified: np.ndarray,
    *,
    sampling_frames: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None,
    num_trained: Mapping[int, int] | None = None,
    trusted: int,
    kept_share: float = 1.0,
    rows: int,
    max_fix_error: float,
    coverage: float,
) -> Guarantee:
    """Return the lowest threshold whose fixes can be promised.

    Parameters
    ----------
    confidence, wrong, weight, draw, unverified, sampling_frames, num_trained
        As in `labelfix.risk_control.draws.LabelIssues`.
    trusted
        Number of held-out trusted rows in the random sample, whether label issues or not.
    kept_share
        Share of all trusted rows that are held out.
    rows
        Number of rows that are not trusted.
    max_fix_error, coverage
        What is to be promised.
    """
    issues = LabelIssues(
        confidence=confidence.astype(np.float64),
        wrong=wrong,
        weight=weight,
        draw=draw,
        unverified=unverified.astype(np.float64),
        sampling_frames=sampling_frames or {},
        num_trained=num_trained or {},
    )
    risk = 1 - coverage
    sample, counts = _planned_sequence(candidate_samples(issues), max_fix_error, risk)
    passed: int | None = None
    for count in counts:
        if not sample.top(count).p_value(max_fix_error) <= risk:
            break
        passed = count
    shown = passed or (counts[0] if counts else len(sample.confidence))
    threshold = float(sample.confidence[passed - 1]) if passed else None
    return Guarantee(
        max_fix_error=max_fix_error,
        coverage=coverage,
        threshold=threshold,
        frames=() if threshold is None else sample.frames,
        exact=sample.is_simple_random,
        fixes=0 if threshold is None else sample.num_fixes(threshold),
        rows=shown,
        wrong=int(sample.wrong[:shown].sum()),
        rows_needed=0
        if passed
        else _rows_needed(issues.unverified, rows, trusted, kept_share, max_fix_error, risk),
    )


def _planned_sequence(samples: list[Sample], max_fix_error: float, risk: float) -> tuple[Sample, list[int]]:
    """Return the sample to test, and the counts of its top rows in the order of the tests.

    The first count has the greatest planned worth; larger ones follow. No counts where no test has any power. The
    choice depends on confidences and numbers of rows alone.
    """
    least = least_rows(max_fix_error, risk)
    best, highest, start = max(samples, key=lambda sample: len(sample.confidence)), 0.0, math.inf
    for sample in samples:
        for count in _counts(sample.confidence, least):
            value = sample.planned_worth(count, max_fix_error, risk)
            if value > highest:
                best, highest, start = sample, value, count
    return best, [count for count in _counts(best.confidence, least) if count >= start]


def _counts(confidence: np.ndarray, least: int) -> list[int]:
    """Return growing counts of top rows, each moved on to the end of its tie; too few rows give none."""
    counts: list[int] = []
    count = float(max(least // 2, 1))  # finitely many fixes may need fewer rows than infinitely many
    while counts[-1:] != [len(confidence)] and count <= len(confidence):
        tied = end_of_tie(confidence, int(count))
        if tied not in counts:
            counts.append(tied)
        count = min(max(count * GROWTH, count + 1), max(len(confidence), tied))
    return counts


def _rows_needed(
    unverified: np.ndarray, rows: int, trusted: int, kept_share: float, max_fix_error: float, risk: float
) -> int | None:
    """Return about how many more random trusted rows make a promise, if the stated confidences hold.

    `unverified` (m,) are confidences of label issues; the others are arguments of `find_guarantee`.
    """
    needed = []
    ascending = np.sort(unverified)
    for size in {
        math.ceil(len(ascending) * part) for part in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1) if len(ascending)
    }:
        error = float(np.mean(1 - ascending[-size:]))
        verified = math.ceil(math.log(risk) / math.log1p(-max_fix_error))
        if error > 0.9 * max_fix_error:
            continue  # so close to the limit that any number of rows would be a guess
        while stats.binom.cdf(math.ceil(error * verified), verified, max_fix_error) > risk:
            verified = math.ceil(verified * 1.1)
        needed.append(max(math.ceil((verified * rows / size - trusted) / kept_share), 1))
    return min(*needed, rows) if needed else None
