"""What recorded draws make of a verdict: promises of frozen lists, and labels that are delivered as promised.

N images, K classes, L rows of a list.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.inputs.answers import CANNOT_TELL, AnsweredDraw
from labelfix.inputs.draws import Purpose
from labelfix.risk_control.promise import Promise, PromiseKind, most_wrong
from labelfix.settings import VerdictConfig
from labelfix.verdicts.arrays import Action, Verdict, actions
from labelfix.verdicts.promises import promise_of_frozen_fixes

__all__ = ["with_frozen_lists", "with_trusted_labels"]


def with_frozen_lists(judged: Verdict, table: LabelTable, config: VerdictConfig) -> Verdict:
    """Return the verdict with the promises of frozen lists in place of those of random rows, where there are any.

    The labels that a list promises are the ones it was frozen with, whatever is predicted now.

    Raises
    ------
    InputError
        When a list was made for another limit, or another kind of promise, than the run is asked for.
    """
    asked = {Purpose.FIXES: config.max_fix_error, Purpose.LABELS: config.max_label_error}
    lists = [d for d in table.draws if asked.get(d.draw.purpose) is not None]
    for answered in lists:
        _check_limit(answered, asked[answered.draw.purpose], config.interval)
    if not lists:
        return judged
    lists.sort(key=lambda d: int(d.draw.settings["number"]))
    promised, predicted = np.zeros(table.num_images, bool), judged.predicted_label.copy()
    promises: list[Promise] = []
    if config.max_label_error is not None:
        promises.append(_of_all_labels(lists[-1], table, promised, predicted))
    else:
        number = 0
        for answered in lists:
            number = max(int(answered.draw.settings["number"]), number + 1)  # no level is spent twice
            found = promise_of_frozen_fixes(answered, _suggested(answered, table.classes), number)
            if promised[found.rows].any():  # two promises of one row would not add up
                found = replace(found, rows=found.rows[:0], promise=_withdrawn(found.promise))
            else:
                promised[found.rows], predicted[found.rows] = True, found.labels
            unverified = int((~table.is_pair[found.rows]).sum())
            promises.append(replace(found.promise, unverified=unverified))
    return _with_promised_labels(judged, table, promised, predicted, tuple(promises))


def with_trusted_labels(judged: Verdict, table: LabelTable, rows: np.ndarray) -> Verdict:
    """Return the verdict with the trusted labels of `rows`, which it does not know."""
    if not len(rows):
        return judged
    true, wrong = table.trusted[rows], table.trusted[rows] != table.given[rows]
    columns = {
        name: getattr(judged, name).copy()
        for name in ("soft_label", "predicted_label", "confidence", "label_score", "is_label_issue", "action")
    }
    columns["soft_label"][rows] = np.eye(len(table.classes), dtype=np.float32)[true]
    columns["predicted_label"][rows] = true
    columns["confidence"][rows] = 1.0
    columns["label_score"][rows] = ~wrong
    columns["is_label_issue"][rows] = wrong
    columns["action"][rows] = np.where(wrong, Action.RELABEL, Action.KEEP)
    return replace(judged, **columns)


# -------------------------------------------------------------------------------------------------------- parts


def _check_limit(answered: AnsweredDraw, asked: float | None, coverage: float) -> None:
    option = {Purpose.FIXES: "--max-fix-error", Purpose.LABELS: "--max-label-error"}[answered.draw.purpose]
    made_for = answered.draw.settings["max_error"]
    if asked != made_for:
        raise InputError(
            f"{option}: got {asked:g}, but the draw {answered.draw.id} was made for {made_for:g}; expected the"
            " same. Make another list for another limit."
        )
    if coverage != answered.draw.settings["coverage"]:
        raise InputError(
            f"--interval: got {coverage:g}, but the draw {answered.draw.id} was made for "
            f"{answered.draw.settings['coverage']:g}; expected the same."
        )


def _suggested(answered: AnsweredDraw, classes: Sequence[str]) -> np.ndarray:
    """Return the labels of a list as codes, (L,) int32; -1 for names that are no class any more."""
    index = {name: k for k, name in enumerate(classes)}
    names = answered.draw.table["suggestion"].to_pylist()
    return np.array([index.get(name, NO_LABEL) for name in names], np.int32)


def _of_all_labels(
    answered: AnsweredDraw, table: LabelTable, promised: np.ndarray, predicted: np.ndarray
) -> Promise:
    """Return the promise that a run made of all labels, with what is still open; mark the rows it takes."""
    settings, row = answered.draw.settings, answered.row
    promise = Promise(**{**settings["promise"], "kind": PromiseKind.LABELS})
    if len(row) != table.num_images or (row < 0).any():  # it was of other images
        return _withdrawn(promise)
    required = np.zeros(len(row), bool)
    required[answered.draw.drawn] = True
    suggested = _suggested(answered, table.classes)
    taken = np.flatnonzero(~required & (row >= 0) & (suggested >= 0))
    promised[row[taken]], predicted[row[taken]] = True, suggested[taken]
    unverified = ~table.is_pair
    unsure = answered.drawn_row[answered.answer == CANNOT_TELL]
    unsure = unsure[unverified[unsure]]
    delivered = table.num_images - len(unsure)  # an image that nobody can tell is left out
    left = replace(
        promise,
        size=delivered,
        unverified=int((promised & unverified).sum()),
        to_verify=int((~promised & unverified).sum()) - len(unsure),
        draw=answered.draw.id,
    )
    return left if most_wrong(promise.max_error, delivered) >= promise.limit else _withdrawn(left)


def _withdrawn(promise: Promise) -> Promise:
    return replace(promise, size=0, unverified=0, threshold=None, to_verify=0)


def _with_promised_labels(
    judged: Verdict,
    table: LabelTable,
    promised: np.ndarray,
    predicted: np.ndarray,
    promises: tuple[Promise, ...],
) -> Verdict:
    rows = np.arange(table.num_images)
    predicted = np.where(table.is_pair, judged.predicted_label, predicted).astype(np.int32)
    issue = predicted != table.given
    of_labels = promises[0].kind is PromiseKind.LABELS and promises[0].size > 0
    return replace(
        judged,
        predicted_label=predicted,
        confidence=judged.soft_label[rows, predicted],
        is_label_issue=issue,
        action=actions(issue, promised, table.is_pair, of_labels=of_labels),
        promised=promised,
        kept=np.zeros(table.num_images, bool),
        promises=promises,
    )
