"""What the report shows of annotators: the audit's figures, confusion matrices, and who gave the suspects' labels.

K classes, n suspects shown.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.runs.reading import FinishedRun, label_codes

__all__ = ["annotator_values", "label_givers"]

MOST_ANNOTATORS = 1000
CONFUSION_CLASSES = 12


def annotator_values(run: FinishedRun) -> tuple[list[dict[str, Any]] | None, tuple[str, ...]]:
    """Return the audit's rows, those with the most labels first, and notes; None without annotators.

    ``confusion`` becomes ``classes``, the class numbers that a person errs about most, and ``rows``, the expected
    label rows of each true (outer) and given class.
    """
    if not run.has("annotators"):
        return None, ()
    table = run.table("annotators").sort_by([("rows", "descending"), ("annotator", "ascending")])
    shown = table.slice(0, MOST_ANNOTATORS)
    index = {name: k for k, name in enumerate(run.classes)}
    people = shown.to_pylist()
    for person in people:
        person["confusion"] = _confusion(person["confusion"], index)
    notes: tuple[str, ...] = ()
    if table.num_rows > MOST_ANNOTATORS:
        notes = (
            f"Shown are the {MOST_ANNOTATORS:,} annotators with the most labels of {table.num_rows:,}; all of them "
            "are in annotators.parquet.",
        )
    return people, notes


def _confusion(cells: list[dict[str, Any]], index: dict[str, int]) -> dict[str, Any]:
    places = [(index[cell["true_label"]], index[cell["given_label"]], cell["rows"]) for cell in cells]
    wrong = np.zeros(len(index))
    for true, given, rows in places:
        if true != given:
            wrong[true] += rows
            wrong[given] += rows
    classes = np.sort(np.argsort(-wrong, kind="stable")[:CONFUSION_CLASSES]).tolist()
    place = {k: number for number, k in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)))
    for true, given, rows in places:
        if true in place and given in place:
            matrix[place[true], place[given]] = rows
    return {"classes": classes, "rows": matrix.round(1).tolist()}


def label_givers(
    run: FinishedRun, images: Sequence[str], people: Sequence[dict[str, Any]]
) -> tuple[list[list[list[int]]], list[str]]:
    """Return who labelled the suspects `images` (n,), and the names that the numbers stand for.

    Of every suspect, (annotator, class) for each of its labels, annotator -1 where none is named. The names begin
    with those of `people`.
    """
    if not run.has("label_rows"):
        return [], []
    rows = run.table("label_rows")
    rows = rows.filter(pc.is_in(rows["image"], value_set=pa.array(images, pa.string())))
    names = [person["annotator"] for person in people]
    known = set(names)
    names += [
        name for name in rows["annotator"].unique().to_pylist() if name is not None and name not in known
    ]
    who = label_codes(rows["annotator"], tuple(names)).tolist()
    said = label_codes(rows["label"], run.classes).tolist()
    givers: dict[str, list[list[int]]] = {name: [] for name in images}
    for image, person, label in zip(rows["image"].to_pylist(), who, said, strict=True):
        givers[image].append([person, label])
    return [givers[name] for name in images], names
