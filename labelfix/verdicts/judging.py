"""From out-of-fold predictions to the verdict on every image of a run.

N images, K classes.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.settings import VerdictConfig
from labelfix.verdicts.annotator_votes import vote_likelihood
from labelfix.verdicts.arrays import Action, Verdict, verdict
from labelfix.verdicts.dawid_skene import LabelRows

if TYPE_CHECKING:  # torch is not needed here
    from labelfix.cross_fitting import OutOfFoldPredictions

__all__ = ["judge"]


def judge(predictions: "OutOfFoldPredictions", config: VerdictConfig) -> Verdict:
    """Return the verdict on every image, from the calibration set and all predictions."""
    table, rows = predictions.table, predictions.calibration_rows
    # trusted rows outside of the calibration set are hand-picked, or took part in training
    known = np.setdiff1d(table.pairs, rows)
    sampled = np.flatnonzero(table.is_pair & ~table.is_hand_picked)
    calibration_share = len(rows) / max(len(sampled), 1)
    judged = verdict(
        predictions.probs,
        table.given,
        rows,
        table.trusted[rows],
        classes=table.classes,
        folds=predictions.fold,
        evidence=predictions.evidence,
        votes=_votes(predictions, config),
        trusted_weights=table.trusted_weight[rows] / calibration_share if len(rows) else None,
        trusted_samples=table.trusted_sample[rows] if len(rows) else None,
        trusted_frames=table.sampling_frames if len(rows) else None,
        known_rows=known,
        known_samples=table.trusted_sample[known],
        config=config,
    )
    return _with_trusted_labels(judged, table, known)


def _votes(predictions: "OutOfFoldPredictions", config: VerdictConfig) -> np.ndarray | None:
    """Return the likelihood of each image's labels, (N, K); None if each has one label of an unnamed annotator."""
    table, rows = predictions.table, predictions.calibration_rows
    if not table.annotators and len(table.row_image) == table.num_images:
        return None
    trusted = np.full(table.num_images, NO_LABEL)
    trusted[rows] = table.trusted[rows]
    return vote_likelihood(
        [predictions.probs, *predictions.evidence.values()],
        table.given,
        LabelRows.of(table),
        trusted,
        predictions.fold,
        trusted_count=table.trusted_count,
        prior_rows=config.prior_rows,
    )


def _with_trusted_labels(judged: Verdict, table: LabelTable, rows: np.ndarray) -> Verdict:
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
