"""From out-of-fold predictions to the verdict on every image of a run.

N images, K classes.
"""

from typing import TYPE_CHECKING

import numpy as np

from labelfix.inputs import NO_LABEL
from labelfix.inputs.random_draw import random_draw
from labelfix.settings import VerdictConfig
from labelfix.verdicts.annotator_votes import vote_likelihood
from labelfix.verdicts.arrays import Verdict, verdict
from labelfix.verdicts.dawid_skene import LabelRows
from labelfix.verdicts.frozen_lists import with_frozen_lists, with_trusted_labels

if TYPE_CHECKING:  # torch is not needed here
    from labelfix.cross_fitting import OutOfFoldPredictions

__all__ = ["judge"]


def judge(predictions: "OutOfFoldPredictions", config: VerdictConfig) -> Verdict:
    """Return the verdict on every image, from the calibration set and all predictions.

    Raises
    ------
    InputError
        When a frozen list was made for another promise than the run is asked for.
    """
    table, rows = predictions.table, predictions.calibration_rows
    # trusted rows outside of the calibration set are in no sample, or took part in training
    known = np.setdiff1d(table.pairs, rows)
    sampled = np.flatnonzero(table.is_pair & ~table.is_hand_picked)
    draw = random_draw(table)
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
        trusted_draw=draw.only(~np.isin(draw.rows, known)),
        known_rows=known,
        known_samples=table.trusted_sample[known],
        groups=predictions.group,
        strata=table.stratum,
        config=config,
    )
    revealed = table.revealed()
    judged = with_frozen_lists(judged, revealed, config)
    hidden = known if table.hidden is None else np.flatnonzero(table.hidden != NO_LABEL)
    return with_trusted_labels(judged, revealed, np.union1d(known, hidden))


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
