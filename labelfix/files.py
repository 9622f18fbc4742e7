"""Files written whole or not at all, and never over another one unasked."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelfix.errors import OutputError

__all__ = ["replace_file", "write_new_file"]


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file atomically: `write` fills a temporary one beside it, which then takes its place.

    Raises
    ------
    OutputError
        When it cannot be written; an earlier file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_new_file(path: Path, write: Callable[[Path], Any], *, force: bool) -> None:
    """Write a file that is not there yet, atomically, making its folder.

    Raises
    ------
    OutputError
        When it exists and `force` is false, or cannot be written.
    """
    if path.exists() and (not force or not path.is_file()):
        raise OutputError(f"{path}: already exists. Choose another file, or replace it with --force.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    replace_file(path, write)
