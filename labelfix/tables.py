"""Reading label tables: CSV, TSV, JSON lines, Parquet and Arrow, into columns of strings.

Every cell stays the string that was written ("007" is not "7"). Faults are collected, so that a person sees
all of them in one go, each with the place it stands at.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from labelfix.errors import SHOWN_PROBLEMS, InputError

__all__ = ["Problems", "RawTable", "read_table"]

# The usual names of each column, the contract's own first. cleanlab, crowd-kit, Hugging Face and pandas users
# arrive with these.
IMAGE_NAMES = ("image", "file_name", "filename", "path", "file", "filepath", "image_path", "img", "task")
ANNOTATOR_NAMES = ("annotator", "worker", "annotator_id", "worker_id", "labeler", "rater")
GIVEN_NAMES = ("label", "class", "given_label", "category", "label_name")
TRUSTED_NAMES = ("trusted_label", "true_label", "verified_label", "label", "class", "category", "label_name")
Wanted = Mapping[str, tuple[str, ...]]
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class Problems:
    """Collects faults: all are counted, the first ten are described in full."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.count = 0

    def add(self, message: str) -> None:
        """Add one fault."""
        self.add_many(1, lambda: [message])

    def add_many(self, count: int, describe: Callable[[], Iterable[str]]) -> None:
        """Add `count` faults; `describe` is called, and read, only as far as there is room to show them."""
        room = SHOWN_PROBLEMS - len(self.messages)
        if count and room > 0:
            self.messages.extend(message for _, message in zip(range(room), describe(), strict=False))
        self.count += count

    def raise_if_any(self) -> None:
        """Raise one `InputError` with everything that was collected."""
        if self.count:
            raise InputError(self.messages, self.count)


def _nowhere(rows: Sequence[int]) -> list[str]:
    return [f"row {row + 1}" for row in rows]


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A label table as it was written.

    Attributes
    ----------
    name
        What to call the table in messages, for example ``labels.csv``.
    folder
        The folder the table stands in; None for a table in memory.
    columns
        ``image``, ``label`` and, where there is one, ``annotator``: (R,) large_string, null where empty.
    places
        From row numbers to what a person looks up: ``line 48`` of a text file, ``row 47`` of a Parquet file.
    """

    name: str
    folder: Path | None
    columns: dict[str, pa.Array]
    places: Callable[[Sequence[int]], list[str]] = field(default=_nowhere, repr=False)

    @property
    def num_rows(self) -> int:
        """Number of label rows."""
        return len(self.columns["image"])

    def at(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Return ``labels.csv, line 48`` for each of a few row numbers."""
        return [f"{self.name}, {place}" for place in self.places([int(row) for row in rows])]


def read_table(source: Any, problems: Problems, *, trusted: bool = False) -> RawTable | None:
    """Read a label table from a file, or from anything that Arrow can take (pandas, polars, Arrow).

    Parameters
    ----------
    source
        Path of a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or a table in memory.
    problems
        Receives every fault that is found.
    trusted
        Whether the table holds trusted labels: where a file has several label columns, the trusted one counts.

    Returns
    -------
    RawTable or None
        None where the table cannot be used at all; `problems` then says why.
    """
    columns = {"image": IMAGE_NAMES, "label": TRUSTED_NAMES if trusted else GIVEN_NAMES}
    if not trusted:
        columns["annotator"] = ANNOTATOR_NAMES
    if not isinstance(source, (str, Path)):
        name = "trusted" if trusted else "labels"
        return _from_arrow(name, None, _arrow_table(source, name), columns, problems)
    path = Path(source)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        problems.add(f"{path}: {state}; expected a CSV, TSV, JSON lines or Parquet file. Check the path.")
        return None
    if path.stat().st_size == 0:
        problems.add(f"{path}: the file is empty; expected a header and at least one row.")
        return None
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return _read_parquet(path, columns, problems)
        if suffix in (".jsonl", ".ndjson", ".json"):
            return _read_json_lines(path, columns, problems)
        if suffix in (".csv", ".tsv", ".tab", ".txt"):
            return _read_delimited(path, columns, problems)
    except OSError as error:
        problems.add(f"{path}: cannot be read ({error.strerror or error}). Check its permissions.")
        return None
    problems.add(
        f"{path}: the ending {suffix!r} is not one that labelfix reads; expected .csv, .tsv, .jsonl or .parquet."
    )
    return None


# ---------------------------------------------------------------------------------------------------- columns


def _find_columns(
    table: str, names: Sequence[str], wanted: Wanted, problems: Problems
) -> dict[str, int] | None:
    """Return the positions of the wanted columns among `names`; the annotator column may be absent."""
    plain = [unicodedata.normalize("NFC", str(name)).strip().lower() for name in names]
    found: dict[str, int] = {}
    faults = 0
    for column, synonyms in wanted.items():
        hits = [i for i, title in enumerate(plain) if title in synonyms]
        exact = [i for i in hits if plain[i] == synonyms[0]]
        hits = exact or hits
        if len(hits) > 1:
            listed = ", ".join(repr(str(names[i])) for i in hits)
            problems.add(
                f"{table}: {listed} could each be the {column} column. Keep one, named {synonyms[0]!r}."
            )
            faults += 1
        elif hits:
            found[column] = hits[0]
        elif column != "annotator":
            listed = ", ".join(repr(str(title)) for title in names[:8])
            problems.add(
                f"{table}: has no {column} column; found {listed}. "
                f"Name it {column!r} (or {', '.join(repr(s) for s in synonyms if s != column)})."
            )
            faults += 1
    return None if faults else found


def _text_columns(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Trim white space around labels and annotators; make empty cells null."""
    clean = {}
    for name, values in columns.items():
        if name != "image":
            values = pc.utf8_trim_whitespace(values)
        clean[name] = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.large_string()), values)
    return clean


def _as_array(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks)
    return values


def _finish(table: RawTable, problems: Problems) -> RawTable | None:
    if table.num_rows == 0:
        problems.add(f"{table.name}: has a header but no rows; expected at least one.")
        return None
    for column in ("image", "label"):
        empty = np.flatnonzero(table.columns[column].is_null())
        problems.add_many(
            len(empty),
            lambda empty=empty, column=column: (  # type: ignore[misc]
                f"{place}: the {column} is empty. Fill it in, or remove the row."
                for place in table.at(empty[:SHOWN_PROBLEMS])
            ),
        )
    return table


# ----------------------------------------------------------------------------------------------- CSV and TSV


def _read_delimited(path: Path, wanted: Wanted, problems: Problems) -> RawTable | None:
    name = path.name
    header = _read_header(path, problems)
    if header is None:
        return None
    delimiter, names = header
    positions = _find_columns(name, names, wanted, problems)
    if positions is None:
        return None
    repeated = sorted(
        {n for n in names if names.count(n) > 1 and n in [names[p] for p in positions.values()]}
    )
    if repeated:
        problems.add(f"{name}: the column {repeated[0]!r} stands there twice. Remove one of them.")
        return None
    titles = {column: names[position] for column, position in positions.items()}
    faulty: list[Any] = []

    def skip(row: Any) -> str:
        faulty.append(row)
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(titles.values()),
                column_types=dict.fromkeys(titles.values(), pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if not _report_bad_bytes(path, problems):
            problems.add(f"{name}: is not a well-formed table ({error}). Save it again as CSV in UTF-8.")
        return None
    places = _line_finder(path, delimiter, len(names))
    _report_ragged_rows(name, delimiter, faulty, problems)
    columns = {column: _as_array(table.column(title)) for column, title in titles.items()}
    raw = RawTable(name=name, folder=path.parent, columns=_text_columns(columns), places=places)
    return raw if faulty and not raw.num_rows else _finish(raw, problems)


def _read_header(path: Path, problems: Problems) -> tuple[str, list[str]] | None:
    """Return the delimiter and the column names of a delimited file."""
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if first.startswith(mark):
            problems.add(
                f"{path.name}: is encoded in {encoding}; expected UTF-8. "
                "Save it as 'CSV UTF-8' in your spreadsheet, or convert it with iconv."
            )
            return None
    if b"\0" in first:
        problems.add(f"{path.name}: is not a text file (it holds NUL bytes); expected a CSV or TSV table.")
        return None
    try:
        text = first.decode("utf-8-sig")
    except UnicodeDecodeError:
        _report_bad_bytes(path, problems)
        return None
    if not text.strip():
        problems.add(f"{path.name}: the first line is blank; expected the column names there.")
        return None
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(DELIMITERS, key=text.count)
    if not text.count(delimiter):
        delimiter = ","
    return delimiter, next(csv.reader([text], delimiter=delimiter))


def _report_bad_bytes(path: Path, problems: Problems) -> bool:
    """Report every line that is not UTF-8; return whether there was one."""
    bad: list[str] = []
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                count += 1
                if len(bad) < SHOWN_PROBLEMS:
                    bad.append(
                        f"{path.name}, line {number}: byte 0x{line[error.start]:02x} at position "
                        f"{error.start + 1} is not UTF-8. Save the table as UTF-8 (it may be Latin-1 now)."
                    )
    problems.add_many(count, lambda: bad)
    return count > 0


def _report_ragged_rows(name: str, delimiter: str, faulty: Sequence[Any], problems: Problems) -> None:
    problems.add_many(
        len(faulty),
        lambda: (
            f"{name}, row {row.number}: has {row.actual_columns} fields where the header has "
            f"{row.expected_columns} ({row.text.strip()[:60]!r}). "
            f"Fields are parted by {DELIMITERS[delimiter]}; quote a field that holds one."
            for row in faulty
        ),
    )


def _records(path: Path, delimiter: str, width: int) -> Iterator[int]:
    """Yield the last line number of every record that has `width` fields, the header first."""
    with io.open(path, encoding="utf-8-sig", newline="") as file:  # noqa: UP020
        reader = csv.reader(file, delimiter=delimiter)
        for record in reader:
            if len(record) == width and (record or width == 0):
                yield reader.line_num


def _line_finder(path: Path, delimiter: str, width: int) -> Callable[[Sequence[int]], list[str]]:
    def find(rows: Sequence[int]) -> list[str]:
        wanted = set(rows)
        lines: dict[int, int] = {}
        for row, line in enumerate(_records(path, delimiter, width), -1):
            if row in wanted:
                lines[row] = line
                if len(lines) == len(wanted):
                    break
        return [f"line {lines[row]}" if row in lines else f"row {row + 1}" for row in rows]

    return find


# ------------------------------------------------------------------------------------------------- JSON lines


def _read_json_lines(path: Path, wanted: Wanted, problems: Problems) -> RawTable | None:
    names: dict[str, str] | None = None
    values: dict[str, list[str | None]] = {}
    lines: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                record = json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                problems.add(f"{where}: is not JSON in UTF-8 ({error}); expected one object per line.")
                continue
            if not isinstance(record, dict):
                problems.add(
                    f"{where}: holds {type(record).__name__}; expected an object with image and label."
                )
                continue
            if names is None:
                positions = _find_columns(path.name, list(record), wanted, problems)
                if positions is None:
                    return None
                names = {column: list(record)[position] for column, position in positions.items()}
                values = {column: [] for column in names}
            lines.append(number)
            for column, title in names.items():
                values[column].append(_json_text(record.get(title), f"{where}: the {column}", problems))
    columns = {column: pa.array(cells, pa.large_string()) for column, cells in values.items()}
    if not columns:
        if not problems.count:
            problems.add(f"{path.name}: holds no rows; expected one JSON object per line.")
        return None
    line_of = np.asarray(lines)
    raw = RawTable(
        name=path.name,
        folder=path.parent,
        columns=_text_columns(columns),
        places=lambda rows: [f"line {line_of[row]}" for row in rows],
    )
    return _finish(raw, problems)


def _json_text(value: Any, where: str, problems: Problems) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    problems.add(f"{where} is {json.dumps(value)[:60]}; expected a string or a whole number.")
    return "?"


# -------------------------------------------------------------------------------------------- Parquet, Arrow


def _read_parquet(path: Path, wanted: Wanted, problems: Problems) -> RawTable | None:
    try:
        schema = pq.read_schema(path)
        positions = _find_columns(path.name, schema.names, wanted, problems)
        if positions is None:
            return None
        table = pq.read_table(path, columns=[schema.names[p] for p in positions.values()])
    except pa.ArrowInvalid as error:
        problems.add(f"{path.name}: is not a Parquet file ({error}). Check the file, or its ending.")
        return None
    return _from_arrow(path.name, path.parent, table, wanted, problems)


def _arrow_table(source: Any, name: str) -> pa.Table:
    try:
        return source if isinstance(source, pa.Table) else pa.table(source)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{name}: got {type(source).__name__}, which is not a table ({error}); "
            "expected a path, or a pandas, polars or Arrow table."
        ) from error


def _from_arrow(
    name: str, folder: Path | None, table: pa.Table, wanted: Wanted, problems: Problems
) -> RawTable | None:
    positions = _find_columns(name, table.column_names, wanted, problems)
    if positions is None:
        return None
    columns = {}
    for column, position in positions.items():
        values = table.column(position)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if not (_is_text(values.type) or pa.types.is_integer(values.type)):
            problems.add(
                f"{name}: the {column} column {table.column_names[position]!r} is of type {values.type}; "
                "expected strings or whole numbers."
            )
            return None
        columns[column] = _as_array(values.cast(pa.large_string()))
    return _finish(RawTable(name=name, folder=folder, columns=_text_columns(columns)), problems)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
