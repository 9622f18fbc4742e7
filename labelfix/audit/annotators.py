"""The audit of annotators: accuracies with intervals, confusions, the errors that each adds, and ranks.

Accuracies come from `labelfix.verdicts.dawid_skene`. The variance of an accuracy p on n rows has four sources: the
sampling of the n labels; most of them are right only with a probability w; these probabilities rest on few trusted
rows; and they have a calibration error. In the order of the formula,

    var = p (1 - p) / (n rho) + (tau mean(w (1 - w)) / rho)^2 + e^2
    rho = 1 - mean(w (1 - w)) / (p (1 - p))          the share of information that is left (Louis 1982)
    tau^2 = 1 / (M mean(w (1 - w)))                  variance of a common error of the log-odds, with M trusted rows
    e                                                the calibration error on held-out trusted rows

The interval is the exact binomial one with n' = p (1 - p) / var rows, the effective number of rows. Ranks follow
from intervals: one annotator ranks behind another only where their intervals do not overlap.

N images, R label rows, K classes, A annotators, M trusted images.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.errors import InputError
from labelfix.inputs import NO_LABEL, LabelTable
from labelfix.runs.reading import FinishedRun, dense_soft_labels, label_codes
from labelfix.runs.summary_text import rows_html
from labelfix.runs.tables import label_row_table
from labelfix.stacking.transition_matrix import label_counts
from labelfix.verdicts import Verdict
from labelfix.verdicts.dawid_skene import AnnotatorFit, LabelRows, fit_annotators
from labelfix.verdicts.estimates import clopper_pearson

__all__ = ["Audit", "annotator_tables", "audit_annotators", "audit_run", "weighs_annotators"]

# Standard deviation of the common error of the log-odds where nothing is trusted.
TAU_UNKNOWN = 1.0
LEAST_INFORMATION = 0.02
# Cells of a confusion matrix with fewer expected rows are left out.
LEAST_CELL = 0.05
SHOWN_PAIRS = 5
# The least expected rows and wrong labels of a class for it to be an annotator's worst class.
WORST_CLASS_ROWS = 3.0
WORST_CLASS_WRONG = 0.5


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Accuracies of annotators, and the consensus of their labels.

    Attributes
    ----------
    annotators
        One row per annotator; see `audit_annotators`.
    consensus
        One row per image that several annotators labelled: image, consensus_label, confidence, labels, agreement;
        None where there is none.
    accuracy
        Share of right labels over all label rows.
    """

    annotators: pa.Table
    consensus: pa.Table | None
    accuracy: float

    def __repr__(self) -> str:
        return f"Audit({self.annotators.num_rows:,} annotators, {self.accuracy:.1%} of the labels right)"

    def _repr_html_(self) -> str:
        rows = self.annotators.select(
            ["annotator", "rows", "accuracy", "low", "high", "standing"]
        ).to_pylist()
        return rows_html(
            [("annotator", "rows", "right", "low", "high", "next to the others")]
            + [tuple(f"{v:.1%}" if isinstance(v, float) else str(v) for v in row.values()) for row in rows]
        )


def audit_run(run: str | os.PathLike[str], *, interval: float | None = None) -> Audit:
    """Audit the annotators of a finished run.

    Parameters
    ----------
    interval
        Coverage; None takes that of the run.

    Raises
    ------
    InputError
        When `run` holds no finished run, or its label table named no annotators.
    """
    finished = FinishedRun.open(run)
    if not finished.has("label_rows"):
        raise InputError(
            f"{run}: holds no label_rows.parquet, because its label table has no annotator column; expected one "
            "label per row with who gave it. Add the column, and run labelfix clean again."
        )
    classes = finished.classes
    table, rows = finished.table("soft_labels"), finished.table("label_rows")
    images = {name: number for number, name in enumerate(table["image"].to_pylist())}
    names = tuple(sorted(name for name in rows["annotator"].unique().to_pylist() if name is not None))
    if interval is None:
        interval = (finished.record.get("config") or {}).get("interval", 0.95)
    return audit_annotators(
        dense_soft_labels(table, classes),
        label_codes(table["given_label"], classes),
        label_codes(table["trusted_label"], classes),
        LabelRows(
            image=np.array([images[name] for name in rows["image"].to_pylist()], np.int64),
            label=label_codes(rows["label"], classes),
            annotator=label_codes(rows["annotator"], names),
            num_annotators=len(names),
        ),
        annotators=names,
        classes=classes,
        images=table["image"],
        coverage=interval,
        calibration_error=(finished.summary["estimates"].get("calibration_error") or {}).get("value"),
        weighed=weighs_annotators(finished.record.get("weights") or {}),
    )


def annotator_tables(table: LabelTable, verdict: Verdict, *, coverage: float) -> dict[str, pa.Table]:
    """Return the tables of a run that only labels with annotators have: label_rows, annotators, consensus."""
    audit = audit_annotators(
        verdict.soft_label,
        table.given,
        table.trusted,
        LabelRows.of(table),
        annotators=table.annotators,
        classes=table.classes,
        images=table.images,
        coverage=coverage,
        calibration_error=verdict.estimates["calibration_error"].value if verdict.estimates else None,
        weighed=weighs_annotators(verdict.weights),
    )
    tables = {"label_rows": label_row_table(table), "annotators": audit.annotators}
    return tables if audit.consensus is None else tables | {"consensus": audit.consensus}


def weighs_annotators(weights: Mapping[str, float]) -> bool:
    """Return whether a posterior with these `labelfix.Verdict.weights` weighs labels by their annotators."""
    return weights.get("votes", 0.0) > weights.get("transition", 0.0)


def audit_annotators(
    soft_label: np.ndarray,
    given: np.ndarray,
    trusted: np.ndarray,
    rows: LabelRows,
    *,
    annotators: tuple[str, ...],
    classes: tuple[str, ...],
    images: Any,
    coverage: float,
    calibration_error: float | None = None,
    weighed: bool = False,
) -> Audit:
    """Audit annotators against soft labels.

    Parameters
    ----------
    soft_label, given, trusted, rows, weighed
        As `labelfix.verdicts.dawid_skene.fit_annotators` takes them.
    annotators, classes, images
        (A,), (K,) and (N,) names.
    coverage
        Of the intervals.
    calibration_error
        Of the soft labels, measured on held-out trusted rows; None (or NaN) where it was not measured.

    Returns
    -------
    Audit
        `annotators` has the columns annotator; rows; accuracy, low, high (share of right labels); trusted_rows and
        trusted_right (counts); chance (accuracy of guessing with the annotator's label frequencies) and kappa (0:
        no better than that, 1: perfect); agreement (with others on the same images, null without any);
        worst_class; wrong, wrong_low, wrong_high (expected wrong labels); excess (wrong labels beyond those of an
        average annotator on the same images); best_rank and worst_rank (1 is best; all ranks that the intervals
        allow); standing (``better``, ``worse`` or ``undecided`` next to the others); confused (the most frequent
        mistakes) and confusion (expected rows per true and given label).
    """
    fit = fit_annotators(soft_label, given, trusted, rows, weighed=weighed)
    if calibration_error is None or np.isnan(calibration_error):
        calibration_error = 0.0
    figures = _accuracies(fit, trusted, rows, coverage, calibration_error)
    figures |= _ranks(figures["low"], figures["high"])
    figures["agreement"] = _agreement(rows, len(classes))
    figures |= _errors(fit, rows, figures)
    confusions = [_confusion(fit, rows, number, classes) for number in range(len(annotators))]
    columns: dict[str, Any] = {"annotator": pa.array(annotators, pa.string())}
    for name in COLUMNS:
        values = figures[name]
        if values.dtype.kind == "f":
            columns[name] = pa.array(values, mask=np.isnan(values))
        else:
            columns[name] = pa.array(values)
    for name in ("worst_class", "confused", "confusion"):
        columns[name] = pa.array([confusion[name] for confusion in confusions], KINDS[name])
    return Audit(
        annotators=pa.table(columns),
        consensus=_consensus(fit, rows, images, classes),
        accuracy=float(fit.hit.mean()),
    )


COLUMNS = (
    "rows", "accuracy", "low", "high", "trusted_rows", "trusted_right", "chance", "kappa", "agreement", "wrong",
    "wrong_low", "wrong_high", "excess", "best_rank", "worst_rank", "standing",
)  # fmt: skip
CELL = pa.struct([("true_label", pa.string()), ("given_label", pa.string()), ("rows", pa.float32())])
KINDS = {"worst_class": pa.string(), "confused": pa.list_(CELL), "confusion": pa.list_(CELL)}


def _per_annotator(rows: LabelRows, values: np.ndarray | None = None) -> np.ndarray:
    """Return the sums (A,) of values (R,) over each annotator's label rows; None counts the rows."""
    named = rows.annotator >= 0
    weights = None if values is None else np.asarray(values, np.float64)[named]
    return np.bincount(rows.annotator[named], weights, rows.num_annotators)


def _accuracies(
    fit: AnnotatorFit, trusted: np.ndarray, rows: LabelRows, coverage: float, calibration_error: float
) -> dict[str, np.ndarray]:
    """Return rows, accuracy with its interval, trusted rows and the pooled accuracy of the others, each (A,)."""
    counts, sums = _per_annotator(rows), _per_annotator(rows, fit.hit)
    n = np.maximum(counts, 1)
    accuracy = np.where(counts > 0, sums / n, np.nan)
    verified, right = trusted[rows.image] != NO_LABEL, trusted[rows.image] == rows.label
    hit_variance = fit.hit * (1 - fit.hit)
    mean_variance = float(hit_variance[~verified].mean() if (~verified).any() else 0.0)
    precision = int((trusted != NO_LABEL).sum()) * mean_variance
    tau = min(TAU_UNKNOWN, 1 / np.sqrt(precision)) if precision > 0 else TAU_UNKNOWN
    p = (sums + 1) / (counts + 2)  # the variance stays above zero where no label is wrong
    uncertainty = _per_annotator(rows, np.where(verified, 0.0, hit_variance)) / n
    information = np.clip(1 - uncertainty / (p * (1 - p)), LEAST_INFORMATION, 1.0)
    unverified_share = 1 - _per_annotator(rows, verified) / n
    variance = p * (1 - p) / (n * information) + np.square(tau * uncertainty / information)
    variance += np.square(calibration_error * unverified_share)
    effective_rows = np.where(counts > 0, p * (1 - p) / variance, 0.0)
    bounds = [
        clopper_pearson(share * size, size, coverage) if size > 0 else (0.0, 1.0)
        for share, size in zip(np.nan_to_num(accuracy), effective_rows, strict=True)
    ]
    others = (fit.hit.sum() - sums) / np.maximum(len(rows) - counts, 1)
    return {
        "rows": counts.astype(np.int64),
        "accuracy": accuracy,
        "low": np.array([low for low, _ in bounds]),
        "high": np.array([high for _, high in bounds]),
        "trusted_rows": _per_annotator(rows, verified).astype(np.int64),
        "trusted_right": _per_annotator(rows, verified & right).astype(np.int64),
        "others": np.where(len(rows) > counts, others, np.nan),
    }


def _ranks(low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """Return the best and the worst rank (A,) that the intervals allow."""
    ahead = len(low) - np.searchsorted(np.sort(low), high, side="right")  # intervals that lie above
    behind = np.searchsorted(np.sort(high), low, side="left")  # intervals that lie below
    return {"best_rank": (1 + ahead).astype(np.int64), "worst_rank": (len(low) - behind).astype(np.int64)}


def _agreement(rows: LabelRows, num_classes: int) -> np.ndarray:
    """Return the shares (A,) of others' labels of the same images that are the same; NaN without such labels."""
    pairs = rows.image.astype(np.int64) * num_classes + rows.label
    _, pair, votes = np.unique(pairs, return_inverse=True, return_counts=True)
    others = np.bincount(rows.image)[rows.image] - 1
    shared = others > 0
    same = np.divide(votes[pair] - 1, others, out=np.zeros(len(rows)), where=shared)
    shared_rows = _per_annotator(rows, shared)
    return np.where(shared_rows > 0, _per_annotator(rows, same) / np.maximum(shared_rows, 1), np.nan)


def _errors(fit: AnnotatorFit, rows: LabelRows, figures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the expected wrong labels of each annotator, next to guessing and to the others; each (A,)."""
    counts, accuracy = figures["rows"], figures["accuracy"]
    chance = np.full(rows.num_annotators, np.nan)
    average_wrong = np.full(rows.num_annotators, np.nan)  # of an average annotator on the same images
    order = np.argsort(rows.annotator, kind="stable")
    ends = np.searchsorted(rows.annotator[order], np.arange(rows.num_annotators + 1))
    for number in range(rows.num_annotators):
        chosen = order[ends[number] : ends[number + 1]]
        if len(chosen):
            true_counts = fit.posterior[rows.image[chosen]].sum(0, dtype=np.float64)
            label_frequency = np.bincount(rows.label[chosen], minlength=len(true_counts))
            chance[number] = float(true_counts @ label_frequency) / len(chosen) ** 2
            average_wrong[number] = float(true_counts @ (1 - fit.common_accuracy))
    others = figures["others"]
    standing = np.where(
        figures["low"] > others, "better", np.where(figures["high"] < others, "worse", "undecided")
    )
    wrong = counts * (1 - accuracy)
    return {
        "chance": chance,
        "kappa": (accuracy - chance) / np.maximum(1 - chance, 1e-9),
        "wrong": wrong,
        "wrong_low": counts * (1 - figures["high"]),
        "wrong_high": counts * (1 - figures["low"]),
        "excess": wrong - average_wrong,
        "standing": standing,
    }


def _confusion(fit: AnnotatorFit, rows: LabelRows, number: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the worst class, the most frequent mistakes and the confusion matrix of one annotator."""
    chosen = np.flatnonzero(rows.annotator == number)
    counts = label_counts(fit.posterior[rows.image[chosen]], rows.label[chosen])
    true, given = np.nonzero(counts >= LEAST_CELL)
    order = np.lexsort((given, true, -counts[true, given]))
    cells = [
        {"true_label": classes[t], "given_label": classes[g], "rows": float(counts[t, g])}
        for t, g in zip(true[order].tolist(), given[order].tolist(), strict=True)
    ]
    wrong = counts.sum(1) - np.diag(counts)
    eligible = (counts.sum(1) >= WORST_CLASS_ROWS) & (wrong >= WORST_CLASS_WRONG)
    worst = int(np.where(eligible, fit.class_accuracy[number], np.inf).argmin())
    return {
        "worst_class": classes[worst] if eligible.any() else None,
        "confused": [cell for cell in cells if cell["true_label"] != cell["given_label"]][:SHOWN_PAIRS],
        "confusion": cells,
    }


def _consensus(fit: AnnotatorFit, rows: LabelRows, images: Any, classes: tuple[str, ...]) -> pa.Table | None:
    labels = np.bincount(rows.image, minlength=len(fit.posterior))
    several = np.flatnonzero(labels > 1)
    if not len(several):
        return None
    best = fit.posterior.argmax(1)
    same = np.bincount(rows.image, rows.label == best[rows.image], len(fit.posterior))
    names = pa.array(classes, pa.string())
    return pa.table(
        {
            "image": images.take(pa.array(several)).cast(pa.string()),
            "consensus_label": names.take(pa.array(best[several])),
            "confidence": fit.posterior[several, best[several]],
            "labels": labels[several],
            "agreement": same[several] / labels[several],
        }
    )
