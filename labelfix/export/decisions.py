"""From verdicts to decisions: a policy is applied once, and every format writes the same frozen `Decisions`.

n images, K classes; a label code is an index into the classes, -1 where there is none.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import pyarrow as pa

from labelfix.inputs import NO_LABEL
from labelfix.runs.reading import FinishedRun, dense_soft_labels, label_codes, label_names
from labelfix.settings import Policy, RowChoice

__all__ = ["Decisions", "ExportAction", "Reason", "decide"]

ROWS_PER_CHUNK = 65536


class ExportAction(IntEnum):
    """What an export does to a label."""

    KEEP = 0
    RELABEL = 1
    DROP = 2
    SOFT = 3
    REVIEW = 4


ACTION_NAMES = tuple(action.name.lower() for action in ExportAction)


class Reason(IntEnum):
    """Why an action is taken; `REASONS` has the sentences."""

    AGREES = 0
    TRUSTED = 1
    PROMISED = 2
    CONFIDENT = 3
    ISSUE = 4
    POSTERIOR = 5
    DOUBTFUL = 6


REASONS = {
    Reason.AGREES: "the given label is the most probable one",
    Reason.TRUSTED: "a trusted label says so",
    Reason.PROMISED: "a fix within the promised error",
    Reason.CONFIDENT: "confidence reaches --min-confidence",
    Reason.ISSUE: "another label is more probable",
    Reason.POSTERIOR: "soft label of the run",
    Reason.DOUBTFUL: "not among the labels whose promised error bears no others",
}


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The exported label of every image, with the action and its reason.

    Attributes
    ----------
    run_id, classes
        Of the run.
    policy
        Of the export.
    images
        (n,) string: names as the label table writes them.
    old, new, suggested, trusted
        (n,) int32: the given label, the label of the export (-1: dropped), the most probable one, the trusted one.
    action, reason
        (n,) int8: an `ExportAction` and a `Reason` each.
    confidence, label_score
        (n,) float32: probabilities of `suggested` and of `old`.
    soft
        Arrow table with the run's soft labels of the same rows.
    """

    run_id: str
    policy: Policy
    classes: tuple[str, ...]
    images: pa.Array
    old: np.ndarray
    new: np.ndarray
    suggested: np.ndarray
    trusted: np.ndarray
    action: np.ndarray
    reason: np.ndarray
    confidence: np.ndarray
    label_score: np.ndarray
    soft: pa.Table

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_label_issue(self) -> np.ndarray:
        """(n,) bool: the most probable label is not the given one."""
        return self.suggested != self.old

    @property
    def kept(self) -> "Decisions":
        """The rows that are not dropped."""
        return self.only(self.action != ExportAction.DROP)

    def only(self, chosen: np.ndarray) -> "Decisions":
        """Return the rows `chosen`: a mask (n,) bool, or row numbers (m,) in the order wanted."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        arrays = ("old", "new", "suggested", "trusted", "action", "reason", "confidence", "label_score")
        return replace(
            self,
            images=self.images.take(pa.array(rows)),
            soft=self.soft.take(rows),
            **{name: getattr(self, name)[rows] for name in arrays},
        )

    def posterior(self, start: int, stop: int) -> np.ndarray:
        """Return the run's soft labels (m, K) float32 of rows `start` to `stop`."""
        return dense_soft_labels(self.soft.slice(start, stop - start), self.classes)

    def targets(self, start: int, stop: int) -> np.ndarray:
        """Return the training targets (m, K) float32: the soft labels under ``soft``, else one-hot new labels."""
        if self.policy is Policy.SOFT:
            return self.posterior(start, stop)
        return np.eye(len(self.classes), dtype=np.float32)[self.new[start:stop]]

    def counts(self) -> dict[str, int]:
        """Return the number of images of every `ExportAction`, and the number of changed labels."""
        counts = np.bincount(self.action, minlength=len(ExportAction))
        changed = int(((self.new != self.old) & (self.new != NO_LABEL)).sum())
        return {**dict(zip(ACTION_NAMES, counts.tolist(), strict=True)), "changed": changed}

    def class_mix(self) -> dict[str, tuple[float, float]]:
        """Return the share of every class among the most probable labels of all images, and of the exported."""
        left = self.suggested[self.new != NO_LABEL]
        before, after = (
            np.bincount(codes, minlength=len(self.classes)) / max(len(codes), 1)
            for codes in (self.suggested, left)
        )
        return dict(zip(self.classes, zip(before.tolist(), after.tolist(), strict=True), strict=True))

    def provenance(self) -> dict[str, pa.Array]:
        """Return the columns that every format has: old and new label, action, reason, run."""
        return {
            "old_label": label_names(self.old, self.classes),
            "new_label": label_names(self.new, self.classes),
            "suggested_label": label_names(self.suggested, self.classes),
            "trusted_label": label_names(self.trusted, self.classes),
            "action": label_names(self.action, ACTION_NAMES),
            "reason": label_names(self.reason, tuple(REASONS.values())),
            "confidence": pa.array(self.confidence),
            "label_score": pa.array(self.label_score),
            "run_id": label_names(np.zeros(len(self), np.int32), (self.run_id,)),
        }


def decide(
    run: FinishedRun,
    policy: Policy,
    *,
    min_confidence: float | None = None,
    rows: RowChoice = RowChoice.ALL,
) -> Decisions:
    """Apply a policy to the verdicts of a run.

    Parameters
    ----------
    policy
        What happens to label issues; see `Policy`.
    min_confidence
        Under ``relabel`` and ``drop``: label issues of at least this confidence are relabelled or dropped, whatever
        the run's own actions are.
    rows
        All images, or the label issues alone.
    """
    table = run.table("soft_labels")
    classes = run.classes
    old, suggested = (label_codes(table[name], classes) for name in ("given_label", "predicted_label"))
    trusted = label_codes(table["trusted_label"], classes)
    confidence = table["confidence"].to_numpy()
    promised = np.asarray(table["action"].cast(pa.string())) == "relabel"
    of_labels = [promise for promise in run.promises if promise.kind in ("labels", "kept")]
    if of_labels and policy is Policy.DROP and min_confidence is None:
        action, reason = _dropped(old, suggested, trusted, np.asarray(table["kept"]))
    else:
        action, reason = _actions(policy, old, suggested, trusted, confidence, promised, min_confidence)
        if (
            of_labels and policy is Policy.RELABEL and min_confidence is None
        ):  # nobody can tell what these show
            untold = (trusted == NO_LABEL) & ~np.asarray(table["promised"])
            action[untold], reason[untold] = ExportAction.DROP, Reason.DOUBTFUL
    new = np.select(
        [action == ExportAction.DROP, np.isin(action, (ExportAction.RELABEL, ExportAction.SOFT))],
        [NO_LABEL, suggested],
        old,
    ).astype(np.int32)
    soft_columns = [name for name in ("soft_label", "soft_label_rest") if name in table.column_names]
    decisions = Decisions(
        run_id=run.run_id,
        policy=policy,
        classes=classes,
        images=pa.concat_arrays(table["image"].chunks or [pa.array([], pa.string())]),
        old=old,
        new=new,
        suggested=suggested,
        trusted=trusted,
        action=action,
        reason=reason,
        confidence=confidence,
        label_score=table["label_score"].to_numpy(),
        soft=table.select(soft_columns),
    )
    return decisions if rows is RowChoice.ALL else decisions.only(decisions.is_label_issue)


def _dropped(
    old: np.ndarray, suggested: np.ndarray, trusted: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return actions and reasons, both (n,) int8, where only verified rows and those promised together are kept."""
    issue, verified = suggested != old, trusted != NO_LABEL
    stays = kept | verified
    action = np.where(stays, np.where(issue, ExportAction.RELABEL, ExportAction.KEEP), ExportAction.DROP)
    reason = np.select(
        [verified, ~kept, issue], [Reason.TRUSTED, Reason.DOUBTFUL, Reason.PROMISED], Reason.AGREES
    )
    return action.astype(np.int8), reason.astype(np.int8)


def _actions(
    policy: Policy,
    old: np.ndarray,
    suggested: np.ndarray,
    trusted: np.ndarray,
    confidence: np.ndarray,
    promised: np.ndarray,
    min_confidence: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `ExportAction` and the `Reason` of every row, both (n,) int8."""
    issue, verified = suggested != old, trusted != NO_LABEL
    confident = np.zeros(len(old), bool)
    if min_confidence is not None:
        confident = issue & (confidence >= min_confidence)
    reason = np.where(issue, Reason.ISSUE, Reason.AGREES)
    action = np.where(issue, ExportAction.REVIEW, ExportAction.KEEP)
    if policy is Policy.SOFT:
        action[:], reason[:] = ExportAction.SOFT, Reason.POSTERIOR
    elif policy is Policy.DROP:
        action[issue if min_confidence is None else confident] = ExportAction.DROP
        reason[confident] = Reason.CONFIDENT
    elif policy is Policy.RELABEL:
        action[confident], reason[confident] = ExportAction.RELABEL, Reason.CONFIDENT
        fixed = issue & promised
        action[fixed], reason[fixed] = ExportAction.RELABEL, Reason.PROMISED
    reason[verified] = Reason.TRUSTED
    if policy is not Policy.REVIEW_ONLY:
        action[verified] = np.where(issue[verified], ExportAction.RELABEL, ExportAction.KEEP)
    return action.astype(np.int8), reason.astype(np.int8)
