"""A file of its own, written whole or not at all, and never over another one unasked."""

import os
import uuid
from pathlib import Path

from labelfix.errors import OutputError

__all__ = ["write_new_text"]


def write_new_text(path: Path, text: str, *, force: bool) -> None:
    """Write a text file in UTF-8.

    Raises
    ------
    OutputError
        When it exists and `force` is false, or cannot be written.
    """
    if path.exists() and (not force or not path.is_file()):
        raise OutputError(f"{path}: already exists. Choose another file, or replace it with --force.")
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)
