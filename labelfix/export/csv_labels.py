"""``csv``: the label table with the exported labels, and the action and reason of every row.

The input columns come first; the label column holds the new label. The columns of the export follow: the old label,
action, reason, confidence, run. Where an input column has the name of one of them, ours gets the prefix
``labelfix_``.
"""

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
from labelfix.system.hashing import file_sha256

__all__ = ["write_csv"]

ADDED = ("old_label", "action", "reason", "confidence", "label_score", "suggested_label", "run_id")
QUOTING = pyarrow.csv.WriteOptions(quoting_style="needed")
NO_VERDICT, NOT_CHOSEN = -1, -2


def write_csv(folder: Path, decisions: Decisions, run: FinishedRun, labels: str | None) -> int:
    """Write labels.csv; return how many label rows have no verdict (unreadable images) and are left out.

    Parameters
    ----------
    decisions
        Without dropped rows.
    labels
        The label table's path now; None takes the one that the run recorded.

    Raises
    ------
    InputError
        When the label table is missing, or is not the one that the run read.
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
    exported = np.flatnonzero(rows >= 0)
    pyarrow.csv.write_csv(_table(whole, exported, rows[exported], decisions), folder / "labels.csv", QUOTING)
    return int((rows == NO_VERDICT).sum())


def _labels_file(run: FinishedRun, labels: str | None) -> Path | None:
    """Return the path of the label table, after a check of its SHA-256; None where it was a table in memory."""
    recorded = run.labels_file
    if recorded is None:
        return Path(labels) if labels is not None else None
    path, digest = Path(labels) if labels is not None else recorded[0], recorded[1]
    try:
        digest_now = file_sha256(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected the label table of the run. Say where it is now "
            "with --labels."
        ) from None
    if digest_now != digest:
        raise InputError(
            f"{path}: is not the file that the run read (its SHA-256 begins with {digest_now[:12]}; expected "
            f"{digest[:12]}). Run labelfix clean again, or name the right file with --labels."
        )
    return path


def _image_rows(names: pa.Array, decisions: Decisions, run: FinishedRun, folder: Path) -> np.ndarray:
    """Return the row of `decisions` (R,) for every label row; -1 without a verdict, -2 where it was not chosen."""
    images = run.table("soft_labels", ["image"])["image"].combine_chunks().cast(pa.large_string())
    rows = pc.index_in(names, value_set=images).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    unmatched = np.flatnonzero(rows < 0)
    if len(unmatched):  # other spellings of the same images, or images without a verdict
        root = run.image_folder
        identify = ImageFolder(root).identify if run.holds_images and root.is_dir() else lexical_keys
        number_of = {
            key: row for row, key in enumerate(identify(images.to_pylist(), folder)) if key is not None
        }
        keys = identify([names[int(row)].as_py() for row in unmatched], folder)
        rows[unmatched] = [number_of.get(key, NO_VERDICT) if key is not None else NO_VERDICT for key in keys]
    chosen = pc.index_in(images, value_set=decisions.images.cast(pa.large_string()))
    decision_row = chosen.fill_null(NOT_CHOSEN).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.append(decision_row, NO_VERDICT)[rows]  # a row of -1 takes the last entry


def _table(
    whole: WholeTable, label_rows: np.ndarray, image_rows: np.ndarray, decisions: Decisions
) -> pa.Table:
    columns = [column.take(pa.array(label_rows)) for column in whole.columns]
    added = {name: values.take(pa.array(image_rows)) for name, values in decisions.provenance().items()}
    # the label of this row, not of the image: several annotators may disagree
    added["old_label"] = pc.utf8_trim_whitespace(columns[whole.label])
    columns[whole.label] = added["new_label"]
    titles = list(whole.titles)
    for name in ADDED:
        title = name
        while title in titles:
            title = f"labelfix_{title}"
        titles.append(title)
    return pa.Table.from_arrays([*columns, *(added[name] for name in ADDED)], names=titles)
