"""Columns of strings as numbers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Column", "count_values", "encode"]


@dataclass(frozen=True)
class Column:
    """One dictionary-encoded column: `codes` (R,) int32 into `values`, -1 where null."""

    codes: np.ndarray
    values: list[str]


def encode(column: pa.Array) -> Column:
    """Number the distinct strings of a column in order of first appearance."""
    encoded = pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Column(codes, encoded.dictionary.to_pylist())


def count_values(columns: Iterable[Column]) -> Counter[str]:
    """Return how many rows of the columns have each value."""
    rows: Counter[str] = Counter()
    for column in columns:
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
        for value, count in zip(column.values, counts.tolist(), strict=True):
            rows[value] += count
    return rows
