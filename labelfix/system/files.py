"""Files written whole or not at all, and never over another one unasked."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelfix.errors import OutputError

__all__ = ["replace_file", "write_new_file"]


def replace_file(path: Path, write: Callable[[Path], Any], *, advice: str = "") -> None:
    """Write a file atomically: `write` fills a temporary one beside it, which then takes its place.

    Both the file and its new name are on the disk when this returns. This is the one way in which labelfix
    replaces a file.

    Parameters
    ----------
    advice
        What a person can do where it cannot be written, a sentence.

    Raises
    ------
    OutputError
        When it cannot be written; an earlier file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise _not_written(path, error, advice) from error
    finally:
        temporary.unlink(missing_ok=True)


def _not_written(path: Path, error: OSError, advice: str) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror or error}). {advice}".rstrip())


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_new_file(path: Path, write: Callable[[Path], Any], *, force: bool, advice: str = "") -> None:
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
        raise _not_written(path, error, advice) from error
    replace_file(path, write, advice=advice)
