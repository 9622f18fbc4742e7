"""The folder of an export: built under a temporary name and renamed when it is complete.

It replaces an earlier export, known by its ``export.json``, with --force alone, and nothing else. No export is
written into an input folder, or over a folder that holds an input.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from labelfix.errors import OutputError

__all__ = ["EXPORT_FILE", "check_destination", "new_folder", "write_json"]

EXPORT_FILE = "export.json"


def check_destination(destination: Path, inputs: Sequence[Path], *, force: bool) -> None:
    """Check that an export may be written to `destination`, before anything is read.

    Parameters
    ----------
    inputs
        Folders and files that must stay as they are.

    Raises
    ------
    OutputError
        When `destination` holds something else, lies in an input or contains one.
    """
    real_destination = Path(os.path.realpath(destination))
    for source in inputs:
        real_source = Path(os.path.realpath(source))
        if real_destination == real_source or (
            real_source.is_dir() and real_source in real_destination.parents
        ):
            raise OutputError(
                f"{destination}: lies in {source}, an input of the run, which stays as it is. Choose another DEST."
            )
        contains_source = real_destination in real_source.parents
        if contains_source and real_destination.exists() and any(real_destination.iterdir()):
            raise OutputError(f"{destination}: holds {source}, an input of the run. Choose another DEST.")
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise OutputError(f"{destination}: is not a folder; expected one to be made. Choose another DEST.")
    if destination.is_dir() and any(destination.iterdir()):
        if not (destination / EXPORT_FILE).is_file():
            raise OutputError(f"{destination}: is not empty, and holds no export. Choose another DEST.")
        if not force:
            raise OutputError(
                f"{destination}: already holds an export. Choose another DEST, or replace it with --force."
            )


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `destination` at the end, or removed on an error.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    building = destination.parent / f".{destination.name}.{uuid.uuid4().hex}.tmp"
    try:
        building.mkdir(parents=True)
        yield building
        _replace_folder(destination, building)
    except OSError as error:
        raise OutputError(f"{destination}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace_folder(destination: Path, building: Path) -> None:
    if not destination.exists():
        os.rename(building, destination)
        return
    old = building.with_suffix(".old")
    os.rename(destination, old)
    os.rename(building, destination)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write one JSON document."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
