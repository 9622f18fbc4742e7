"""The Arrow tables of a finished run.

N images, K classes, M trusted rows.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.inputs import LabelTable
from labelfix.inputs.label_table import VerifiedAs
from labelfix.runs.reading import label_names
from labelfix.stacking.transition_matrix import NoiseMatrix
from labelfix.verdicts.arrays import Action, Verdict

__all__ = [
    "held_out_table",
    "label_row_table",
    "noise_matrix_table",
    "quarantine_table",
    "soft_label_table",
    "suspect_table",
]


METADATA_KEY = b"labelfix"


def soft_label_table(
    table: LabelTable, verdict: Verdict, *, top_k: int | None, metadata: dict[str, Any]
) -> pa.Table:
    """Return one row per image, in the order of the labels table.

    Parameters
    ----------
    top_k
        None writes `soft_label` as a list of K probabilities; else as lists of the `top_k` most probable
        classes, with the remaining probability in `soft_label_rest`.
    metadata
        Kept as JSON in the schema, under ``labelfix``.
    """
    actions = pa.DictionaryArray.from_arrays(
        pa.array(verdict.action), pa.array([action.name.lower() for action in Action])
    )
    columns: dict[str, pa.Array] = {
        "image": table.images.cast(pa.string()),
        "given_label": label_names(table.given, table.classes),
        "predicted_label": label_names(verdict.predicted_label, table.classes),
        **_soft_columns(verdict.soft_label, table.classes, top_k),
        "confidence": pa.array(verdict.confidence),
        "label_score": pa.array(verdict.label_score),
        "is_label_issue": pa.array(verdict.is_label_issue),
        "action": actions,
        "trusted_label": label_names(table.trusted, table.classes),
        "verified_as": label_names(
            np.where(table.is_pair, table.verified_as, -1),
            tuple(kind.name.lower().replace("_", "-") for kind in VerifiedAs),
        ),
        "promised": pa.array(verdict.promised),
        "kept": pa.array(verdict.kept),
    }
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})


def _soft_columns(soft: np.ndarray, classes: tuple[str, ...], top_k: int | None) -> dict[str, pa.Array]:
    if top_k is None or top_k >= soft.shape[1]:
        return {"soft_label": pa.FixedSizeListArray.from_arrays(pa.array(soft.reshape(-1)), soft.shape[1])}
    best = np.argsort(-soft, axis=1, kind="stable")[:, :top_k]
    shares = np.take_along_axis(soft, best, axis=1)
    pairs = pa.StructArray.from_arrays(
        [label_names(best.reshape(-1), classes), pa.array(shares.reshape(-1))], ["class", "probability"]
    )
    offsets = np.arange(0, best.size + 1, top_k, dtype=np.int32)
    rest = np.maximum(0, 1 - shares.sum(1, dtype=np.float64)).astype(np.float32)
    return {"soft_label": pa.ListArray.from_arrays(offsets, pairs), "soft_label_rest": pa.array(rest)}


def suspect_table(soft_labels: pa.Table) -> pa.Table:
    """Return the rows with is_label_issue, worst (lowest label_score) first."""
    issues = soft_labels.filter(soft_labels["is_label_issue"])
    score = issues["label_score"].to_numpy()
    return issues.take(np.argsort(score, kind="stable"))


def noise_matrix_table(matrix: NoiseMatrix, classes: tuple[str, ...]) -> pa.Table:
    """Return the transition matrix, one row per (true, given) pair of classes."""
    true, given = np.divmod(np.arange(len(classes) ** 2), len(classes))
    return pa.table(
        {
            "true_label": label_names(true, classes),
            "given_label": label_names(given, classes),
            "probability": matrix.probability.reshape(-1),
            "low": matrix.low.reshape(-1),
            "high": matrix.high.reshape(-1),
            "rows": matrix.rows.reshape(-1),
        }
    )


def label_row_table(table: LabelTable) -> pa.Table:
    """Return one row per label, in the order of the labels table: image (as in soft_labels), label, annotator."""
    return pa.table(
        {
            "image": table.images.take(pa.array(table.row_image)).cast(pa.string()),
            "label": label_names(table.row_label, table.classes),
            "annotator": label_names(table.row_annotator, table.annotators),
        }
    )


def held_out_table(table: LabelTable, verdict: Verdict, pairs: np.ndarray) -> pa.Table:
    """Return the out-of-fold predictions of the trusted rows `pairs` (M,), in the order of the images.

    The columns are image, given_label, trusted_label, predicted_label, confidence, and the design weight of the row
    with the sample that it belongs to, weight and sample (`labelfix.inputs.design_weights`).
    """
    held_out = (
        verdict.held_out if verdict.held_out is not None else np.zeros((0, len(table.classes)), np.float32)
    )
    return pa.table(
        {
            "image": table.images.take(pa.array(pairs)).cast(pa.string()),
            "given_label": label_names(table.given[pairs], table.classes),
            "trusted_label": label_names(table.trusted[pairs], table.classes),
            "predicted_label": label_names(held_out.argmax(1), table.classes),
            "confidence": pa.array(held_out.max(1)),
            "weight": table.trusted_weight[pairs],
            "sample": table.trusted_sample[pairs],
        }
    )


def quarantine_table(reasons: dict[str, str]) -> pa.Table:
    """Return the images that could not be read, with the reason of each."""
    return pa.table(
        {
            "image": pa.array(list(reasons), pa.string()),
            "reason": pa.array(list(reasons.values()), pa.string()),
        }
    )
