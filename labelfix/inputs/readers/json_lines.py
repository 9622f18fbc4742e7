"""JSON lines: one object per line. A key that only some lines have is a column with empty cells."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelfix.inputs.readers.columns import Problems, RawTable, Wanted, find_columns, finish, plain_title
from labelfix.inputs.readers.delimited import report_bad_text

__all__ = ["read_json_lines", "read_json_lines_whole"]

NAME_OF = {bool: "true or false", float: "a fraction", list: "a list", dict: "an object"}


def read_json_lines(path: Path, name: str, wanted: Wanted, problems: Problems) -> RawTable | None:
    """Read a JSON lines file; None where it cannot be used, and `problems` says why."""
    if report_bad_text(path, name, problems):
        return None
    before = problems.count
    with path.open("rb") as file:
        if file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            problems.add(
                f"{name}: begins with '[', as a JSON array does; expected one object per line (JSON lines). "
                "Convert it, for example with jq -c '.[]'."
            )
            return None
    known = {title for ranks in wanted.values() for rank in ranks for title in rank}
    cells, lines, others = _read_cells(path, name, known, problems)
    if not lines:
        if problems.count == before:
            problems.add(f"{name}: holds no rows; expected one JSON object per line.")
        return None
    titles = [*cells, *others]
    positions = find_columns(name, titles, wanted, problems)
    if positions is None:
        return None
    columns = {column: cells[titles[position]] for column, position in positions.items()}
    bad = _report_bad_cells(columns, lines, name, problems)
    kept = [row for row in range(len(lines)) if row not in bad]
    raw = RawTable(
        name=name,
        folder=path.parent,
        columns={
            column: pa.array(
                [None if values[row] is None else str(values[row]) for row in kept], pa.large_string()
            )
            for column, values in columns.items()
        },
        places=lambda rows: [f"line {lines[kept[row]]}" for row in rows],
    )
    return raw if bad and not kept else finish(raw, problems)


def read_json_lines_whole(path: Path) -> tuple[list[str], list[pa.Array]]:
    """Return keys and all columns, as text, of a file that `read_json_lines` accepts; lists and objects as JSON."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        records = [json.loads(line) for line in file if line.strip()]
    titles = list(dict.fromkeys(key for record in records for key in record))
    return titles, [
        pa.array([_as_text(record.get(title)) for record in records], pa.large_string()) for title in titles
    ]


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_cells(
    path: Path, name: str, known: set[str], problems: Problems
) -> tuple[dict[str, list[Any]], list[int], list[str]]:
    """Return the cells of every key that may be a wanted column, the lines, and some of the other keys."""
    cells: dict[str, list[Any]] = {}
    other: dict[str, None] = {}
    lines: list[int] = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            record = _parse(line, f"{name}, line {number}", problems)
            if record is None:
                continue
            for key in record:
                if key not in cells and key not in other:
                    if plain_title(key) in known:
                        cells[key] = [None] * len(lines)
                    elif len(other) < 1000:
                        other[key] = None
            for key, values in cells.items():
                values.append(record.get(key))
            lines.append(number)
    return cells, lines, list(other)


def _parse(line: str, where: str, problems: Problems) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        problems.add(f"{where}: is not JSON ({error}); expected one object per line. Correct the line.")
        return None
    if isinstance(record, dict):
        return record
    problems.add(
        f"{where}: holds {_shown(record)}; expected an object with image and label. Correct the line."
    )
    return None


def _report_bad_cells(
    columns: dict[str, list[Any]], lines: list[int], name: str, problems: Problems
) -> set[int]:
    """Report cells that are neither strings nor whole numbers; return their rows."""
    bad = set()
    for column, values in columns.items():
        for row, value in enumerate(values):
            kind = type(value)
            if kind is str and (value.isascii() or _is_unicode(value)):
                continue
            if value is None or kind is int or (column == "weight" and kind is float):
                continue
            problem = f"{name}, line {lines[row]}: the {column} is {_shown(value)}"
            problems.add(f"{problem}; expected a string or a whole number. Correct the line.")
            bad.add(row)
    return bad


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)[:60]
