"""From a run directory to ``report.html``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix.errors import OutputError, SettingError
from labelfix.images.folder import ImageFolder
from labelfix.report.contents import read_contents
from labelfix.report.page import GENERATOR, build_page
from labelfix.report.thumbnails import make_thumbnails
from labelfix.runs.directory import RunDirectory
from labelfix.runs.reading import FinishedRun
from labelfix.system.run_files import REPORT_FILE

__all__ = ["SUSPECTS_SHOWN", "WrittenReport", "write_report"]

SUSPECTS_SHOWN = 5000
# Characters of base64 for all thumbnails; the whole report then stays under 40 MB.
THUMBNAIL_BUDGET = 28_000_000
HEAD_BYTES = 2000


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """A report on disk.

    Attributes
    ----------
    path, size
        The file, and its bytes.
    suspects, thumbnails
        How many label issues and how many images it shows.
    notes
        What it cannot show, in sentences.
    """

    path: Path
    size: int
    suspects: int
    thumbnails: int
    notes: tuple[str, ...]


def write_report(
    out: str | os.PathLike[str],
    to: str | os.PathLike[str] | None = None,
    *,
    images: str | os.PathLike[str] | None = None,
    suspects: int = SUSPECTS_SHOWN,
    force: bool = False,
) -> WrittenReport:
    """Write the run in `out` as one page.

    Parameters
    ----------
    to
        The file to write; None takes ``report.html`` in the run directory.
    images
        Where the image folder is now; None takes where it was.
    suspects
        How many label issues to show at most, worst first.
    force
        Replace `to` even where it is not a report of labelfix.

    Raises
    ------
    LabelfixError
        When `out` holds no finished run, an option is out of range, or the file cannot be written.
    """
    if suspects < 0:
        raise SettingError(f"--suspects: got {suspects}; expected a whole number of at least 0.")
    run = FinishedRun.open(out)
    target = Path(to) if to is not None else run.path / REPORT_FILE
    _check_target(target, force=force)
    contents = read_contents(run, suspects)
    thumbnails = make_thumbnails(_image_paths(run, contents.pictured, images), budget=THUMBNAIL_BUDGET)
    made = sum(start != end for start, end in zip((0, *thumbnails.ends), thumbnails.ends, strict=False))
    notes = (*contents.notes, *_thumbnail_notes(run, len(contents.pictured), made, thumbnails.dropped))
    values: dict[str, Any] = {
        **contents.values,
        "thumbnails": {"mime": thumbnails.mime, "ends": thumbnails.ends},
        "notes": notes,
    }
    page = build_page(values, thumbnails.text).encode("utf-8")
    RunDirectory(target.parent).write_file(target.name, page)
    return WrittenReport(
        path=target,
        size=len(page),
        suspects=len(contents.values["suspects"]["image"]),
        thumbnails=made,
        notes=notes,
    )


def _check_target(target: Path, *, force: bool) -> None:
    """Refuse to replace a file that is not a report; a report can always be written again."""
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; expected a file to write. Choose another --to.")
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent}: is not a folder. Make it, or choose another --to.")
    if target.exists() and not force:
        with target.open("rb") as file:
            if GENERATOR.encode() not in file.read(HEAD_BYTES):
                raise OutputError(
                    f"{target}: exists and is not a report of labelfix. Choose another --to, or replace it with "
                    "--force."
                )


def _image_paths(
    run: FinishedRun, names: Sequence[str], images: str | os.PathLike[str] | None
) -> list[str | None]:
    """Return the path of each image, None where it is not known."""
    root = Path(os.path.abspath(images)) if images is not None else run.image_folder
    if images is None and not (run.holds_images and root.is_dir()):
        return [None] * len(names)
    folder = ImageFolder(root)
    labels = run.labels_file
    keys = folder.identify(list(names), labels[0].parent if labels else None)
    return [None if key is None else folder.path(key) for key in keys]


def _thumbnail_notes(run: FinishedRun, wanted: int, made: int, dropped: int) -> list[str]:
    if made == wanted:
        return []
    if not made and not run.holds_images:
        return ["No thumbnails: the run was made from a matrix, not from image files."]
    notes = [f"{dropped:,} images have no thumbnail, to keep the page small."] if dropped else []
    if missing := wanted - made - dropped:
        notes.append(
            f"{missing:,} of {wanted:,} images were not found or could not be read when the report was written. "
            "If the image folder has moved, write it again with --images."
        )
    return notes
