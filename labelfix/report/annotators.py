"""What the report shows of annotators: the audit's figures, confusion matrices, and who gave the labels at issue.

K classes, n label issues shown.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.runs.reading import FinishedRun, label_codes

__all__ = ["annotator_values", "labels_of_images"]

MOST_ANNOTATORS = 1000
CONFUSION_CLASSES = 12


def annotator_values(run: FinishedRun) -> tuple[list[dict[str, Any]] | None, tuple[str, ...]]:
    """Return the audit's rows, those with the most labels first, and notes; None without annotators.

    ``confusion`` becomes ``classes``, the numbers of the classes that are confused most, and ``rows``, the expected
    label rows of each true (outer) and given class.
    """
    if not run.has("annotators"):
        return None, ()
    table = run.table("annotators").sort_by([("rows", "descending"), ("annotator", "ascending")])
    class_numbers = {name: k for k, name in enumerate(run.classes)}
    annotators = table.slice(0, MOST_ANNOTATORS).to_pylist()
    for annotator in annotators:
        annotator["confusion"] = _confusion(annotator["confusion"], class_numbers)
    notes: tuple[str, ...] = ()
    if table.num_rows > MOST_ANNOTATORS:
        notes = (
            f"Shown are the {MOST_ANNOTATORS:,} annotators with the most labels of {table.num_rows:,}; all of them "
            "are in annotators.parquet.",
        )
    return annotators, notes


def _confusion(cells: list[dict[str, Any]], class_numbers: dict[str, int]) -> dict[str, Any]:
    counts = [
        (class_numbers[cell["true_label"]], class_numbers[cell["given_label"]], cell["rows"])
        for cell in cells
    ]
    wrong = np.zeros(len(class_numbers))
    for true, given, rows in counts:
        if true != given:
            wrong[true] += rows
            wrong[given] += rows
    classes = np.sort(np.argsort(-wrong, kind="stable")[:CONFUSION_CLASSES]).tolist()
    position = {k: number for number, k in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)))
    for true, given, rows in counts:
        if true in position and given in position:
            matrix[position[true], position[given]] = rows
    return {"classes": classes, "rows": matrix.round(1).tolist()}


def labels_of_images(
    run: FinishedRun, images: Sequence[str], annotators: Sequence[dict[str, Any]]
) -> tuple[list[list[list[int]]], list[str]]:
    """Return all labels of `images` (n,), and the names of the annotators.

    A label is the number of its annotator (-1 without one) and of its class. The names begin with those of
    `annotators`.
    """
    if not run.has("label_rows"):
        return [], []
    rows = run.table("label_rows")
    rows = rows.filter(pc.is_in(rows["image"], value_set=pa.array(images, pa.string())))
    names = [annotator["annotator"] for annotator in annotators]
    known = set(names)
    names += [
        name for name in rows["annotator"].unique().to_pylist() if name is not None and name not in known
    ]
    numbers = label_codes(rows["annotator"], tuple(names)).tolist()
    classes = label_codes(rows["label"], run.classes).tolist()
    labels: dict[str, list[list[int]]] = {name: [] for name in images}
    for image, annotator, label in zip(rows["image"].to_pylist(), numbers, classes, strict=True):
        labels[image].append([annotator, label])
    return [labels[name] for name in images], names
