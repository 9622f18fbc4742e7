"""The run directory: Arrow tables of a finished run, written atomically, and read back.

N images, K classes. ``run.json`` is written last: a directory that has one is complete.
"""

import functools
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.dataset import NO_LABEL, LabelTable
from labelfix.errors import OutputError
from labelfix.files import replace_file
from labelfix.posterior import Action, NoiseMatrix, Verdict

__all__ = [
    "HISTORY_FILE",
    "RunDirectory",
    "held_out_table",
    "label_row_table",
    "noise_matrix_table",
    "quarantine_table",
    "soft_label_table",
    "suspect_table",
]

METADATA_KEY = b"labelfix"
RUN_FILE = "run.json"
HISTORY_FILE = "history.parquet"
CHECKPOINT_FOLDER = "checkpoints"
TABLE_FILES = (
    "soft_labels", "suspects", "noise_matrix", "quarantine", "label_rows", "annotators", "consensus",
    "held_out", "neighbours",
)  # fmt: skip
# Everything a run may have written; --force removes what the new run does not write again.
RUN_FILES = (RUN_FILE, "report.html", HISTORY_FILE, *(f"{name}.parquet" for name in TABLE_FILES))


@dataclass(frozen=True)
class RunDirectory:
    """Where a run is written.

    Raises
    ------
    OutputError
        From every method, when the directory cannot be written.
    """

    path: Path

    @classmethod
    def claim(cls, path: str | os.PathLike[str], *, force: bool, resume: bool = False) -> "RunDirectory":
        """Check that a run may be written to `path`, before anything is computed.

        Raises
        ------
        OutputError
            When `path` holds a run and `force` is false, holds an unfinished one and `resume` is false as
            well, is a file, or cannot be written.
        """
        run = cls(Path(path))
        if run.path.exists() and not run.path.is_dir():
            raise OutputError(f"{path}: is a file; expected a folder for the results. Choose another --out.")
        present = [name for name in RUN_FILES if (run.path / name).exists()]
        finished = RUN_FILE in present
        unfinished = not finished and (run.path / CHECKPOINT_FOLDER).is_dir()
        if unfinished and not force and not resume:
            raise OutputError(
                f"{path}: holds an unfinished run. Go on with it with --resume, or start over with --force."
            )
        # a finished run has checkpoints only if it was killed at the very end
        if finished or (force and not resume):
            run.discard_checkpoints()
        if present and not force and not unfinished:
            raise OutputError(
                f"{path}: already holds a run ({', '.join(present[:3])}). "
                "Choose another --out, or replace it with --force."
            )
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            probe = run.path / f".labelfix-{uuid.uuid4().hex}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}). Choose another --out."
            ) from error
        return run

    def mark_unfinished(self) -> None:
        """Remove ``run.json`` of an earlier run, whose place the one that begins now takes."""
        (self.path / RUN_FILE).unlink(missing_ok=True)

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints of an unfinished run."""
        shutil.rmtree(self.path / CHECKPOINT_FOLDER, ignore_errors=True)

    def write(self, tables: dict[str, pa.Table], record: dict[str, Any], *, kept: Sequence[str] = ()) -> None:
        """Write all tables and then ``run.json``.

        What an earlier run left and this one lacks is removed, but for the files `kept`.
        """
        self.mark_unfinished()
        for stale in self.path.glob(".*.parquet.*.tmp"):  # of a run that was killed while writing
            stale.unlink(missing_ok=True)
        for name, table in tables.items():
            replace_file(self.path / f"{name}.parquet", functools.partial(pq.write_table, table))
        for name in RUN_FILES:
            if name.removesuffix(".parquet") not in tables and name not in (RUN_FILE, *kept):
                (self.path / name).unlink(missing_ok=True)
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        replace_file(self.path / RUN_FILE, lambda path: path.write_text(text, encoding="utf-8"))

    def write_file(self, name: str, content: bytes) -> None:
        """Write or replace one file, atomically."""
        replace_file(self.path / name, lambda path: path.write_bytes(content))


# ----------------------------------------------------------------------------------------------------- tables


def _names(classes: tuple[str, ...], codes: np.ndarray) -> pa.Array:
    """Return class names for (n,) codes, null where a code is negative."""
    codes = np.asarray(codes)
    indices = pa.array(codes.astype(np.int32), mask=codes == NO_LABEL)
    return pa.DictionaryArray.from_arrays(indices, pa.array(classes, pa.string())).cast(pa.string())


def soft_label_table(
    table: LabelTable, verdict: Verdict, *, top_k: int | None, metadata: dict[str, Any]
) -> pa.Table:
    """Return one row per image, in the order of the labels table.

    Parameters
    ----------
    top_k
        None writes `soft_label` as a list of K probabilities; else as lists of the `top_k` most probable
        classes, with what is left in `soft_label_rest`.
    metadata
        Kept as JSON in the schema, under ``labelfix``.
    """
    actions = pa.DictionaryArray.from_arrays(pa.array(verdict.action), pa.array(Action.NAMES))
    columns: dict[str, pa.Array] = {
        "image": table.images.cast(pa.string()),
        "given_label": _names(table.classes, table.given),
        "predicted_label": _names(table.classes, verdict.predicted_label),
        **_soft_columns(verdict.soft_label, table.classes, top_k),
        "confidence": pa.array(verdict.confidence),
        "label_score": pa.array(verdict.label_score),
        "is_label_issue": pa.array(verdict.is_label_issue),
        "action": actions,
        "trusted_label": _names(table.classes, table.trusted),
    }
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})


def _soft_columns(soft: np.ndarray, classes: tuple[str, ...], top_k: int | None) -> dict[str, pa.Array]:
    if top_k is None or top_k >= soft.shape[1]:
        return {"soft_label": pa.FixedSizeListArray.from_arrays(pa.array(soft.reshape(-1)), soft.shape[1])}
    best = np.argsort(-soft, axis=1, kind="stable")[:, :top_k]
    shares = np.take_along_axis(soft, best, axis=1)
    pairs = pa.StructArray.from_arrays(
        [_names(classes, best.reshape(-1)), pa.array(shares.reshape(-1))], ["class", "probability"]
    )
    offsets = np.arange(0, best.size + 1, top_k, dtype=np.int32)
    rest = np.maximum(0, 1 - shares.sum(1, dtype=np.float64)).astype(np.float32)
    return {"soft_label": pa.ListArray.from_arrays(offsets, pairs), "soft_label_rest": pa.array(rest)}


def suspect_table(soft_labels: pa.Table) -> pa.Table:
    """Return the rows with is_label_issue, worst (lowest label_score) first."""
    suspects = soft_labels.filter(soft_labels["is_label_issue"])
    score = suspects["label_score"].to_numpy()
    return suspects.take(np.argsort(score, kind="stable"))


def noise_matrix_table(matrix: NoiseMatrix, classes: tuple[str, ...]) -> pa.Table:
    """Return the transition matrix, one row per (true, given) pair of classes."""
    true, given = np.divmod(np.arange(len(classes) ** 2), len(classes))
    return pa.table(
        {
            "true_label": _names(classes, true),
            "given_label": _names(classes, given),
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
            "label": _names(table.classes, table.row_label),
            "annotator": _names(table.annotators, table.row_annotator),
        }
    )


def held_out_table(table: LabelTable, verdict: Verdict, pairs: np.ndarray) -> pa.Table:
    """Return what was said of the trusted rows `pairs` (M,) by fits that did not see them.

    The columns are image, given_label, trusted_label, predicted_label, confidence, and weight and sample, which say
    how the row was drawn (`labelfix.sampling`); in the order of the images.
    """
    held_out = (
        verdict.held_out if verdict.held_out is not None else np.zeros((0, len(table.classes)), np.float32)
    )
    return pa.table(
        {
            "image": table.images.take(pa.array(pairs)).cast(pa.string()),
            "given_label": _names(table.classes, table.given[pairs]),
            "trusted_label": _names(table.classes, table.trusted[pairs]),
            "predicted_label": _names(table.classes, held_out.argmax(1)),
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


def as_json(value: Any) -> Any:
    """Return dataclasses, arrays and NaN as values that JSON knows."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
