"""What verified fixes say of others: which of them are a sample of which fixes.

Fixes are suspects with a confidence of at least t. Trusted rows that are suspects, judged by fits that did not see
them, speak for the fixes that they could have been drawn in place of. `samples_of` finds all ways to read them:

- Rows of a random sample speak for all fixes.
- Rows that were chosen from a frame (`labelfix.frames`), all with one chance, speak for the fixes inside it, and
  so do the random rows inside. Rows of several frames in turn are one sample of what is in all of them: each is a
  random part of what the draws before it had left. The last ones alone still are one, of what is in theirs.
- Rows of the chosen draws that are left out speak for themselves alone. Where they were verified after the sample,
  they are part of the set that it was drawn from; where before, they are not. Tables are easily given out of order,
  so the test has to pass both ways.
- Rows that were chosen with chances of their own, and no frame to go with them, lie unevenly among the fixes. For
  them, `Sample.upto` assumes that errors are alike within a band of some twenty verified rows of like confidence,
  and no rarer in a band of more doubt. They may then all lie among the fixes below some confidence; so all fixes
  are taken to be as thinly verified as those are where that is least. With S_j the share of the fixes in the
  bands from j down and N_j the verified rows in them, d = min_j N_j / S_j, and p_h the error of band h, growing
  with doubt,

      sum_h n_h p_h = sum_j (p_j - p_(j-1)) N_j >= d sum_j (p_j - p_(j-1)) S_j = d sum_h s_h p_h,

  so that d times the share of wrong fixes is the least number of verified ones that are expected to be wrong,
  however the errors lie; and unequal chances that sum to it come out low less often than equal ones (Hoeffding
  1956, "On the distribution of the number of successes in independent trials"). That is for fixes without end;
  where they end, the test is hypergeometric, and the tests hold it to its risk by enumeration.

n verified suspects, m other ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from labelfix.fix_error import EQUAL, chance_of_so_few, chance_to_promise, planned_error
from labelfix.sampling import RANDOM_SAMPLE, effective_rows, pool_weights

__all__ = ["Sample", "Suspects", "Verified", "end_of_tie", "samples_of"]

ROWS_PER_BAND = 20
# Of a band, the fixes per verified one may be so many times those of the whole set.
MOST_UNEVEN = 2.0


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Suspects, verified and not.

    Attributes
    ----------
    confidence, wrong, weight, sample
        (n,) of the verified ones: probability of the predicted label by a fit that did not see the row, whether
        that label is wrong, weight of the row within its draw, and the number of that draw.
    others
        (m,) confidence of those that nobody verified.
    frames
        By the number of a draw, which of the (n,) and of the (m,) its rows were drawn from, bool.
    """

    confidence: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray
    sample: np.ndarray
    others: np.ndarray
    frames: Mapping[int, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample of fixes.

    Attributes
    ----------
    confidence, wrong, weight, draw
        (n,) of its rows, the most confident first.
    others
        (m,) confidences of the fixes that it speaks for, ascending.
    known, known_wrong
        Confidences, descending, of fixes that were verified otherwise, and whether they are wrong.
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
    known: np.ndarray
    known_wrong: np.ndarray
    frames: tuple[int, ...] = ()
    even: bool = True

    def upto(self, count: int) -> "Verified":
        """Return what the best `count` rows say of the fixes that are at least as confident."""
        least = self.confidence[count - 1]
        fixes = self.fixes_from(least)
        if self.even:
            known = int(np.searchsorted(-self.known, -least, side="right"))
            wrong, known_wrong = int(self.wrong[:count].sum()), int(self.known_wrong[:known].sum())
            return Verified(rows=count, wrong=wrong, fixes=fixes, known=known, known_wrong=known_wrong)
        return self._in_bands(count, fixes) if fixes else Verified()

    def fixes_from(self, least: float) -> int:
        """Return how many of the other fixes have at least that confidence."""
        return int(len(self.others) - np.searchsorted(self.others, least))

    def planned_chance(self, count: int, max_fix_error: float, risk: float) -> float:
        """Return the chance that the best `count` rows make a promise, without a look at their truth."""
        seen = self.upto(count)
        rate = planned_error(self.others[len(self.others) - seen.fixes :])
        return min(
            chance_to_promise(
                rate, seen.rows, seen.fixes, max_fix_error, risk, thinnest=seen.thinnest, known=known
            )
            for known in {0, seen.known}
        )

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
    them. Rows of unequal weights count by their effective number, wrong ones are rounded up. `known` and
    `known_wrong` are fixes that were verified otherwise.
    """

    rows: int = 0
    wrong: int = 0
    fixes: int = 0
    thinnest: float = 1.0
    known: int = 0
    known_wrong: int = 0

    def chance(self, max_fix_error: float) -> float:
        """Return the chance of so few wrong ones if more than `max_fix_error` of the other fixes were wrong."""
        return max(
            float(
                chance_of_so_few(
                    self.wrong, self.rows, self.fixes, max_fix_error,
                    thinnest=self.thinnest, known=known, known_wrong=known_wrong,
                )
            )
            for known, known_wrong in {(0, 0), (self.known, self.known_wrong)}
        )  # fmt: skip


def samples_of(suspects: Suspects) -> list[Sample]:
    """Return every way to take the verified suspects as a sample; it does not depend on which of them are wrong."""
    chosen = sorted({*suspects.frames, *suspects.sample.tolist()} - {RANDOM_SAMPLE})
    everything = np.ones(len(suspects.others), bool)
    if not all(draw in suspects.frames for draw in chosen):
        whole = _sample(suspects, np.ones(len(suspects.sample), bool), everything)
        return [replace(whole, even=False)]
    at_random = suspects.sample == RANDOM_SAMPLE
    samples = [_sample(suspects, at_random, everything, beside=~at_random)]
    for first in range(len(chosen)):
        draws = tuple(chosen[first:])
        inside, fixes = np.ones(len(suspects.sample), bool), everything
        for draw in draws:
            inside, fixes = inside & suspects.frames[draw][0], fixes & suspects.frames[draw][1]
        rows = np.isin(suspects.sample, draws) | (at_random & (first == 0))
        beside = ~np.isin(suspects.sample, (RANDOM_SAMPLE, *draws))
        samples.append(_sample(suspects, rows & inside, fixes, beside=beside & inside, frames=draws))
    return samples


def _sample(
    suspects: Suspects,
    rows: np.ndarray,
    fixes: np.ndarray,
    *,
    beside: np.ndarray | None = None,
    frames: tuple[int, ...] = (),
) -> Sample:
    """Return the sample of verified `rows` (n,), which speaks for other `fixes` (m,), and the rows `beside` it."""
    order = np.argsort(-suspects.confidence, kind="stable")
    rows = order[rows[order]]
    known = order[:0] if beside is None else order[beside[order]]
    return Sample(
        confidence=suspects.confidence[rows],
        wrong=suspects.wrong[rows],
        weight=suspects.weight[rows],
        draw=suspects.sample[rows],
        others=np.sort(suspects.others[fixes]),
        known=suspects.confidence[known],
        known_wrong=suspects.wrong[known],
        frames=frames,
    )


def _band_ends(confidence: np.ndarray) -> list[int]:
    """Return where bands of about `ROWS_PER_BAND` of the rows, sorted from sure to unsure, end; no tie is cut."""
    bands = max(len(confidence) // ROWS_PER_BAND, 1)
    marks = np.linspace(0, len(confidence), bands + 1)[1:].round().astype(int)
    return sorted({end_of_tie(confidence, mark) for mark in marks})


def end_of_tie(confidence: np.ndarray, count: int) -> int:
    """Return how many rows, sorted from sure to unsure, are at least as sure as number `count` of them, from 1."""
    return int(np.searchsorted(-confidence, -confidence[count - 1], side="right"))
