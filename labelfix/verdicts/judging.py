"""From out-of-fold predictions to the verdict on every image of a run.

N images, K classes.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.inputs.design_weights import RANDOM_SAMPLE
from labelfix.risk_control.random_check import RandomCheck, SampleKind, check_random
from labelfix.settings import VerdictConfig
from labelfix.system.folds import hash_keys
from labelfix.verdicts.annotator_votes import vote_likelihood
from labelfix.verdicts.arrays import Action, Verdict, verdict
from labelfix.verdicts.dawid_skene import LabelRows

if TYPE_CHECKING:  # torch is not needed here
    from labelfix.cross_fitting import OutOfFoldPredictions

__all__ = ["check_sample", "judge"]


def check_sample(predictions: "OutOfFoldPredictions") -> RandomCheck | None:
    """Return whether the trusted rows that claim to be a random sample look like one; None without such rows.

    Suspicion is 1 - probability of the given label by the classifier that uses no trusted label.
    """
    table, rows = predictions.table, predictions.calibration_rows
    rows = rows[table.trusted_sample[rows] == RANDOM_SAMPLE]
    if not len(rows):
        return None
    probs = predictions.evidence.get("given", predictions.probs)
    return check_random(
        1 - probs[np.arange(table.num_images), table.given].astype(np.float64),
        table.given,
        rows,
        issue=probs.argmax(1) != table.given,
        ties=hash_keys(table.keys.to_pylist(), 0),
        classes=table.classes,
    )


def judge(
    predictions: "OutOfFoldPredictions", config: VerdictConfig, sample: RandomCheck | None = None
) -> Verdict:
    """Return the verdict on every image, from the calibration set and all predictions.

    Nothing is promised where `sample` is not random; where it is stratified, rows count for their strata.
    """
    table, rows = predictions.table, predictions.calibration_rows
    weight, draw = _sampling_design(table, rows, sample)
    if sample is not None and sample.alarm:
        config = replace(config, max_fix_error=None)
    # trusted rows outside of the calibration set are hand-picked, or took part in training
    known = np.setdiff1d(table.pairs, rows)
    judged = verdict(
        predictions.probs,
        table.given,
        rows,
        table.trusted[rows],
        classes=table.classes,
        folds=predictions.fold,
        evidence=predictions.evidence,
        votes=_votes(predictions, config),
        trusted_weights=weight if len(rows) else None,
        trusted_samples=draw if len(rows) else None,
        trusted_frames=table.sampling_frames if len(rows) else None,
        known_rows=known,
        known_samples=table.trusted_sample[known],
        config=config,
    )
    return _with_trusted_labels(judged, table, known)


def _sampling_design(
    table: LabelTable, rows: np.ndarray, sample: RandomCheck | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and number of the draw of calibration rows (M,); a stratified sample is a draw with weights."""
    draw = table.trusted_sample[rows]
    num_sampled = (table.is_pair & ~table.is_hand_picked).sum()
    weight = table.trusted_weight[rows] * (num_sampled / max(len(rows), 1))
    if sample is None or sample.kind is not SampleKind.STRATIFIED:
        return weight, draw
    inclusion = np.array(sample.inclusion)[table.given[rows]]
    stratified = draw == RANDOM_SAMPLE
    number = int(table.trusted_sample.max()) + 1
    return np.where(stratified, 1 / inclusion, weight), np.where(stratified, number, draw)


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
