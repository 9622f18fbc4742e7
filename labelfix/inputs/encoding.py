"""Columns of strings as numbers."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Column", "encode"]


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
