"""What the report shows, read from the run directory as plain JSON values.

n label issues shown, K classes. Shares are between 0 and 1; classes are numbers in the run's order.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.inputs.design_weights import row_counts
from labelfix.report.annotators import annotator_values, labels_of_images
from labelfix.runs.manifest import as_json
from labelfix.runs.reading import FinishedRun, dense_soft_labels, label_codes
from labelfix.runs.summary_text import promise_texts
from labelfix.verdicts.estimates import share

__all__ = ["Contents", "read_contents", "reliability_bins"]

MATRIX_CLASSES = 24
PAIRS_SHOWN = 200
QUARANTINE_SHOWN = 200
SOFT_SHOWN = 4
ROWS_PER_BIN = 15
MOST_BINS = 10
HISTOGRAM_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The values of the page, and the images that it shows.

    Attributes
    ----------
    values
        Plain JSON values.
    pictured
        Names of the images to show, the most important first; `values` refers to them by their position.
    notes
        What cannot be shown, in sentences.
    """

    values: dict[str, Any]
    pictured: tuple[str, ...]
    notes: tuple[str, ...]


def read_contents(run: FinishedRun, limit: int) -> Contents:
    """Read what the report shows of `run`, with at most `limit` label issues, the worst ones.

    Raises
    ------
    InputError
        When a file of the run is missing or broken.
    """
    record, summary = run.record, run.summary
    issues = run.table("suspects")
    coverage = (record.get("config") or {}).get("interval", 0.95)
    given, predicted = _codes(issues, "given_label", run), _codes(issues, "predicted_label", run)
    issue_columns, pictured, notes = _issue_columns(run, issues, limit)
    annotators, annotator_notes = annotator_values(run)
    issue_columns["givers"], annotator_names = labels_of_images(run, issue_columns["image"], annotators or ())
    values = {
        "run": {
            **{name: record.get(name) for name in ("run_id", "created", "labelfix", "seed", "weights")},
            **{name: record.get(name) for name in ("config", "versions", "evidence")},
            "source": (record.get("inputs") or {}).get("source"),
            "files": (record.get("inputs") or {}).get("files", []),
        },
        "classes": list(run.classes),
        "coverage": coverage,
        "summary": {name: value for name, value in summary.items() if name not in ("per_class", "classes")},
        "promises": list(promise_texts(summary)),
        "per_class": _per_class(run, given, predicted),
        "matrix": _matrix(run),
        "pairs": _pairs(run, given, predicted),
        "reliability": _reliability(run, coverage),
        "confidence": _confidence_histogram(run),
        "history": run.table("history").to_pydict() if run.has("history") else None,
        "annotators": annotators,
        "givers": annotator_names,
        "suspects": issue_columns,
        "quarantine": _quarantine(run),
    }
    return Contents(values=as_json(values), pictured=pictured, notes=(*notes, *annotator_notes))


def _codes(table: pa.Table, column: str, run: FinishedRun) -> np.ndarray:
    return label_codes(table[column], run.classes)


# ------------------------------------------------------------------------------------------------- label issues


def _issue_columns(
    run: FinishedRun, issues: pa.Table, limit: int
) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Return the columns of the label issues shown, the images to show with them, and notes."""
    verified = np.asarray(issues["trusted_label"].is_valid())
    issues = issues.take(np.argsort(verified, kind="stable")[:limit])  # verified rows last: nothing to review
    names = issues["image"].to_pylist()
    near, near_names, notes = _neighbours(run, names)
    pictured = list(dict.fromkeys([*names, *near_names]))
    number_of = {name: number for number, name in enumerate(pictured)}
    soft = (
        dense_soft_labels(issues, run.classes) if len(names) else np.zeros((0, len(run.classes)), np.float32)
    )
    best = np.argsort(-soft, axis=1, kind="stable")[:, :SOFT_SHOWN]
    shares = np.take_along_axis(soft, best, axis=1)
    columns = {
        "image": names,
        "given": _codes(issues, "given_label", run).tolist(),
        "predicted": _codes(issues, "predicted_label", run).tolist(),
        "trusted": _codes(issues, "trusted_label", run).tolist(),
        "confidence": _rounded(issues["confidence"].to_numpy()),
        "score": _rounded(issues["label_score"].to_numpy()),
        "action": issues["action"].to_pylist(),
        "soft": [
            [value for pair in zip(k, p, strict=True) for value in pair]
            for k, p in zip(best.tolist(), map(_rounded, shares), strict=True)
        ],
        **{
            title: [[[number_of[c["image"]], round(c["similarity"], 3)] for c in cells] for cells in lists]
            for title, lists in near.items()
        },
    }
    return {**columns, "others": pictured[len(set(names)) :]}, tuple(pictured), notes


def _neighbours(
    run: FinishedRun, names: list[str]
) -> tuple[dict[str, list[list[dict[str, Any]]]], list[str], tuple[str, ...]]:
    """Return the nearest trusted images of the images `names`, their names by how often they occur, and notes."""
    empty: dict[str, list[list[dict[str, Any]]]] = {
        "near_given": [[]] * len(names),
        "near_predicted": [[]] * len(names),
    }
    if not run.has("neighbours"):
        trusted = run.summary.get("trusted_pairs") or run.summary.get("trusted_extra")
        why = "could compare none with the suspects" if trusted else "had no trusted labels"
        return empty, [], (f"No nearest trusted images: the run {why}.",)
    table = run.table("neighbours")
    row_of = {name: row for row, name in enumerate(table["image"].to_pylist())}
    near = {}
    for title in empty:
        lists = table[title].to_pylist()
        near[title] = [lists[row_of[name]] if name in row_of else [] for name in names]
    times = Counter(cell["image"] for lists in near.values() for cells in lists for cell in cells)
    notes: tuple[str, ...] = ()
    if any(name not in row_of for name in names):
        notes = (f"The nearest trusted images are known for the worst {len(row_of):,} suspects only.",)
    return near, [name for name, _ in times.most_common()], notes


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 6) for value in values]


# ------------------------------------------------------------------------------------------ classes and pairs


def _per_class(run: FinishedRun, given: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Return counts and estimates of every class; `given` and `predicted` are those of all label issues."""
    labels = run.table("soft_labels", ["given_label", "trusted_label"])
    num_classes = len(run.classes)

    def count(codes: np.ndarray) -> list[int]:
        return np.bincount(codes[codes >= 0], minlength=num_classes).tolist()

    columns = (
        count(label_codes(labels["given_label"], run.classes)),
        count(label_codes(labels["trusted_label"], run.classes)),
        count(given),
        count(predicted),
    )
    estimates = run.summary.get("per_class") or {}
    return [
        {
            "rows": rows,
            "trusted": trusted,
            "suspects": issues,
            "suggested": suggested,
            **estimates.get(name, {}),
        }
        for name, rows, trusted, issues, suggested in zip(run.classes, *columns, strict=True)
    ]


def _pairs(run: FinishedRun, given: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Return the pairs of classes with the most label issues, with the rates of the noise matrix both ways.

    ``rate`` is P(given label | suggested class), ``back`` is P(suggested class as label | given class).
    """
    cells = _matrix_cells(run)

    def rate(true: int, label: int) -> dict[str, float]:
        return {name: float(values[true, label]) for name, values in cells.items()}

    pairs = Counter(zip(given.tolist(), predicted.tolist(), strict=True)).most_common(PAIRS_SHOWN)
    return [
        {"given": g, "suggested": s, "suspects": rows, "rate": rate(s, g), "back": rate(g, s)}
        for (g, s), rows in pairs
    ]


def _matrix_cells(run: FinishedRun) -> dict[str, np.ndarray]:
    """Return probability, low, high and rows of the noise matrix, (K, K) each, true class first."""
    table, num_classes = run.table("noise_matrix"), len(run.classes)
    names = ("probability", "low", "high", "rows")
    return {name: table[name].to_numpy().reshape(num_classes, num_classes) for name in names}


def _matrix(run: FinishedRun) -> dict[str, Any]:
    """Return the noise matrix of the classes with the highest error rates, at most `MATRIX_CLASSES` of them."""
    cells = _matrix_cells(run)
    off = cells["probability"] * (1 - np.eye(len(run.classes)))
    classes = np.sort(np.argsort(-(off.sum(0) + off.sum(1)), kind="stable")[:MATRIX_CLASSES])
    block = {name: values[np.ix_(classes, classes)] for name, values in cells.items()}
    return {
        "classes": classes.tolist(),
        **{name: [_rounded(row) for row in block[name]] for name in ("probability", "low", "high")},
        "rows": block["rows"].tolist(),
    }


# ------------------------------------------------------------------------------------------------- confidence


def reliability_bins(
    confidence: np.ndarray,
    hits: np.ndarray,
    coverage: float,
    counts: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return how often predictions were right, in bins of about equal size, from low confidence to high.

    Parameters
    ----------
    confidence, hits
        (M,) held-out confidence of the predicted class, and whether it was right.
    coverage
        Of the exact binomial intervals.
    counts
        (M,) weights of the rows (`labelfix.inputs.design_weights.row_counts`); None counts each row once.

    Returns
    -------
    list of dict
        ``confidence`` (mean), ``from``, ``to``, ``value``, ``low``, ``high`` and ``rows`` of each bin.
    """
    order = np.argsort(confidence, kind="stable")
    num_bins = int(np.clip(len(order) // ROWS_PER_BIN, 1, MOST_BINS))
    bins = []
    for rows in np.array_split(order, num_bins) if len(order) else []:
        weight = np.ones(len(rows)) if counts is None else counts[rows]
        right = share(hits[rows], weight, coverage)
        inside = confidence[rows]
        bins.append(
            {
                "confidence": float(np.average(inside, weights=weight)),
                "from": float(inside.min()),
                "to": float(inside.max()),
                "value": right.value,
                "low": right.low,
                "high": right.high,
                "rows": right.rows,
            }
        )
    return bins


def _reliability(run: FinishedRun, coverage: float) -> list[dict[str, Any]] | None:
    if not run.has("held_out"):
        return None
    table = run.table("held_out")
    hits = np.asarray(pc.equal(table["predicted_label"], table["trusted_label"]))
    counts = None
    if "weight" in table.column_names:
        counts = row_counts(table["weight"].to_numpy(), table["sample"].to_numpy(), run.summary["images"])
    return reliability_bins(table["confidence"].to_numpy().astype(np.float64), hits, coverage, counts)


def _confidence_histogram(run: FinishedRun) -> dict[str, list[int]]:
    """Return the histogram of confidence of the unverified images, label issues and others."""
    table = run.table("soft_labels", ["confidence", "is_label_issue", "trusted_label"])
    table = table.filter(table["trusted_label"].is_null())
    confidence, issue = table["confidence"].to_numpy(), np.asarray(table["is_label_issue"])
    bins = np.minimum((confidence * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    return {
        "suspects": np.bincount(bins[issue], minlength=HISTOGRAM_BINS).tolist(),
        "others": np.bincount(bins[~issue], minlength=HISTOGRAM_BINS).tolist(),
    }


# ------------------------------------------------------------------------------------------------------- tables


def _quarantine(run: FinishedRun) -> list[list[str]]:
    table = run.table("quarantine").slice(0, QUARANTINE_SHOWN)
    return [list(row.values()) for row in table.to_pylist()]
