"""A finished run, read back from its directory.

N images, K classes.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.risk_control.promise import Promise
from labelfix.system.run_files import CERTIFICATE_FILE, RUN_FILE

__all__ = ["FinishedRun", "dense_soft_labels", "label_codes", "label_names"]


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run directory that holds a finished run.

    Attributes
    ----------
    path
        The directory.
    record
        Content of ``run.json``.
    """

    path: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "FinishedRun":
        """Read ``run.json`` of the run in `path`.

        Raises
        ------
        InputError
            When `path` holds no finished run.
        """
        folder = Path(path)
        try:
            record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            state = "holds no finished run" if folder.is_dir() else "is not a folder"
            raise InputError(
                f"{path}: {state}; expected the --out of a labelfix clean that came to its end. Check the path."
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder / RUN_FILE}: cannot be read ({error}). Run labelfix clean again."
            ) from None
        if not isinstance(record, dict) or not {"run_id", "classes", "summary"} <= record.keys():
            raise InputError(f"{folder / RUN_FILE}: is not the record of a run. Run labelfix clean again.")
        return cls(path=folder, record=record)

    @property
    def run_id(self) -> str:
        """The run's own identifier."""
        return str(self.record["run_id"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in order, (K,)."""
        return tuple(self.record["classes"])

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, estimates and warnings, as `CleanResult.summary`."""
        return dict(self.record["summary"])

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the run promises, or was asked to."""
        return tuple(Promise(**values) for values in self.summary.get("promises", []))

    @property
    def certificate(self) -> dict[str, Any] | None:
        """Content of ``certificate.json``; None for a run that was asked for no promise."""
        try:
            return dict(json.loads((self.path / CERTIFICATE_FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path / CERTIFICATE_FILE}: cannot be read ({error}). Run labelfix clean again."
            ) from None

    @property
    def holds_images(self) -> bool:
        """Whether the run was on a folder of images, and not on a matrix."""
        return (self.record.get("evidence") or {}).get("kind") == "images"

    @property
    def image_folder(self) -> Path:
        """Where the images were; meaningless unless `holds_images`."""
        inputs = self.record.get("inputs") or {}
        return Path(inputs.get("folder") or inputs.get("source") or ".")

    @property
    def labels_file(self) -> tuple[Path, str] | None:
        """Path and SHA-256 of the label table; None where it was a table in memory."""
        inputs = self.record.get("inputs") or {}
        path = inputs.get("labels")
        if path is None:
            return None
        return Path(path), inputs["files"][0]["sha256"]  # the label table comes first

    def has(self, name: str) -> bool:
        """Return whether the run wrote the table `name`."""
        return (self.path / f"{name}.parquet").is_file()

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read one of the run's Parquet files.

        Raises
        ------
        InputError
            When the file is missing or broken.
        """
        path = self.path / f"{name}.parquet"
        try:
            with pq.ParquetFile(path) as file:  # not read_table, which takes folders called a=b for columns
                return file.read(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read ({error}). Run labelfix clean again.") from None


def label_codes(column: pa.ChunkedArray, classes: tuple[str, ...]) -> np.ndarray:
    """Return class numbers (n,) int32 for a column of class names, -1 where it is null."""
    encoded = column.combine_chunks().dictionary_encode()
    index = {name: k for k, name in enumerate(classes)}
    lookup = np.array([index.get(name, -1) for name in encoded.dictionary.to_pylist()] + [-1], np.int32)
    return lookup[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def label_names(codes: np.ndarray, classes: tuple[str, ...]) -> pa.Array:
    """Return class names (n,) for class numbers (n,), null where a number is negative."""
    codes = np.asarray(codes).astype(np.int32)
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(classes, pa.string())).cast(pa.string())


def dense_soft_labels(table: pa.Table, classes: tuple[str, ...]) -> np.ndarray:
    """Return the soft labels of a table as (n, K) float32, rows summing to 1.

    Where a run wrote only the most probable classes, the remaining probability is spread evenly over the others.
    """
    column = table["soft_label"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # a column without chunks stays chunked in some versions
        column = pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
    num_classes = len(classes)
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, num_classes).astype(np.float32)
    pairs = column.flatten()
    lengths = np.diff(column.offsets.to_numpy())
    rows = np.repeat(np.arange(len(column)), lengths)
    codes = label_codes(pa.chunked_array([pairs.field("class")]), classes)
    rest = table["soft_label_rest"].to_numpy() / np.maximum(num_classes - lengths, 1)
    soft = np.repeat(rest.astype(np.float32)[:, None], num_classes, axis=1)
    soft[rows, codes] = pairs.field("probability").to_numpy(zero_copy_only=False)
    return soft / soft.sum(1, keepdims=True)
