"""The folder of an export: built beside its place, moved there when it is whole; never over anything else.

An earlier export is recognised by its ``export.json`` and replaced with --force alone. No export is written into an
input folder, or over a folder that holds an input.
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
        When something else is there, or an input is in the way.
    """
    place = Path(os.path.realpath(destination))
    for source in inputs:
        kept = Path(os.path.realpath(source))
        if place == kept or (kept.is_dir() and kept in place.parents):
            raise OutputError(
                f"{destination}: lies in {source}, an input of the run, which stays as it is. Choose another DEST."
            )
        if place in kept.parents and place.exists() and any(place.iterdir()):
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
    """Yield an empty folder beside `destination` that takes its place at the end, or vanishes on an error.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    building = destination.parent / f".{destination.name}.{uuid.uuid4().hex}.tmp"
    try:
        building.mkdir(parents=True)
        yield building
        _take_place(building, destination)
    except OSError as error:
        raise OutputError(f"{destination}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _take_place(building: Path, destination: Path) -> None:
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
