"""CSV and TSV files.

Arrow reads them. Python's csv module knows line numbers but is slow, so it is used only where something is wrong.
Both have the same records: blank lines are none, and a quoted field may hold line breaks.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.readers.columns import Problems, RawTable, Wanted, find_columns, finish, plain_title

__all__ = ["read_delimited", "read_delimited_whole", "report_bad_text"]

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
BYTE_ORDER_MARKS = ((b"\xff\xfe\0\0", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
BLOCK_BYTES = 1 << 24  # no record may be longer
LONGEST_FIELD = 2**31 - 1


def read_delimited(path: Path, name: str, wanted: Wanted, problems: Problems) -> RawTable | None:
    """Read a CSV or TSV file; None where it cannot be used, and `problems` says why."""
    scan = _scan(path)
    if not scan.is_text:
        report_bad_text(path, name, problems)
        return None
    try:
        header = _read_header(path, wanted)
        if header is None:
            problems.add(f"{name}: holds nothing but blank lines; expected column names and rows.")
            return None
        delimiter, titles = header
        positions = find_columns(name, titles, wanted, problems)
        if positions is None:
            return None
        table, skipped = _read_columns(path, delimiter, len(titles), list(positions.values()))
        if scan.quotes and scan.lines != table.num_rows + skipped:
            _check_quotes(path, delimiter)
        ragged = _report_ragged_rows(path, name, delimiter, len(titles), problems) if skipped else 0
    except _BadQuotesError as error:
        problems.add(
            f"{name}, line {error.line}: the quotes of this row do not match ({error}); expected every quoted "
            'field to end in a quote, and quotes within it to be doubled (""). Correct the row.'
        )
        return None
    except pa.ArrowInvalid as error:
        problems.add(f"{name}: is not a well-formed table ({error}). Save it again as CSV in UTF-8.")
        return None
    columns = {
        column: table.column(str(position)).slice(1).combine_chunks()
        for column, position in positions.items()
    }
    raw = RawTable(
        name=name,
        folder=path.parent,
        columns={column: _whole(values) for column, values in columns.items()},
        places=lambda rows: _find_lines(path, delimiter, len(titles), rows),
    )
    return raw if ragged and not raw.num_rows else finish(raw, problems)


def read_delimited_whole(path: Path, wanted: Wanted) -> tuple[list[str], list[pa.Array]]:
    """Return titles and all columns, as text, of a file that `read_delimited` accepts."""
    header = _read_header(path, wanted)
    assert header is not None
    delimiter, titles = header
    table, _ = _read_columns(path, delimiter, len(titles), list(range(len(titles))))
    return titles, [_whole(column.slice(1)) for column in table.columns]


def _whole(values: Any) -> pa.Array:
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def _read_columns(path: Path, delimiter: str, width: int, positions: list[int]) -> tuple[pa.Table, int]:
    """Return the wanted columns, header included, and how many rows were left out for their width."""
    skipped = 0

    def skip(row: Any) -> str:
        nonlocal skipped
        skipped += 1
        return "skip"

    names = [str(position) for position in range(width)]
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[names[position] for position in positions],
            column_types=dict.fromkeys(names, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return table, skipped


# ------------------------------------------------------------------------------------------------ whole file


@dataclass(frozen=True)
class _Scan:
    """Whether a file is text in UTF-8 without NUL bytes, how many lines it has, and whether it has quotes."""

    is_text: bool
    lines: int
    quotes: bool


def _scan(path: Path) -> _Scan:
    decoder = codecs.getincrementaldecoder("utf-8")()
    feeds = returns = 0
    quotes = False
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(BLOCK_BYTES):
            try:
                if not chunk.isascii() or decoder.getstate()[0]:
                    decoder.decode(chunk)
            except UnicodeDecodeError:
                return _Scan(False, 0, False)
            if b"\0" in chunk:
                return _Scan(False, 0, False)
            feeds, returns = feeds + chunk.count(b"\n"), returns + chunk.count(b"\r")
            quotes = quotes or b'"' in chunk
            last = chunk[-1:]
    complete = not decoder.getstate()[0]
    return _Scan(complete, max(feeds, returns) + (last not in (b"\n", b"\r")), quotes)


def report_bad_text(path: Path, name: str, problems: Problems) -> bool:
    """Report a file in another encoding, or every line that is not UTF-8; return whether there was a fault."""
    with path.open("rb") as file:
        start = file.read(64)
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS if start.startswith(mark)), "")
    if not encoding and b"\0\0\0\0" in (start[:8:2], start[1:8:2]):
        encoding = "UTF-16"  # without a mark: every other byte of plain text is 0
    if encoding:
        problems.add(
            f"{name}: is encoded in {encoding}; expected UTF-8. "
            "Save it as 'CSV UTF-8' in your spreadsheet, or convert it with iconv."
        )
        return True
    shown: list[str] = []
    count = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            fault = _fault_of(line)
            count += fault is not None
            if fault and len(shown) < SHOWN_PROBLEMS:
                shown.append(f"{name}, line {number}: {fault}")
    problems.add_many(count, lambda: shown)
    return count > 0


def _fault_of(line: bytes) -> str | None:
    if (position := line.find(b"\0")) >= 0:
        return f"holds a NUL byte at position {position + 1}; expected text. Check that the file is a table."
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return (
            f"byte 0x{line[error.start]:02x} at position {error.start + 1} is not UTF-8. "
            "Save the table as UTF-8 (it may be Latin-1 now)."
        )
    return None


# --------------------------------------------------------------------------------------------------- records


class _BadQuotesError(Exception):
    """A record whose quotes do not match; every row after it may be part of it."""

    def __init__(self, line: int, reason: str):
        super().__init__(reason)
        self.line = line


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every record that is not blank, with the number of the line it begins on."""
    with path.open(encoding="utf-8-sig", newline="") as file, _long_fields():
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        line = 1
        try:
            for record in reader:
                if any(field.strip() for field in record) or len(record) > 1:
                    yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            raise _BadQuotesError(line, str(error)) from error


def _read_header(path: Path, wanted: Wanted) -> tuple[str, list[str]] | None:
    """Return the delimiter and the titles: those of the delimiter under which most columns are recognised."""
    known = {name for ranks in wanted.values() for rank in ranks for name in rank}
    best: tuple[tuple[int, int], str, list[str]] | None = None
    fault: _BadQuotesError | None = None
    for delimiter in DELIMITERS:
        try:
            first = next(_records(path, delimiter), None)
        except _BadQuotesError as error:
            fault = fault or error
            continue
        if first is None:
            return None
        score = (sum(plain_title(title) in known for title in first[1]), len(first[1]))
        if best is None or score > best[0]:
            best = score, delimiter, first[1]
    if best is None:
        assert fault is not None
        raise fault
    return best[1:]


def _check_quotes(path: Path, delimiter: str) -> None:
    for _ in _records(path, delimiter):
        pass


def _report_ragged_rows(path: Path, name: str, delimiter: str, width: int, problems: Problems) -> int:
    shown: list[str] = []
    count = 0
    for line, record in _records(path, delimiter):
        if len(record) != width:
            count += 1
            if len(shown) < SHOWN_PROBLEMS:
                fields = f"{len(record)} field{'s' * (len(record) != 1)}"
                shown.append(
                    f"{name}, line {line}: has {fields} where the header has {width} "
                    f"({delimiter.join(record)[:60]!r}). Fields are parted by {DELIMITERS[delimiter]}; quote a "
                    "field that holds one."
                )
    problems.add_many(count, lambda: shown)
    return count


def _find_lines(path: Path, delimiter: str, width: int, rows: Sequence[int]) -> list[str]:
    """Return ``line 48`` for each of a few row numbers."""
    lines: dict[int, int] = {}
    wanted = set(rows)
    whole = (line for line, record in _records(path, delimiter) if len(record) == width)
    try:
        for row, line in enumerate(whole, -1):  # the header is the first record
            if row in wanted:
                lines[row] = line
                if len(lines) == len(wanted):
                    break
    except _BadQuotesError:
        pass
    return [f"line {lines[row]}" if row in lines else f"row {row + 1}" for row in rows]
