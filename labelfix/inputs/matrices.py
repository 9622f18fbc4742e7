"""Sources that are a matrix instead of a folder: features or predicted probabilities, one row per label row.

A ``.npy`` file has one row per row of the labels table. A ``.parquet`` file has either the same, or an
``image`` column that says which row belongs to which image. R label rows, N images, E extra trusted images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.inputs import LabelTable, lexical_keys
from labelfix.inputs.readers import (
    ANNOTATOR_NAMES,
    GIVEN_NAMES,
    IMAGE_NAMES,
    TRUSTED_NAMES,
    Problems,
    plain_title,
    text_array,
)
from labelfix.settings import Kind
from labelfix.system.paths import MATRIX, MATRIX_SUFFIXES, path_problem
from labelfix.system.progress import Progress

__all__ = ["Matrix", "infer_kind", "read_matrix"]

NOT_VALUES = {*IMAGE_NAMES, *ANNOTATOR_NAMES, *GIVEN_NAMES, *TRUSTED_NAMES}
ROWS_PER_CHUNK = 65_536
SAMPLE_ROWS = 1_000
SUM_TOLERANCE = 1e-2  # of a row of probabilities, which may have been written in half precision


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
    titles
        Names of the columns; None where they have none.
    """

    name: str
    values: np.ndarray
    keys: list[str] | None
    titles: tuple[str, ...] | None = None

    def aligned(self, table: LabelTable, progress: Progress) -> tuple[np.ndarray, LabelTable]:
        """Return values (N + E', columns), and the table of the images that they belong to, row for row.

        Where the columns are named after the classes, they come in class order. Extra trusted images without a row
        are left out of the table.

        Raises
        ------
        InputError
            When rows are missing, too many, or the rows of one image differ.
        """
        if self.keys is None:
            values, extra = self._by_position(table), np.empty(0, np.int64)
        else:
            values, extra = self._by_key(self.keys, table)
        if len(extra) < len(table.extra_trusted):
            lost = len(table.extra_trusted) - len(extra)
            progress.note(f"warning: {lost:,} trusted images have no row in {self.name} and are left out.")
        titles = [title.strip() for title in self.titles or ()]
        if sorted(titles) == sorted(table.classes) and titles != list(table.classes):
            values = values[:, [titles.index(name) for name in table.classes]]
        return values, table.with_extra(extra)

    def _by_key(self, keys: list[str], table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
        row_of: dict[str, int] = {}
        for row, key in enumerate(keys):
            row_of.setdefault(key, row)
        if len(row_of) < len(keys):
            self._check_alike(np.fromiter((row_of[key] for key in keys), np.int64, len(keys)), keys)
        wanted = table.keys.to_pylist()
        lost = [key for key in wanted if key not in row_of]
        if lost:
            raise InputError(
                [
                    f"{self.name}: has no row for image {key!r}, which is in the labels; expected one per image. "
                    "Add it, or remove the image from the labels."
                    for key in lost[:SHOWN_PROBLEMS]
                ],
                len(lost),
            )
        extra = [(i, key) for i, key in enumerate(table.extra_keys.to_pylist()) if key in row_of]
        rows = [row_of[key] for key in wanted] + [row_of[key] for _, key in extra]
        return self.values[rows], np.array([i for i, _ in extra], np.int64)

    def _by_position(self, table: LabelTable) -> np.ndarray:
        rows = len(table.row_image)
        if len(self.values) != rows:
            raise InputError(
                f"{self.name}: has {len(self.values):,} rows; the labels have {rows:,}. Expected one row per "
                "label row, in their order. Write one per label row, or a Parquet file with an image column."
            )
        first = np.unique(table.row_image, return_index=True)[1]
        if len(first) < rows:
            self._check_alike(first[table.row_image], table.images.take(pa.array(table.row_image)))
        return np.asarray(self.values[first])

    def _check_alike(self, first: np.ndarray, images: list[str] | pa.Array) -> None:
        """Check that row i equals row `first[i]` for every i; `images` names the image of each row."""
        problems = Problems()
        for start in range(0, len(first), ROWS_PER_CHUNK):
            chunk = slice(start, start + ROWS_PER_CHUNK)
            differing = start + np.flatnonzero((self.values[chunk] != self.values[first[chunk]]).any(1))

            def describe(rows: np.ndarray = differing) -> Iterator[str]:
                for row in rows:
                    image = str(images[int(row)])
                    yield (
                        f"{self.name}, row {row + 1}: the values of image {image!r} are not those of row "
                        f"{first[row] + 1}; expected the same in every row of an image. Correct one of them."
                    )

            problems.add_many(len(differing), describe)
        problems.raise_if_any()


def infer_kind(source: Path, kind: Kind) -> Kind:
    """Return what `source` holds: a folder holds images; a matrix whose rows sum to 1, probabilities."""
    if kind is not Kind.AUTO:
        return kind
    if source.suffix.lower() not in MATRIX_SUFFIXES or source.is_dir():
        return Kind.IMAGES
    head = np.asarray(_load(source, rows=SAMPLE_ROWS).values[:SAMPLE_ROWS], np.float64)
    return Kind.FEATURES if _not_probabilities(head).any() else Kind.PROBS


def _not_probabilities(values: np.ndarray) -> np.ndarray:
    """Return, (n,) bool, which rows cannot be probabilities; a NaN cannot be one."""
    sums = values.sum(1, dtype=np.float64)
    return ~((values.min(1) >= 0) & (np.abs(sums - 1) <= SUM_TOLERANCE))


def read_matrix(path: Path, kind: Kind = Kind.AUTO) -> Matrix:
    """Read a ``.npy`` or ``.parquet`` matrix.

    Parameters
    ----------
    path
        The file.
    kind
        With ``probs``, every row has to be probabilities that sum to 1.

    Raises
    ------
    InputError
        When it is not a matrix of finite numbers, or not one of probabilities.
    """
    matrix = _load(path)
    problems = Problems()
    for start in range(0, len(matrix.values), ROWS_PER_CHUNK):
        chunk = np.asarray(matrix.values[start : start + ROWS_PER_CHUNK])
        infinite = ~np.isfinite(chunk).all(1)
        _report_rows(
            matrix.name, start, infinite, "holds a number that is not finite; expected none", problems
        )
        if kind is Kind.PROBS:
            wrong = _not_probabilities(chunk) & ~infinite
            what = "is not probabilities; expected numbers from 0 to 1 whose sum is 1"
            _report_rows(matrix.name, start, wrong, what, problems)
    problems.raise_if_any()
    return matrix


def _report_rows(name: str, start: int, wrong: np.ndarray, what: str, problems: Problems) -> None:
    rows = start + np.flatnonzero(wrong)
    problems.add_many(
        len(rows), lambda: (f"{name}, row {row + 1}: {what}. Write the row again." for row in rows)
    )


def _load(path: Path, rows: int | None = None) -> Matrix:
    """Read a matrix, or at least the first `rows` of it, without a check of the numbers."""
    if problem := path_problem(path, MATRIX):
        raise InputError(problem)
    suffix = path.suffix.lower()
    if suffix not in MATRIX_SUFFIXES:
        raise InputError(
            f"{path}: the ending {suffix!r} is not one that labelfix reads; expected a matrix in .npy or .parquet. "
            "Convert it, or name a folder of images."
        )
    matrix = _read_npy(path) if suffix == ".npy" else _read_parquet(path, rows)
    values = matrix.values
    if (
        values.ndim != 2
        or not np.issubdtype(values.dtype, np.floating)
        or values.shape[1] < 2
        or not len(values)
    ):
        raise InputError(
            f"{matrix.name}: has shape {values.shape} and type {values.dtype}; expected a matrix of floating-point "
            "numbers with one row per label and at least two columns. Write it again."
        )
    return matrix


def _read_npy(path: Path) -> Matrix:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path.name}: is not a .npy matrix ({error}). Write it with numpy.save.") from error
    if not isinstance(values, np.ndarray):
        values.close()
        raise InputError(f"{path.name}: is an archive of arrays; expected one. Write it with numpy.save.")
    if np.issubdtype(values.dtype, np.floating) and values.dtype not in (np.float16, np.float32, np.float64):
        values = values.astype(np.float64)  # long doubles, which nothing after this computes with
    elif not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return Matrix(name=path.name, values=values, keys=None)


def _read_parquet(path: Path, rows: int | None) -> Matrix:
    try:
        with pq.ParquetFile(path) as file:
            if rows is None:
                table = file.read()
            else:
                table = pa.Table.from_batches(
                    [b for _, b in zip(range(1), file.iter_batches(rows), strict=False)], file.schema_arrow
                )
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path.name}: is not a Parquet file that can be read ({error}). Write it again."
        ) from error
    titles = [plain_title(title) for title in table.column_names]
    key_column = next((titles.index(name) for name in IMAGE_NAMES if name in titles), None)
    keys = None if key_column is None else _read_keys(path.name, table.column(key_column))
    columns = [i for i, title in enumerate(titles) if title not in NOT_VALUES]
    lists = [i for i in columns if _is_list(table.schema.field(i).type)]
    if len(lists) > 1:
        named = ", ".join(repr(table.column_names[i]) for i in lists)
        raise InputError(
            f"{path.name}: has several columns of lists ({named}); expected one. Keep one of them."
        )
    if lists:
        return Matrix(name=path.name, values=_stack_lists(path.name, table.column(lists[0])), keys=keys)
    numbers = [i for i in columns if pa.types.is_floating(table.schema.field(i).type)]
    values = np.column_stack([table.column(i).to_numpy() for i in numbers]) if numbers else np.empty(0)
    names = tuple(table.column_names[i] for i in numbers)
    return Matrix(name=path.name, values=values, keys=keys, titles=names)


def _read_keys(name: str, column: pa.ChunkedArray) -> list[str]:
    try:
        text = text_array(column)
    except pa.ArrowException:
        text = None
    if text is None:
        raise InputError(
            f"{name}: the image column is of type {column.type}; expected strings or whole numbers. Convert it."
        )
    empty = np.flatnonzero(text.is_null())
    if len(empty):
        raise InputError(
            [
                f"{name}, row {row + 1}: the image is empty; expected a name. Fill it in."
                for row in empty[:SHOWN_PROBLEMS]
            ],
            len(empty),
        )
    return [key for key in lexical_keys(text.to_pylist(), None) if key is not None]


def _stack_lists(name: str, column: pa.ChunkedArray) -> np.ndarray:
    """Return lists of one length as a matrix."""
    lengths = np.asarray(pc.list_value_length(column).fill_null(-1))
    if not len(lengths):
        return np.empty((0, 0))
    wrong = np.flatnonzero((lengths != lengths[0]) | (lengths < 0))
    if len(wrong):
        raise InputError(
            [
                f"{name}, row {row + 1}: has {max(lengths[row], 0)} numbers where the first row has "
                f"{max(lengths[0], 0)}; expected as many in every row. Write the row again."
                for row in wrong[:SHOWN_PROBLEMS]
            ],
            len(wrong),
        )
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return flat.reshape(len(lengths), -1)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
