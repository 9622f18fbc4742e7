"""The image files of a run, and how they get into an export: linked or copied, never moved."""

import hashlib
import os
import posixpath
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelfix.errors import SHOWN_PROBLEMS, InputError
from labelfix.images.folder import ImageFolder
from labelfix.runs.reading import FinishedRun
from labelfix.settings import Transfer

__all__ = ["ImageFiles", "find_images", "folder_name", "path_in_export", "transfer_file", "unique_names"]

# What the name of a folder cannot hold on one of the usual file systems.
FORBIDDEN = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]|^\.|[. ]$')


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The files of some images.

    Attributes
    ----------
    root
        The image folder, absolute.
    keys
        (n,) the path of each image relative to `root`, with slashes; it may lead out of `root` by ``..``.
    """

    root: Path
    keys: tuple[str, ...]

    def path(self, number: int) -> str:
        """Return the absolute path of an image."""
        return os.path.normpath(os.path.join(self.root, self.keys[number]))


def find_images(run: FinishedRun, names: Sequence[str], folder: str | None) -> ImageFiles:
    """Find the files of images by their names in the label table.

    Parameters
    ----------
    folder
        The image folder's path now; None takes the one that the run recorded.

    Raises
    ------
    InputError
        When the run was not on images, or files are missing; all of them are counted.
    """
    if not run.holds_images and folder is None:
        raise InputError(
            f"{run.path}: was made from a matrix, so that there are no image files to export; expected a folder of "
            "images. Name it with --images."
        )
    root = Path(os.path.abspath(folder if folder is not None else run.image_folder))
    if not root.is_dir():
        raise InputError(
            f"{root}: the image folder of the run is not there. Say where it is now with --images."
        )
    labels = run.labels_file
    keys = ImageFolder(root).identify(list(names), labels[0].parent if labels else None)
    missing = [name for name, key in zip(names, keys, strict=True) if key is None]
    if missing:
        raise InputError(
            [
                f"{root}: there is no image {name!r} any more; expected the images of the run. Put it back, or say "
                "where the images are now with --images."
                for name in missing[:SHOWN_PROBLEMS]
            ],
            len(missing),
        )
    return ImageFiles(root=root, keys=tuple(key for key in keys if key is not None))


def transfer_file(source: str, target: Path, transfer: Transfer) -> None:
    """Link or copy a file to `target`; a hard link that fails becomes a symbolic one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = os.path.realpath(source)
    if transfer is Transfer.COPY:
        shutil.copy2(real, target)
        return
    if transfer is Transfer.LINK:
        try:
            os.link(real, target)
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return
    os.symlink(real, target)


def folder_name(label: str) -> str:
    """Return a class name as the name of a folder; what a file name cannot hold is percent-encoded."""
    return FORBIDDEN.sub(lambda match: "".join(f"%{ord(c):02X}" for c in match[0]), label)


def path_in_export(key: str) -> str:
    """Return the path of an image below a folder of the export: its key, or ``outside/…`` if that leads upwards."""
    parts = [part for part in key.split("/") if part not in ("", ".", "..")]
    if len(parts) == len(key.split("/")):
        return posixpath.join(*parts)
    return f"outside/{_digest(key)}/{parts[-1]}"


def unique_names(keys: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return a file name for every image that is unique in its group.

    It is the image's own name. Names that are equal but for upper and lower case get a digest of the whole path.
    """
    names = [posixpath.basename(key) for key in keys]
    times = Counter(zip(groups, map(str.casefold, names), strict=True))
    unique = []
    for key, group, name in zip(keys, groups, names, strict=True):
        if times[group, name.casefold()] > 1:
            stem, ending = posixpath.splitext(name)
            name = f"{stem}-{_digest(key)}{ending}"
        unique.append(name)
    return unique


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
