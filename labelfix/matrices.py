"""Sources that are a matrix instead of a folder: features or predicted probabilities, one row per label row.

A ``.npy`` file has one row per row of the labels table. A ``.parquet`` file has either the same, or an
``image`` column that says which row belongs to which image. R label rows, N images, E extra trusted images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.config import Kind
from labelfix.dataset import LabelTable, lexical_keys
from labelfix.errors import InputError
from labelfix.tables import IMAGE_NAMES

__all__ = ["Matrix", "infer_kind", "read_matrix"]

MATRIX_SUFFIXES = (".npy", ".parquet", ".pq")


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix as it was read.

    Attributes
    ----------
    name
        For messages.
    values
        (n, columns) floating point.
    keys
        Which image each row belongs to; None where rows follow the labels table.
    """

    name: str
    values: np.ndarray
    keys: list[str] | None

    def rows_for(self, table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the N images, (N, columns), and the extra trusted images that have a row.

        Returns
        -------
        values, extra
            (N + E', columns) values, and (E',) positions among the extra trusted images.

        Raises
        ------
        InputError
            When rows are missing, too many, or the rows of one image differ.
        """
        if self.keys is None:
            return self._by_position(table), np.empty(0, np.int64)
        place = {key: row for row, key in enumerate(self.keys)}
        wanted = table.keys.to_pylist()
        lost = [key for key in wanted if key not in place]
        if lost:
            raise InputError(
                [f"{self.name}: has no row for image {key!r}, which is in the labels." for key in lost[:10]],
                len(lost),
            )
        extra = [i for i, key in enumerate(table.extra_keys.to_pylist()) if key in place]
        extra_keys = [table.extra_keys[i].as_py() for i in extra]
        return self.values[[place[key] for key in wanted + extra_keys]], np.array(extra, np.int64)

    def _by_position(self, table: LabelTable) -> np.ndarray:
        rows = len(table.row_image)
        if len(self.values) != rows:
            raise InputError(
                f"{self.name}: has {len(self.values):,} rows; the labels have {rows:,}. Expected one row per "
                "label row, in their order, or a Parquet file with an image column."
            )
        first = np.unique(table.row_image, return_index=True)[1]
        values = self.values[first]
        differing = np.flatnonzero((self.values != values[table.row_image]).any(1))
        if len(differing):
            image = table.images[int(table.row_image[differing[0]])].as_py()
            raise InputError(
                f"{self.name}: the rows of image {image!r} differ; expected the same values for every label row "
                f"of an image ({len(differing)} rows differ)."
            )
        return values


def infer_kind(source: Path, kind: Kind) -> Kind:
    """Return what `source` holds: a folder holds images; a matrix whose rows sum to 1, probabilities."""
    if kind is not Kind.AUTO:
        return kind
    if source.suffix.lower() not in MATRIX_SUFFIXES or source.is_dir():
        return Kind.IMAGES
    head = np.asarray(
        _read_npy(source)[:1000] if source.suffix == ".npy" else read_matrix(source).values[:1000]
    )
    sums_to_one = len(head) and head.min() >= 0 and np.abs(head.sum(1, dtype=np.float64) - 1).max() < 1e-2
    return Kind.PROBS if sums_to_one else Kind.FEATURES


def read_matrix(path: Path) -> Matrix:
    """Read a ``.npy`` or ``.parquet`` matrix.

    Raises
    ------
    InputError
        When it is not a matrix of finite numbers.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; expected a .npy or .parquet matrix. Check the path."
        )
    if path.suffix.lower() == ".npy":
        return _checked(Matrix(name=path.name, values=_read_npy(path), keys=None))
    if path.suffix.lower() in MATRIX_SUFFIXES:
        return _checked(_read_parquet(path))
    raise InputError(
        f"{path}: expected a matrix in .npy or .parquet. Convert it, or name a folder of images."
    )


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path.name}: is not a .npy matrix ({error}). Write it with numpy.save.") from error


def _read_parquet(path: Path) -> Matrix:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path.name}: is not a Parquet file ({error}).") from error
    key_column = next((name for name in IMAGE_NAMES if name in table.column_names), None)
    keys = None
    if key_column is not None:
        keys = lexical_keys(table.column(key_column).cast(pa.string()).to_pylist(), None)
        table = table.drop_columns(key_column)
        repeated = len(keys) - len(set(keys))
        if repeated:
            raise InputError(
                f"{path.name}: {repeated} images have more than one row; expected one row per image."
            )
    lists = [name for name in table.column_names if _is_list(table.schema.field(name).type)]
    if len(lists) == 1:
        column = table.column(lists[0]).combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        values = flat.reshape(len(table), -1) if len(table) and len(flat) % len(table) == 0 else flat
    else:
        numeric = [n for n in table.column_names if _is_number(table.schema.field(n).type)]
        values = np.column_stack([table.column(n).to_numpy() for n in numeric]) if numeric else np.empty(0)
    return Matrix(name=path.name, values=values, keys=keys)  # type: ignore[arg-type]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _checked(matrix: Matrix) -> Matrix:
    values = matrix.values
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating) or values.shape[1] < 2:
        raise InputError(
            f"{matrix.name}: has shape {values.shape} and type {values.dtype}; expected a matrix of floating-point "
            "numbers with one row per label and at least two columns."
        )
    for start in range(0, len(values), 65536):
        wrong = np.flatnonzero(~np.isfinite(values[start : start + 65536]).all(1))
        if len(wrong):
            raise InputError(f"{matrix.name}, row {start + wrong[0] + 1}: holds a number that is not finite.")
    return matrix
