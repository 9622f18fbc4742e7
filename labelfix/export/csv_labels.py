"""``csv``: the label table again, with the label of the export, and what became of every row.

The columns are those that came in, and the label column holds the new label. The columns of the export follow:
the label of the row as it was, action, reason, confidence, run. An input column of the same name keeps it; then
ours gets the prefix ``labelfix_``.
"""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from labelfix.errors import InputError
from labelfix.export.decisions import Decisions
from labelfix.images.folder import ImageFolder
from labelfix.inputs import lexical_keys
from labelfix.inputs.readers import WholeTable, read_whole_table
from labelfix.runs.reading import FinishedRun

__all__ = ["write_csv"]

ADDED = ("old_label", "action", "reason", "confidence", "label_score", "suggested_label", "run_id")


def write_csv(folder: Path, decisions: Decisions, run: FinishedRun, labels: str | None) -> int:
    """Write labels.csv; return how many label rows have no verdict (unreadable images) and are left out.

    Parameters
    ----------
    decisions
        Without dropped rows.
    labels
        Where the label table is now; None takes where it was.

    Raises
    ------
    InputError
        When the label table is gone, or is not the one that the run read.
    """
    source = _labels_file(run, labels)
    if source is None:  # the labels were a table in memory
        whole = WholeTable(
            "labels", ["image", "label"], [decisions.images, decisions.provenance()["old_label"]]
        )
        rows = np.arange(len(decisions))
    else:
        whole = read_whole_table(source)
        rows = _image_rows(whole.columns[whole.image], decisions, run, source.parent)
    judged = np.flatnonzero(rows >= 0)
    pyarrow.csv.write_csv(_table(whole, judged, rows[judged], decisions), folder / "labels.csv", _QUOTING)
    return int((rows == _UNKNOWN).sum())


_QUOTING = pyarrow.csv.WriteOptions(quoting_style="needed")
_UNKNOWN = -1


def _labels_file(run: FinishedRun, labels: str | None) -> Path | None:
    recorded = run.labels_file
    if recorded is None:
        return Path(labels) if labels is not None else None
    path, digest = Path(labels) if labels is not None else recorded[0], recorded[1]
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected the label table of the run. Say where it is now "
            "with --labels."
        ) from None
    if found != digest:
        raise InputError(
            f"{path}: is not the file that the run read (its SHA-256 begins with {found[:12]}; expected "
            f"{digest[:12]}). Run labelfix clean again, or name the right file with --labels."
        )
    return path


def _image_rows(names: pa.Array, decisions: Decisions, run: FinishedRun, folder: Path) -> np.ndarray:
    """Return the row of `decisions` (R,) for every label row; -1 without a verdict, -2 where it was not chosen."""
    every = run.table("soft_labels", ["image"])["image"].combine_chunks().cast(pa.large_string())
    rows = pc.index_in(names, value_set=every).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    lost = np.flatnonzero(rows < 0)
    if len(lost):  # other spellings of the same images, or images without a verdict
        root = run.image_folder
        identify = ImageFolder(root).identify if run.holds_images and root.is_dir() else lexical_keys
        number_of = {
            key: row for row, key in enumerate(identify(every.to_pylist(), folder)) if key is not None
        }
        keys = identify([names[int(row)].as_py() for row in lost], folder)
        rows[lost] = [number_of.get(key, _UNKNOWN) if key is not None else _UNKNOWN for key in keys]
    chosen = pc.index_in(every, value_set=decisions.images.cast(pa.large_string()))
    place = np.append(chosen.fill_null(-2).to_numpy(zero_copy_only=False).astype(np.int64), _UNKNOWN)
    return place[rows]


def _table(
    whole: WholeTable, label_rows: np.ndarray, image_rows: np.ndarray, decisions: Decisions
) -> pa.Table:
    own = [column.take(pa.array(label_rows)) for column in whole.columns]
    added = {name: values.take(pa.array(image_rows)) for name, values in decisions.provenance().items()}
    added["old_label"] = pc.utf8_trim_whitespace(
        own[whole.label]
    )  # with several annotators, this one's label
    own[whole.label] = added["new_label"]
    titles = list(whole.titles)
    for name in ADDED:
        title = name
        while title in titles:
            title = f"labelfix_{title}"
        titles.append(title)
    return pa.Table.from_arrays([*own, *(added[name] for name in ADDED)], names=titles)
