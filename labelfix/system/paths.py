"""The paths that a run is pointed at, checked before anything heavy is loaded."""

import os
from collections.abc import Iterable
from pathlib import Path

from labelfix.errors import InputError

__all__ = ["FOLDER", "MATRIX", "MATRIX_SUFFIXES", "TABLE", "check_paths", "path_problem"]

MATRIX_SUFFIXES = (".npy", ".parquet", ".pq")
FOLDER, MATRIX = "a folder of images", "a .npy or .parquet matrix"
TABLE = "a CSV, TSV, JSON lines or Parquet file"


def path_problem(path: str | os.PathLike[str], expected: str) -> str | None:
    """Say what is wrong where there is no such file (or folder, where `expected` is one); None where there is."""
    path, wants_folder = Path(path), expected == FOLDER
    if path.is_dir() if wants_folder else path.is_file():
        return None
    state = f"is not a {'folder' if wants_folder else 'file'}" if path.exists() else "does not exist"
    return f"{path}: {state}; expected {expected}. Check the path."


def check_paths(source: Path, tables: Iterable[Path]) -> None:
    """Check that the source and the tables of a run are there.

    Raises
    ------
    InputError
        With every path that is not.
    """
    holds_matrix = source.suffix.lower() in MATRIX_SUFFIXES and not source.is_dir()
    expected = [(source, MATRIX if holds_matrix else FOLDER), *((table, TABLE) for table in tables)]
    try:
        problems = [problem for path, what in expected if (problem := path_problem(path, what))]
    except OSError:  # no permission, say: whoever reads the file has the words for that
        return
    if problems:
        raise InputError(problems)
