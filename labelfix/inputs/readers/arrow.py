"""Parquet files, and tables in memory: pandas, polars, Arrow."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.inputs.readers.class_labels import with_class_names
from labelfix.inputs.readers.columns import Problems, RawTable, Wanted, find_columns, finish

__all__ = ["read_memory", "read_parquet", "text_array"]


def read_parquet(path: Path, name: str, wanted: Wanted, problems: Problems) -> RawTable | None:
    """Read a Parquet file; None where it cannot be used, and `problems` says why."""
    try:
        with pq.ParquetFile(path) as file:  # not read_table, which takes folders called a=b for columns
            titles = file.schema_arrow.names
            positions = find_columns(name, titles, wanted, problems)
            if positions is None:
                return None
            table = with_class_names(file.read(columns=[titles[position] for position in positions.values()]))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        problems.add(f"{name}: is not a Parquet file that can be read ({error}). Write it again.")
        return None
    titled = {column: (titles[p], table.column(titles[p])) for column, p in positions.items()}
    return _from_columns(name, path.parent, titled, problems)


def read_memory(source: Any, name: str, wanted: Wanted, problems: Problems) -> RawTable | None:
    """Read a table in memory; None where it cannot be used, and `problems` says why."""
    try:
        is_pandas = hasattr(source, "iloc") and hasattr(source, "columns")
        if not is_pandas and not isinstance(source, pa.Table):
            source = pa.table(source)
        if isinstance(source, pa.Table):
            source = with_class_names(source)
        titles = [str(title) for title in (source.columns if is_pandas else source.column_names)]
        positions = find_columns(name, titles, wanted, problems)
        if positions is None:
            return None
        if is_pandas:  # its other columns may hold anything
            chosen = source.iloc[:, list(positions.values())].set_axis(list(positions), axis=1)
            source = pa.Table.from_pandas(chosen, preserve_index=False)
            titled = {column: (titles[p], source.column(column)) for column, p in positions.items()}
        else:
            titled = {column: (titles[p], source.column(p)) for column, p in positions.items()}
    except (TypeError, ValueError, pa.ArrowException) as error:
        problems.add(
            f"{name}: {type(source).__name__} cannot be read as a table ({error}); expected a path, or a "
            "pandas, polars or Arrow table whose images and labels are strings or whole numbers."
        )
        return None
    return _from_columns(name, None, titled, problems)


def _from_columns(
    name: str, folder: Path | None, titled: dict[str, tuple[str, pa.ChunkedArray]], problems: Problems
) -> RawTable | None:
    """Return the table of `titled` columns (title in the file and values); None where one is not text."""
    columns = {}
    for column, (title, values) in titled.items():
        try:
            columns[column] = text_array(_number_text(values) if column == "weight" else values)
        except pa.ArrowException as error:
            problems.add(
                f"{name}: the {column} column {title!r} is not text in UTF-8 ({error}). Convert the column."
            )
            return None
        if columns[column] is None:
            problems.add(
                f"{name}: the {column} column {title!r} is of type {values.type}; expected strings or whole "
                "numbers. Convert the column."
            )
            return None
    return finish(RawTable(name=name, folder=folder, columns=columns), problems)


def _number_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers with a fraction as text that reads back as the same number."""
    return values.cast(pa.large_string()) if pa.types.is_floating(values.type) else values


def text_array(values: pa.ChunkedArray) -> pa.Array | None:
    """Return strings and whole numbers as one large_string array; None where they are something else.

    Raises
    ------
    pyarrow.ArrowException
        When the bytes are not UTF-8.
    """
    kind = values.type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (_is_text(inner) or pa.types.is_integer(inner) or pa.types.is_null(inner)):
        return None
    text = pa.concat_arrays(
        [_chunk_text(chunk) for chunk in values.chunks] or [pa.array([], pa.large_string())]
    )
    text.validate(full=True)
    return text


def _chunk_text(chunk: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(chunk.type):
        dictionary = _chunk_text(chunk.dictionary)
        dictionary.validate(full=True)
        return pa.DictionaryArray.from_arrays(chunk.indices, dictionary).cast(pa.large_string())
    return chunk.cast(pa.large_string())


def _is_text(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,  # how some writers store strings; checked to be UTF-8
            pa.types.is_large_binary,
        )
    )
