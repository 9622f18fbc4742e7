"""Reading label tables: CSV, TSV, JSON lines, Parquet and Arrow, into columns of strings.

Every cell stays the string that was written ("007" is not "7"). Faults are collected and reported together, each
with its place in the file.
"""

import os
from pathlib import Path
from typing import Any

from labelfix.inputs.readers.all_columns import WholeTable, read_whole_table
from labelfix.inputs.readers.arrow import read_memory, read_parquet, text_array
from labelfix.inputs.readers.columns import (
    ANNOTATOR_NAMES,
    GIVEN_NAMES,
    IMAGE_NAMES,
    TRUSTED_NAMES,
    WEIGHT_NAMES,
    Problems,
    RawTable,
    plain_title,
    wanted_columns,
)
from labelfix.inputs.readers.delimited import read_delimited
from labelfix.inputs.readers.json_lines import read_json_lines
from labelfix.system.paths import TABLE, path_problem

__all__ = [
    "ANNOTATOR_NAMES",
    "GIVEN_NAMES",
    "IMAGE_NAMES",
    "TRUSTED_NAMES",
    "WEIGHT_NAMES",
    "Problems",
    "RawTable",
    "WholeTable",
    "plain_title",
    "read_table",
    "read_whole_table",
    "text_array",
]

READERS = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), read_delimited),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), read_json_lines),
    **dict.fromkeys((".parquet", ".pq"), read_parquet),
}


def read_table(
    source: Any,
    problems: Problems,
    *,
    trusted: bool = False,
    name: str | None = None,
    weight: str | None = None,
    stratum: str | None = None,
) -> RawTable | None:
    """Read a label table from a file, or from anything that Arrow can take (pandas, polars, Arrow).

    Parameters
    ----------
    source
        Path of a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or a table in memory.
    problems
        Receives every fault that is found.
    trusted
        Whether the table holds trusted labels: where a file has several label columns, the trusted one counts.
    name
        What to call the table in messages; by default its file name.
    weight
        The column of a trusted table's sampling weights; None takes ``weight`` or ``sampling_weight``.
    stratum
        The column of a label table's strata; None for none.

    Returns
    -------
    RawTable or None
        None where the table cannot be used at all; `problems` then says why.
    """
    wanted = wanted_columns(trusted=trusted, weight=weight, stratum=stratum)
    if not isinstance(source, (str, os.PathLike)):
        return read_memory(source, name or ("trusted" if trusted else "labels"), wanted, problems)
    path = Path(source)
    try:
        if problem := path_problem(path, TABLE):
            problems.add(problem)
        elif path.suffix.lower() not in READERS:
            problems.add(
                f"{path}: the ending {path.suffix!r} is not one that labelfix reads; expected .csv, .tsv, "
                ".jsonl or .parquet. Convert the table, or rename it."
            )
        elif path.stat().st_size == 0:
            problems.add(f"{path}: the file is empty; expected column names and rows. Check the file.")
        else:
            return READERS[path.suffix.lower()](path, name or path.name, wanted, problems)
    except OSError as error:
        problems.add(f"{path}: cannot be read ({error.strerror or error}). Check the path and permissions.")
    return None
