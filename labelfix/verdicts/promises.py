"""Promises of a verdict: from random trusted rows, which also shaped it, and from frozen lists, which did not.

N rows, n rows of a sample, of which the first t are decided.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labelfix.inputs.answers import CANNOT_TELL, UNDECIDED, AnsweredDraw
from labelfix.inputs.random_draw import RandomDraw
from labelfix.risk_control.plan import nested_sizes
from labelfix.risk_control.promise import (
    Answers,
    Promise,
    PromiseKind,
    fixes_level,
    largest_set,
    list_level,
    most_wrong,
    num_passed,
)
from labelfix.verdicts.estimates import Population

__all__ = [
    "FrozenFixes",
    "PromisedRows",
    "promise_of_fixes",
    "promise_of_frozen_fixes",
    "promises_of_labels",
]

# A promise of all labels allows for so many open images, at least, of which nobody can tell what they show.
UNTOLD_PART, UNTOLD_ROWS = 1000, 10


@dataclass(frozen=True, kw_only=True)
class PromisedRows:
    """What random rows promise, and of which rows.

    Attributes
    ----------
    promises
        One of fixes; or one of all labels and one where doubtful labels are dropped; none where none was asked for.
    promised, kept
        (N,) bool: rows whose predicted labels may be taken unseen; and rows to keep if all others are dropped.
    """

    promises: tuple[Promise, ...]
    promised: np.ndarray
    kept: np.ndarray


def promise_of_fixes(
    view: Population,
    verified: np.ndarray,
    trained: np.ndarray,
    draw: RandomDraw,
    max_error: float,
    coverage: float,
) -> PromisedRows:
    """Return what random rows promise of label issues.

    Parameters
    ----------
    view
        Of all rows, each as predicted without its own trusted label.
    verified, trained
        (N,) bool: rows whose label is known, and those of them that took part in training, which the sample is not
        from. The verified rows outside of the sample are not fixed, so that the share is of the others; but they
        are part of what the sample is from.
    """
    sampled = np.zeros(len(verified), bool)
    promise, size = _nothing(PromiseKind.FIXES, max_error, coverage), 0
    ranked = _ranked(view, np.flatnonzero(view.is_issue & ~trained))
    if len(draw.rows):
        sampled[draw.rows] = True
        counted = (sampled | ~verified)[ranked]
        level = fixes_level(coverage, draw.number, frozen=False)
        promise, size = _of_a_share(promise, view, ranked, counted, draw, level)
    covered = np.zeros(len(verified), bool)
    covered[ranked[:size]] = True
    promise = replace(promise, unverified=int((covered & ~verified).sum()))
    return PromisedRows(promises=(promise,), promised=covered, kept=np.zeros(len(verified), bool))


def promises_of_labels(
    view: Population, verified: np.ndarray, draw: RandomDraw, max_error: float, coverage: float
) -> PromisedRows:
    """Return what random rows promise of all labels, once a person has verified what is left open.

    The parameters are those of `promise_of_fixes`.
    """
    labels, kept = (
        _nothing(PromiseKind.LABELS, max_error, coverage),
        _nothing(PromiseKind.KEPT, max_error, coverage),
    )
    ranked, taken, kept_size = _ranked(view, np.arange(len(verified))), 0, 0
    rank = np.empty(len(ranked), np.int64)
    rank[ranked] = np.arange(len(ranked))
    if len(draw.rows):
        level = list_level(draw.number, 1 - coverage)
        answers = Answers(rank=rank[draw.rows], wrong=_wrong(view, draw))
        limit = most_wrong(max_error, len(ranked) - max(len(ranked) // UNTOLD_PART, UNTOLD_ROWS))
        taken = largest_set(len(ranked), max(limit, 0), answers, level)
        tested = answers.inside(taken) if taken else answers
        labels = replace(_promise(labels, draw, tested, view.confidence[ranked[:taken]]), limit=limit)
        every = np.ones(len(ranked), bool)
        kept, kept_size = _of_a_share(kept, view, ranked, every, draw, level)
    is_taken, is_kept = rank < taken, rank < kept_size
    labels = replace(
        labels,
        size=len(ranked) if taken else 0,
        unverified=int((is_taken & ~verified).sum()),
        to_verify=int((~is_taken & ~verified).sum()) if taken else 0,
    )
    kept = replace(kept, unverified=int((is_kept & ~verified).sum()))
    return PromisedRows(promises=(labels, kept), promised=is_taken, kept=is_kept)


@dataclass(frozen=True, kw_only=True)
class FrozenFixes:
    """A promise of a frozen list, with the row numbers that it covers, (m,), and their labels, (m,) codes."""

    promise: Promise
    rows: np.ndarray
    labels: np.ndarray


def promise_of_frozen_fixes(
    answered: AnsweredDraw, suggested: np.ndarray, number: int | None = None
) -> FrozenFixes:
    """Return what the answers to a draw of `labelfix next` promise of its list.

    A listed row that is gone lowers the number of wrong labels that the list may hold, and counts as wrong where it
    was drawn: so the promise holds for the rows that are left, whatever was taken away.

    Parameters
    ----------
    suggested
        (L,) codes of the suggestions of the list, -1 for names that are no class any more.
    number
        Which list it is; None takes what the record says.
    """
    number = answered.draw.settings["number"] if number is None else number
    settings, row = answered.draw.settings, answered.row
    drawn = answered.draw.drawn
    answer = np.where(answered.drawn_row < 0, CANNOT_TELL, answered.answer)
    looked = int(np.argmax(np.append(answer, UNDECIDED) == UNDECIDED))
    answers = Answers(rank=drawn, wrong=answer[:looked] != suggested[drawn[:looked]])
    sizes, present = settings["sizes"], np.cumsum(row >= 0)
    limits = [most_wrong(settings["max_error"], int(present[size - 1])) for size in sizes]
    level = fixes_level(settings["coverage"], number, frozen=True)
    passed = num_passed(sizes, limits, answers, level)
    size = sizes[passed - 1] if passed else 0
    covered = np.flatnonzero((row[:size] >= 0) & (suggested[:size] >= 0))
    confidence = answered.draw.table["confidence"].to_numpy()[:size]
    promise = Promise(
        kind=PromiseKind.FIXES,
        max_error=settings["max_error"],
        coverage=settings["coverage"],
        size=len(covered),
        unverified=int((~np.isin(row[covered], answered.drawn_row[answered.answer >= 0])).sum()),
        threshold=float(confidence[-1]) if size else None,
        **_counts(answers.inside(size or (sizes[0] if sizes else 0))),
        exact=True,
        number=number,
        draw=answered.draw.id,
    )
    return FrozenFixes(promise=promise, rows=row[covered], labels=suggested[covered])


# -------------------------------------------------------------------------------------------------------- parts


def _ranked(view: Population, rows: np.ndarray) -> np.ndarray:
    """Return rows in the order of their confidence, the highest first; ties by the content of the prediction."""
    return rows[np.lexsort((view.label_score[rows], view.predicted[rows], -view.confidence[rows]))]


def _wrong(view: Population, draw: RandomDraw) -> np.ndarray:
    return view.predicted[draw.rows[: len(draw.true)]] != draw.true


def _of_a_share(
    nothing: Promise,
    view: Population,
    ranked: np.ndarray,
    counted: np.ndarray,
    draw: RandomDraw,
    level: float,
) -> tuple[Promise, int]:
    """Return the promise of a share of the most confident rows of a list, and how many rows these are.

    ranked (L,) row numbers in order; counted (L,) bool: the rows that the share is of.
    """
    rank = np.full(len(view.given), -1)
    rank[ranked] = np.arange(len(ranked))
    listed = rank[draw.rows] >= 0
    answers = Answers(rank=rank[draw.rows[listed]], wrong=_wrong(view, draw)[listed[: len(draw.true)]])
    confidence, counts = view.confidence[ranked], np.cumsum(counted)
    sizes = nested_sizes(confidence, len(ranked), len(answers.rank), nothing.max_error, level)
    limits = [most_wrong(nothing.max_error, int(counts[size - 1])) for size in sizes]
    passed = num_passed(sizes, limits, answers, level)
    size = sizes[passed - 1] if passed else 0
    tested = answers.inside(size or (sizes[0] if sizes else len(ranked)))
    promise = _promise(nothing, draw, tested, confidence[:size])
    return replace(promise, size=int(counts[size - 1]) if size else 0), size


def _nothing(kind: PromiseKind, max_error: float, coverage: float) -> Promise:
    return Promise(
        kind=kind, max_error=max_error, coverage=coverage, size=0, unverified=0, threshold=None,
        drawn=0, looked=0, wrong=0, exact=False,
    )  # fmt: skip


def _promise(base: Promise, draw: RandomDraw, sample: Answers, confidence: np.ndarray) -> Promise:
    return replace(
        base,
        threshold=float(confidence[-1]) if len(confidence) else None,
        exact=draw.exact,
        number=draw.number,
        draw=draw.draw,
        **_counts(sample),
    )


def _counts(sample: Answers) -> dict[str, Any]:
    return {"drawn": len(sample.rank), "looked": len(sample.wrong), "wrong": int(sample.wrong.sum())}
