"""From verdicts to decisions: a policy applied once, to a frozen value that every format writes out.

n images, K classes; a label code is an index into the classes, -1 where there is none.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import pyarrow as pa

from labelfix.inputs import NO_LABEL
from labelfix.runs.reading import FinishedRun, dense_soft_labels, label_codes
from labelfix.settings import Policy, RowChoice

__all__ = ["Decisions", "Done", "Reason", "decide", "names_of"]

ROWS_PER_CHUNK = 65536


class Done(IntEnum):
    """What an export does to a label."""

    KEEP = 0
    RELABEL = 1
    DROP = 2
    SOFT = 3
    REVIEW = 4


DONE_NAMES = tuple(done.name.lower() for done in Done)


class Reason(IntEnum):
    """Why; `REASONS` has the sentences."""

    AGREES = 0
    TRUSTED = 1
    PROMISED = 2
    CONFIDENT = 3
    ISSUE = 4
    POSTERIOR = 5


REASONS = {
    Reason.AGREES: "the given label is the most probable one",
    Reason.TRUSTED: "a trusted label says so",
    Reason.PROMISED: "a fix within the promised error",
    Reason.CONFIDENT: "confidence reaches --min-confidence",
    Reason.ISSUE: "another label is more probable",
    Reason.POSTERIOR: "soft label of the run",
}


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What becomes of every image.

    Attributes
    ----------
    run_id, policy, classes
        Of the run, and of the export.
    images
        (n,) string: names as the label table writes them.
    old, new, suggested, trusted
        (n,) int32: the given label, the label of the export (-1: dropped), the most probable one, the trusted one.
    done, reason
        (n,) int8: a `Done` and a `Reason` each.
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
    done: np.ndarray
    reason: np.ndarray
    confidence: np.ndarray
    label_score: np.ndarray
    soft: pa.Table

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_label_issue(self) -> np.ndarray:
        """(n,) bool: another label than the given one is the most probable."""
        return self.suggested != self.old

    @property
    def kept(self) -> "Decisions":
        """The rows that are not dropped."""
        return self.only(self.done != Done.DROP)

    def only(self, chosen: np.ndarray) -> "Decisions":
        """Return the rows that `chosen` marks ((n,) bool) or names ((m,) integers, in this order)."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        arrays = ("old", "new", "suggested", "trusted", "done", "reason", "confidence", "label_score")
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
        """Return what to train on, (m, K) float32: the soft labels under ``soft``, else one-hot new labels."""
        if self.policy is Policy.SOFT:
            return self.posterior(start, stop)
        return np.eye(len(self.classes), dtype=np.float32)[self.new[start:stop]]

    def counts(self) -> dict[str, int]:
        """Return how many images each action of `Done` befell, and how many labels changed."""
        done = np.bincount(self.done, minlength=len(Done))
        changed = int(((self.new != self.old) & (self.new != NO_LABEL)).sum())
        return {**{name: int(done[i]) for i, name in enumerate(DONE_NAMES)}, "changed": changed}

    def provenance(self) -> dict[str, pa.Array]:
        """Return the columns that go along in every format: old and new label, action, reason, run."""
        return {
            "old_label": names_of(self.old, self.classes),
            "new_label": names_of(self.new, self.classes),
            "suggested_label": names_of(self.suggested, self.classes),
            "trusted_label": names_of(self.trusted, self.classes),
            "action": names_of(self.done, DONE_NAMES),
            "reason": names_of(self.reason, tuple(REASONS.values())),
            "confidence": pa.array(self.confidence),
            "label_score": pa.array(self.label_score),
            "run_id": names_of(np.zeros(len(self), np.int32), (self.run_id,)),
        }


def names_of(codes: np.ndarray, names: tuple[str, ...]) -> pa.Array:
    """Return (n,) strings for numbers into `names`, null where a number is negative."""
    codes = np.asarray(codes).astype(np.int32)
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string())).cast(pa.string())


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
        What happens to suspects; see `Policy`.
    min_confidence
        Under ``relabel`` and ``drop``: suspects of at least this confidence are relabelled or dropped, whatever
        the run's own actions are.
    rows
        All images, or the suspects alone.
    """
    table = run.table("soft_labels")
    classes = run.classes
    old, suggested = (label_codes(table[name], classes) for name in ("given_label", "predicted_label"))
    trusted = label_codes(table["trusted_label"], classes)
    confidence = table["confidence"].to_numpy()
    promised = np.asarray(table["action"].cast(pa.string())) == "relabel"
    done, reason = _judge(policy, old, suggested, trusted, confidence, promised, min_confidence)
    new = np.select(
        [done == Done.DROP, np.isin(done, (Done.RELABEL, Done.SOFT))], [NO_LABEL, suggested], old
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
        done=done,
        reason=reason,
        confidence=confidence,
        label_score=table["label_score"].to_numpy(),
        soft=table.select(soft_columns),
    )
    return decisions if rows is RowChoice.ALL else decisions.only(decisions.is_label_issue)


def _judge(
    policy: Policy,
    old: np.ndarray,
    suggested: np.ndarray,
    trusted: np.ndarray,
    confidence: np.ndarray,
    promised: np.ndarray,
    min_confidence: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is done to every label, and why, both (n,) int8."""
    issue, verified = suggested != old, trusted != NO_LABEL
    sure = issue & (confidence >= min_confidence) if min_confidence is not None else np.zeros(len(old), bool)
    reason = np.where(issue, Reason.ISSUE, Reason.AGREES)
    done = np.where(issue, Done.REVIEW, Done.KEEP)
    if policy is Policy.SOFT:
        done[:], reason[:] = Done.SOFT, Reason.POSTERIOR
    elif policy is Policy.DROP:
        chosen = issue if min_confidence is None else sure
        done[chosen] = Done.DROP
        reason[sure] = Reason.CONFIDENT
    elif policy is Policy.RELABEL:
        done[sure], reason[sure] = Done.RELABEL, Reason.CONFIDENT
        fixed = issue & promised
        done[fixed], reason[fixed] = Done.RELABEL, Reason.PROMISED
    reason[verified] = Reason.TRUSTED
    if policy is not Policy.REVIEW_ONLY:
        done[verified] = np.where(issue[verified], Done.RELABEL, Done.KEEP)
    return done.astype(np.int8), reason.astype(np.int8)
