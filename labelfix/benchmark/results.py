"""The results file: one finished run is one line of JSON, appended as a whole.

A line that a crash cut short has no line break at its end; the next reader or writer drops it. Several processes
may append to one file.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from labelfix.errors import InputError, OutputError

__all__ = ["append_row", "finished_keys", "read_rows"]


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one row and wait until it is on the disk.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file, _locked(file):
            _drop_torn_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Choose another --out.") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file in their order, the last one of every key; none without a file.

    Raises
    ------
    InputError
        When a line is not a row of results; all such lines are listed.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1].decode("utf-8")
    rows: dict[str, dict[str, Any]] = {}
    faults = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            rows[row["key"]] = row
        except (ValueError, KeyError, TypeError):
            faults.append(
                f"{path}, line {number}: is not a row of results; expected JSON with a key. Remove it."
            )
    if faults:
        raise InputError(faults)
    return list(rows.values())


def finished_keys(path: Path) -> set[str]:
    """Return the keys of the finished runs."""
    return {row["key"] for row in read_rows(path)}


@contextlib.contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no such locks on this system: one writer at a time
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)


def _drop_torn_line(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
