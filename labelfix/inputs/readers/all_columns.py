"""A label table with all its columns, as text, in the order of the file: for writing it out again."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import InputError
from labelfix.inputs.readers.arrow import text_array
from labelfix.inputs.readers.class_labels import with_class_names
from labelfix.inputs.readers.columns import Problems, find_columns, wanted_columns
from labelfix.inputs.readers.delimited import read_delimited_whole
from labelfix.inputs.readers.json_lines import read_json_lines_whole

__all__ = ["WholeTable", "read_whole_table"]


class WholeTable:
    """All columns of a label table.

    Attributes
    ----------
    titles
        As the file writes them.
    columns
        One text array (R,) per title.
    image, label
        Positions of the image and the label column.
    """

    def __init__(self, name: str, titles: list[str], columns: list[pa.Array]):
        problems = Problems()
        positions = find_columns(name, titles, wanted_columns(trusted=False), problems)
        problems.raise_if_any()
        assert positions is not None
        self.titles, self.columns = titles, columns
        self.image, self.label = positions["image"], positions["label"]


def read_whole_table(path: Path) -> WholeTable:
    """Read a label table that `read_table` has accepted before.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    ending = path.suffix.lower()
    try:
        if ending in (".parquet", ".pq"):
            titles, columns = _read_parquet(path)
        elif ending in (".jsonl", ".ndjson", ".json"):
            titles, columns = read_json_lines_whole(path)
        else:
            titles, columns = read_delimited_whole(path, wanted_columns(trusted=False))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}). Check the file.") from error
    return WholeTable(path.name, titles, columns)


def _read_parquet(path: Path) -> tuple[list[str], list[pa.Array]]:
    with pq.ParquetFile(path) as file:
        table = with_class_names(file.read())
    return table.column_names, [_as_text(column) for column in table.columns]


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    if (text := text_array(column)) is not None:
        return text
    try:
        return pa.concat_arrays(column.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
    except pa.ArrowException:
        return pa.array([_cell(value) for value in column.to_pylist()], pa.large_string())


def _cell(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)
