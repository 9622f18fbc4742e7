"""Which part of a list can be promised, given the answers to a random sample of its rows.

A list is frozen before its rows are drawn: its order (most confident first), the label of every row, and the sizes
of nested sets. Two promises are made of lists:

- of a share of the set: at most epsilon of its labels are wrong. Sets are tested from the smallest planned one on,
  each with the boundary (`labelfix.risk_control.boundary`) of its own drawn rows, and the first that does not pass
  ends the sequence (fixed-sequence testing; Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052). A broken
  promise means that the first set with too many wrong labels has passed: probability at most the level.
- of a share of the whole: at most epsilon of all N labels are wrong where the set is taken as it is, and a person
  sees to all other rows. The number of wrong labels in it only grows with the set (monotone loss, as in conformal
  risk control, arXiv 2208.02814; compare arXiv 2506.10908). So one boundary holds for every set: the smallest set
  with too many wrong labels has to pass before any larger one does.

n drawn rows, of which the first t are decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from labelfix.risk_control.boundary import boundary

__all__ = [
    "Answers",
    "Promise",
    "PromiseKind",
    "fixes_level",
    "largest_set",
    "list_level",
    "most_wrong",
    "num_passed",
]

FIRST_SHARE, NEXT_SHARE = 0.8, 0.2
# Of the error level of fixes, for random rows that also shaped the verdict; the rest is for frozen lists.
SHARE_OF_RANDOM_ROWS = 0.375
ROUNDING = 1e-9


class PromiseKind(StrEnum):
    """What a promise is about: fixes of a list, all labels, or the labels kept where all others are dropped."""

    FIXES = "fixes"
    LABELS = "labels"
    KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What is promised, and what it rests on.

    Attributes
    ----------
    kind
        What it is about.
    max_error, coverage
        At most this share of the labels is wrong, with this confidence over all lists of the data set.
    size, unverified
        How many labels the share is of, wrong ones that were found among them; 0 where nothing is promised. How
        many of them nobody verified.
    threshold
        The least confidence among those; None where nothing is promised.
    drawn, looked, wrong
        Rows of the sample, how many of them are decided up to the first that is not, and the wrong ones of these
        (of a promise of a set: inside it, or inside the first set where nothing is promised).
    exact
        Whether labels and order were fixed before the sample was drawn. Else the sample also shaped them, and the
        promise holds in simulation.
    to_verify
        Rows that a person must still verify before the promise holds.
    limit
        Of all labels: how many of them may be wrong.
    number, draw
        Which list of the data set it is, from 1 on, and the identifier of its draw; None without a recorded one.
    """

    kind: PromiseKind
    max_error: float
    coverage: float
    size: int
    unverified: int
    threshold: float | None
    drawn: int
    looked: int
    wrong: int
    exact: bool
    to_verify: int = 0
    limit: int = 0
    number: int = 1
    draw: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A random sample of the rows of a list, in the order in which they were drawn.

    Attributes
    ----------
    rank
        (n,) places of the rows in the list, 0 the most confident.
    wrong
        (t,) bool: whether the label that the list has for a row is wrong; a person who cannot tell counts as wrong.
    """

    rank: np.ndarray
    wrong: np.ndarray

    def inside(self, size: int) -> "Answers":
        """Return the sample of the first `size` rows of the list."""
        inside = self.rank < size
        return Answers(rank=self.rank[inside], wrong=self.wrong[inside[: len(self.wrong)]])


def list_level(number: int, level: float) -> float:
    """Return the part of the error level that list `number` of a data set, from 1 on, may spend."""
    return level * FIRST_SHARE * NEXT_SHARE ** (number - 1)


def fixes_level(coverage: float, number: int, *, frozen: bool) -> float:
    """Return the error level of a promise of fixes: of frozen list `number`, or of random sample `number`."""
    share = 1 - SHARE_OF_RANDOM_ROWS if frozen else SHARE_OF_RANDOM_ROWS
    return list_level(number, (1 - coverage) * share)


def most_wrong(max_error: float, size: int) -> int:
    """Return the largest number of wrong labels that is at most a share `max_error` of `size`."""
    return int(max_error * size + ROUNDING)


def num_passed(sizes: Sequence[int], limits: Sequence[int], answers: Answers, level: float) -> int:
    """Return how many of the nested sets are promised.

    Parameters
    ----------
    sizes, limits
        (J,) sizes of the sets, ascending, and the most wrong labels that each may hold.
    level
        The probability that a set is promised that holds more.
    """
    for number, (size, limit) in enumerate(zip(sizes, limits, strict=True)):
        sample = answers.inside(size)
        looked = len(sample.wrong)
        allowed = boundary(size, len(sample.rank), limit, level)[: looked + 1]
        if not (np.cumsum(np.append(0, sample.wrong)) <= allowed).any():
            return number
    return len(sizes)


def largest_set(size: int, limit: int, answers: Answers, level: float) -> int:
    """Return how many of the most confident rows of a list can be taken as they are.

    Parameters
    ----------
    size, limit
        N, and the most wrong labels that may be among all rows.
    level
        The probability that more are.
    """
    allowed = boundary(size, len(answers.rank), limit, level)
    largest = 0
    for t in np.flatnonzero(allowed[: len(answers.wrong) + 1] >= 0):
        wrong_ranks = np.sort(answers.rank[:t][answers.wrong[:t]])
        largest = max(largest, size if len(wrong_ranks) <= allowed[t] else int(wrong_ranks[allowed[t]]))
    return largest
