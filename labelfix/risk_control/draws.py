"""Which verified fixes are a random sample of which unverified ones.

A fix is a label issue whose prediction has a confidence of at least t. Verified label issues, predicted by fits
that did not see them, are a sample of the fixes that could have been drawn in their place. `candidate_samples`
lists the ways to read them as samples:

- Rows of the simple random sample represent all fixes.
- Rows of a draw from a sampling frame (`labelfix.inputs.draw_columns`), all with the same inclusion probability,
  represent the fixes inside the frame. So do the rows of the random sample inside it. Rows of several draws are one
  sample of the intersection of their frames: each draw is a random part of what the draws before it left.
- Rows of draws that are not part of a sample represent themselves alone. They may have been chosen because they
  seemed right, so that the fixes they left are worse. So right ones count as part of the set that the sample is
  from, and wrong ones do not. In whatever order the draws were made, the test is then no easier than it should be.
- Sampling frames must not depend on the truth of the rows in them. ``labelfix next`` makes them from held-out
  confidences, in which a verified row's own truth has no part.
- Draws with unequal inclusion probabilities and no sampling frame cover the fixes unevenly. For them, all verified
  rows are one sample, and `Sample.top` assumes that the error rate is constant within a band of about twenty
  verified rows of similar confidence, and never lower in a less confident band. At worst, all errors lie below some
  confidence. So the test takes all fixes to be verified as thinly as the fixes below the worst such confidence.
  Bands go from the most confident down. n_h and s_h are the verified rows in band h and its share of the fixes, N_j
  and S_j the same for the bands from j down, p_h the error rate of band h (p_0 = 0), and d = min_j N_j / S_j. Then

      sum_h n_h p_h = sum_j (p_j - p_(j-1)) N_j >= d sum_j (p_j - p_(j-1)) S_j = d sum_h s_h p_h.

  So the expected number of wrong verified rows is at least d times the share of wrong fixes, wherever the errors
  are. At that expectation, unequal probabilities give a low count less often than equal ones (Hoeffding 1956, "On
  the distribution of the number of successes in independent trials"). This holds for infinitely many fixes. For
  finitely many the test is hypergeometric, and an enumeration in the unit tests shows that it keeps its risk.

n verified label issues, m unverified ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labelfix.inputs.design_weights import RANDOM_SAMPLE, effective_rows, pool_weights
from labelfix.risk_control.p_values import ROUNDING, hypergeometric_p_value, planned_error, power, worth

__all__ = ["LabelIssues", "Sample", "SampleCounts", "candidate_samples", "end_of_tie"]

ROWS_PER_BAND = 20
# Up to so many draws, every subset of them is a candidate sample.
MOST_COMBINED = 5
# A band may have at most so many times the fixes per verified row that the whole set has.
MOST_UNEVEN = 2.0


@dataclass(frozen=True, kw_only=True)
class LabelIssues:
    """Label issues, verified and not.

    Attributes
    ----------
    confidence, wrong, weight, draw
        (n,) of the verified ones: held-out probability of the predicted label, whether that label is wrong, weight
        of the row within its draw, and the number of that draw.
    unverified
        (m,) confidence of the unverified ones.
    sampling_frames
        Number of a draw -> which of the (n,) and of the (m,) are in its sampling frame, bool.
    num_trained
        Number of a draw -> how many of its rows took part in training, so that they have no held-out prediction.
    """

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    draw: np.ndarray
    unverified: np.ndarray
    sampling_frames: Mapping[int, tuple[np.ndarray, np.ndarray]]
    num_trained: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """What the test counts above a confidence threshold.

    Attributes
    ----------
    rows, wrong
        Sampled fixes and the wrong ones among them. Rows of unequal weights count by their effective number; wrong
        ones are rounded up.
    fixes
        Unverified fixes that the sample represents.
    min_density
        Sampling density of the fixes below some confidence, where it is least, relative to that of all of them.
    verified_elsewhere
        Right fixes of the same population that were verified outside of the sample.
    """

    rows: int = 0
    wrong: int = 0
    fixes: int = 0
    min_density: float = 1.0
    verified_elsewhere: int = 0

    def p_value(self, max_fix_error: float) -> float:
        """Return the p-value of the null hypothesis that more than `max_fix_error` of the fixes are wrong."""
        return float(
            hypergeometric_p_value(
                self.wrong,
                self.rows,
                self.fixes,
                max_fix_error,
                min_density=self.min_density,
                verified_elsewhere=self.verified_elsewhere,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Verified fixes as a sample of a population of fixes.

    Attributes
    ----------
    confidence, wrong, weight, draw
        (n,) of its rows, the most confident first.
    unverified
        (m,) confidence of the unverified fixes of the population, ascending.
    verified_elsewhere, right_elsewhere
        Confidence of the fixes of the population that were verified outside of the sample, and of the right ones
        among them, ascending; infinite where unknown.
    frames
        Numbers of the draws whose sampling frames bound the population.
    is_simple_random
        Whether it is a simple random sample.
    """

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    draw: np.ndarray
    unverified: np.ndarray
    verified_elsewhere: np.ndarray
    right_elsewhere: np.ndarray
    frames: tuple[int, ...] = ()
    is_simple_random: bool = True

    def top(self, count: int) -> SampleCounts:
        """Return the counts among fixes that are at least as confident as the `count`-th row of the sample."""
        threshold = self.confidence[count - 1]
        fixes = self.num_fixes(threshold)
        if self.is_simple_random:
            wrong, elsewhere = int(self.wrong[:count].sum()), _count_from(self.right_elsewhere, threshold)
            return SampleCounts(rows=count, wrong=wrong, fixes=fixes, verified_elsewhere=elsewhere)
        return self._in_bands(count, fixes) if fixes else SampleCounts()

    def num_fixes(self, threshold: float) -> int:
        """Return how many of the unverified fixes have at least that confidence."""
        return _count_from(self.unverified, threshold)

    def planned_worth(self, count: int, max_fix_error: float, risk: float) -> float:
        """Return the worth of a test of the top `count` rows, by their confidences alone."""
        counts = self.top(count)
        test_power = power(
            planned_error(self.unverified[len(self.unverified) - counts.fixes :]),
            counts.rows,
            counts.fixes,
            max_fix_error,
            risk,
            min_density=counts.min_density,
            verified_elsewhere=_count_from(self.verified_elsewhere, self.confidence[count - 1]),
        )
        return worth(test_power, counts.fixes)

    def _in_bands(self, count: int, fixes: int) -> SampleCounts:
        """Return the counts of the top `count` rows of a sample with unequal inclusion probabilities.

        H bands of confidence. Where a band has far fewer verified rows than its share of the fixes, no row counts.
        """
        shares, verified, effective, wrong = [], [], [], []
        start, above = 0, len(self.unverified)
        for end in _band_ends(self.confidence[:count]):
            weight = pool_weights(self.weight[start:end], self.draw[start:end])
            verified.append(end - start)
            effective.append(effective_rows(weight))
            wrong.append(effective[-1] * (weight @ self.wrong[start:end]) / weight.sum())
            below = int(np.searchsorted(self.unverified, self.confidence[end - 1]))
            shares.append((above - below) / fixes)
            start, above = end, below
        share_H, verified_H, effective_H = np.array(shares), np.array(verified), np.array(effective)
        if (share_H * count > MOST_UNEVEN * verified_H).any():
            return SampleCounts(fixes=fixes)
        # of the bands from each one down
        share_from_H, verified_from_H = share_H[::-1].cumsum(), verified_H[::-1].cumsum()
        density = verified_from_H[share_from_H > 0] / share_from_H[share_from_H > 0] / count
        return SampleCounts(
            rows=math.floor(effective_H.sum() + ROUNDING),
            wrong=math.ceil(sum(wrong) - ROUNDING),
            fixes=fixes,
            min_density=float(density.min()),
        )


def candidate_samples(issues: LabelIssues) -> list[Sample]:
    """Return the ways to read verified label issues as a sample, whichever of them are wrong."""
    chosen = sorted({*issues.sampling_frames, *issues.draw.tolist(), *issues.num_trained} - {RANDOM_SAMPLE})
    framed = [draw for draw in chosen if draw in issues.sampling_frames]
    samples = [_sample(issues, draws) for draws in [(), *_combinations(framed)]]
    if len(framed) < len(chosen):
        samples.append(_sample(issues, None))
    return samples


def _combinations(draws: list[int]) -> list[tuple[int, ...]]:
    """Return all subsets of a few draws; of many draws, each one alone and all together."""
    sizes = range(1, len(draws) + 1) if len(draws) <= MOST_COMBINED else (1, len(draws))
    return [subset for size in sizes for subset in combinations(draws, size)]


def _sample(issues: LabelIssues, draws: tuple[int, ...] | None) -> Sample:
    """Return the random sample and `draws` as a sample of what is inside their frames; None takes all rows."""
    is_simple_random, draws = draws is not None, draws or ()
    sampled = np.isin(issues.draw, (RANDOM_SAMPLE, *draws)) | (not is_simple_random)
    inside, represented = np.ones(len(sampled), bool), np.ones(len(issues.unverified), bool)
    for draw in draws:
        inside &= issues.sampling_frames[draw][0]
        represented &= issues.sampling_frames[draw][1]
    elsewhere = ~sampled & inside
    unknown = sum(n for draw, n in issues.num_trained.items() if draw not in draws) if is_simple_random else 0
    infinite = np.full(unknown, np.inf)
    order = np.argsort(-issues.confidence, kind="stable")
    order = order[(sampled & inside)[order]]
    return Sample(
        confidence=issues.confidence[order],
        wrong=issues.wrong[order],
        weight=issues.weight[order],
        draw=issues.draw[order],
        unverified=np.sort(issues.unverified[represented]),
        verified_elsewhere=np.append(np.sort(issues.confidence[elsewhere]), infinite),
        right_elsewhere=np.append(np.sort(issues.confidence[elsewhere & ~issues.wrong]), infinite),
        frames=draws,
        is_simple_random=is_simple_random,
    )


def _count_from(confidence: np.ndarray, threshold: float) -> int:
    """Return how many of the confidences, ascending, are at least `threshold`."""
    return int(len(confidence) - np.searchsorted(confidence, threshold))


def _band_ends(confidence: np.ndarray) -> list[int]:
    """Return where bands of about `ROWS_PER_BAND` rows end, confidences descending; no band cuts a tie."""
    bands = max(len(confidence) // ROWS_PER_BAND, 1)
    marks = np.linspace(0, len(confidence), bands + 1)[1:].round().astype(int)
    return sorted({end_of_tie(confidence, mark) for mark in marks})


def end_of_tie(confidence: np.ndarray, count: int) -> int:
    """Return how many rows, confidences descending, are at least as confident as the `count`-th one."""
    return int(np.searchsorted(-confidence, -confidence[count - 1], side="right"))
