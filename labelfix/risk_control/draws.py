"""What verified fixes say of others: which of them are a sample of which fixes.

Fixes are suspects with a confidence of at least t. Trusted rows that are suspects, judged by fits that did not see
them, speak for the fixes that they could have been drawn in place of. `samples_of` finds all ways to read them:

- Rows of a random sample speak for all fixes.
- Rows that were chosen from a frame (`labelfix.inputs.draw_columns`), all with one chance, speak for the fixes
  inside it, and so do the random rows inside. Rows of several frames are one sample of what is in all of them: each
  draw is a random part of what the draws before it had left.
- Rows of the draws that are left out of a sample speak for themselves alone. They may have been chosen because
  they seemed right, and the fixes that they left be the worse for it. So right ones count as part of the set that
  the sample is from, and wrong ones do not: in whatever order the draws were made, the test is no easier than it
  should be.
- All this holds of frames that were made without a look at the truth of the rows in them. ``labelfix next`` makes
  them by held-out confidences, so that of a verified row its own truth has no part in whether it is inside.
- Where some rows were chosen with chances of their own, and no frame goes with them, all rows together lie
  unevenly among the fixes. For them, `Sample.upto` assumes that errors are alike within a band of some twenty
  verified rows of like confidence, and no rarer in a band of more doubt. They may then all lie among the fixes
  below some confidence; so all fixes are taken to be as thinly verified as those are where that is least. With
  S_j the share of the fixes in the bands from j down and N_j the verified rows in them, d = min_j N_j / S_j, and
  p_h the error of band h, growing with doubt,

      sum_h n_h p_h = sum_j (p_j - p_(j-1)) N_j >= d sum_j (p_j - p_(j-1)) S_j = d sum_h s_h p_h,

  so that d times the share of wrong fixes is the least number of verified ones that are expected to be wrong,
  however the errors lie; and unequal chances that sum to it come out low less often than equal ones (Hoeffding
  1956, "On the distribution of the number of successes in independent trials"). That is for fixes without end;
  where they end, the test is hypergeometric, and the tests hold it to its risk by enumeration.

n verified suspects, m other ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labelfix.inputs.design_weights import RANDOM_SAMPLE, effective_rows, pool_weights
from labelfix.risk_control.p_values import EQUAL, chance_of_so_few, chance_to_promise, planned_error, worth

__all__ = ["Sample", "Suspects", "Verified", "end_of_tie", "samples_of"]

ROWS_PER_BAND = 20
# Of so many draws, or fewer, every choice is a sample of its own.
MOST_CHOICES = 5
# Of a band, the fixes per verified one may be so many times those of the whole set.
MOST_UNEVEN = 2.0


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Suspects, verified and not.

    Attributes
    ----------
    confidence, wrong, weight, draw
        (n,) of the verified ones: probability of the predicted label by a fit that did not see the row, whether
        that label is wrong, weight of the row within its draw, and the number of that draw.
    others
        (m,) confidence of those that nobody verified.
    frames
        By the number of a draw, which of the (n,) and of the (m,) its rows were drawn from, bool.
    trained
        By the number of a draw, how many of its rows took part in training, so that nothing is known of what a fit
        without them would say.
    """

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    draw: np.ndarray
    others: np.ndarray
    frames: Mapping[int, tuple[np.ndarray, np.ndarray]]
    trained: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample of fixes.

    Attributes
    ----------
    confidence, wrong, weight, draw
        (n,) of its rows, the most confident first.
    others
        (m,) confidences of the fixes that it speaks for, ascending.
    beside, beside_right
        Confidences of the fixes that were verified otherwise, and of the right ones among them, ascending; infinite
        where unknown.
    frames
        Numbers of the draws whose frames all these fixes are in.
    even
        Whether it is a simple random sample.
    """

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    draw: np.ndarray
    others: np.ndarray
    beside: np.ndarray
    beside_right: np.ndarray
    frames: tuple[int, ...] = ()
    even: bool = True

    def upto(self, count: int) -> "Verified":
        """Return what the best `count` rows say of the fixes that are at least as confident."""
        least = self.confidence[count - 1]
        fixes = self.fixes_from(least)
        if self.even:
            wrong, beside = int(self.wrong[:count].sum()), _number_from(self.beside_right, least)
            return Verified(rows=count, wrong=wrong, fixes=fixes, beside=beside)
        return self._in_bands(count, fixes) if fixes else Verified()

    def fixes_from(self, least: float) -> int:
        """Return how many of the other fixes have at least that confidence."""
        return _number_from(self.others, least)

    def planned_worth(self, count: int, max_fix_error: float, risk: float) -> float:
        """Return what it is worth to test the best `count` rows, without a look at their truth."""
        seen = self.upto(count)
        rate = planned_error(self.others[len(self.others) - seen.fixes :])
        beside = _number_from(self.beside, self.confidence[count - 1])
        chance = chance_to_promise(
            rate, seen.rows, seen.fixes, max_fix_error, risk, thinnest=seen.thinnest, beside=beside
        )
        return worth(chance, seen.fixes)

    def _in_bands(self, count: int, fixes: int) -> "Verified":
        shares, seen, rows, wrong = [], [], [], []
        start, above = 0, len(self.others)
        for end in _band_ends(self.confidence[:count]):
            weight = pool_weights(self.weight[start:end], self.draw[start:end])
            seen.append(end - start)
            rows.append(effective_rows(weight))
            wrong.append(rows[-1] * (weight @ self.wrong[start:end]) / weight.sum())
            below = int(np.searchsorted(self.others, self.confidence[end - 1]))
            shares.append((above - below) / fixes)
            start, above = end, below
        share_H, seen_H, rows_H = np.array(shares), np.array(seen), np.array(rows)
        if (share_H * count > MOST_UNEVEN * seen_H).any():
            return Verified(fixes=fixes)
        # of the bands from each one down
        share_from, seen_from = share_H[::-1].cumsum(), seen_H[::-1].cumsum()
        density = seen_from[share_from > 0] / share_from[share_from > 0] / count
        return Verified(
            rows=math.floor(rows_H.sum() + EQUAL),
            wrong=math.ceil(sum(wrong) - EQUAL),
            fixes=fixes,
            thinnest=float(density.min()),
        )


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Sampled rows of a set of fixes, how many of them are wrong, and how many fixes nobody verified.

    `thinnest` is how densely the fixes below some confidence are verified, where that is least, next to all of
    them. Rows of unequal weights count by their effective number, wrong ones are rounded up. `beside` are right
    fixes that were verified otherwise.
    """

    rows: int = 0
    wrong: int = 0
    fixes: int = 0
    thinnest: float = 1.0
    beside: int = 0

    def chance(self, max_fix_error: float) -> float:
        """Return the chance of so few wrong ones if more than `max_fix_error` of the other fixes were wrong."""
        return float(
            chance_of_so_few(
                self.wrong, self.rows, self.fixes, max_fix_error, thinnest=self.thinnest, beside=self.beside
            )
        )


def samples_of(suspects: Suspects) -> list[Sample]:
    """Return the ways to take verified suspects as a sample; which they are does not depend on wrong fixes."""
    chosen = sorted({*suspects.frames, *suspects.draw.tolist(), *suspects.trained} - {RANDOM_SAMPLE})
    framed = [draw for draw in chosen if draw in suspects.frames]
    samples = [_sample(suspects, draws) for draws in [(), *_choices(framed)]]
    if len(framed) < len(chosen):
        samples.append(_sample(suspects, None))
    return samples


def _choices(draws: list[int]) -> list[tuple[int, ...]]:
    """Return choices of some of the draws: all there are of a few draws, of many only one draw and all of them."""
    sizes = range(1, len(draws) + 1) if len(draws) <= MOST_CHOICES else (1, len(draws))
    return [choice for size in sizes for choice in combinations(draws, size)]


def _sample(suspects: Suspects, draws: tuple[int, ...] | None) -> Sample:
    """Return random rows, and those of some draws, as a sample of what is in their frames; None takes all rows."""
    even, draws = draws is not None, draws or ()
    rows = np.isin(suspects.draw, (RANDOM_SAMPLE, *draws)) | (not even)
    inside, fixes = np.ones(len(rows), bool), np.ones(len(suspects.others), bool)
    for draw in draws:
        inside, fixes = inside & suspects.frames[draw][0], fixes & suspects.frames[draw][1]
    beside = ~rows & inside
    unknown = sum(n for draw, n in suspects.trained.items() if draw not in draws) if even else 0
    infinite = np.full(unknown, np.inf)
    order = np.argsort(-suspects.confidence, kind="stable")
    order = order[(rows & inside)[order]]
    return Sample(
        confidence=suspects.confidence[order],
        wrong=suspects.wrong[order],
        weight=suspects.weight[order],
        draw=suspects.draw[order],
        others=np.sort(suspects.others[fixes]),
        beside=np.append(np.sort(suspects.confidence[beside]), infinite),
        beside_right=np.append(np.sort(suspects.confidence[beside & ~suspects.wrong]), infinite),
        frames=draws,
        even=even,
    )


def _number_from(confidence: np.ndarray, least: float) -> int:
    """Return how many of the confidences, ascending, are at least that."""
    return int(len(confidence) - np.searchsorted(confidence, least))


def _band_ends(confidence: np.ndarray) -> list[int]:
    """Return where bands of about `ROWS_PER_BAND` of the rows, sorted from sure to unsure, end; no tie is cut."""
    bands = max(len(confidence) // ROWS_PER_BAND, 1)
    marks = np.linspace(0, len(confidence), bands + 1)[1:].round().astype(int)
    return sorted({end_of_tie(confidence, mark) for mark in marks})


def end_of_tie(confidence: np.ndarray, count: int) -> int:
    """Return how many rows, sorted from sure to unsure, are at least as sure as number `count` of them, from 1."""
    return int(np.searchsorted(-confidence, -confidence[count - 1], side="right"))
