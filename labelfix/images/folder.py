"""A folder of images: which file a name means."""

import difflib
import os
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from labelfix.errors import InputError
from labelfix.system.paths import FOLDER, path_problem

__all__ = ["FileFinder", "ImageFolder"]


# Names that may be another spelling of a file: blanks, backslashes, beyond ASCII, odd or absolute paths.
ODD_PATH = re.compile(r"[^\x21-\x7e]|\\|//|/$|^/|(?:^|/)\.\.?(?:/|$)")
MOST_LISTED = 200_000
MOST_COMPARED = 2_000


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, with sub-folders.

    Raises
    ------
    InputError
        When `root` is not a folder.
    """

    root: Path

    def __post_init__(self) -> None:
        if problem := path_problem(self.root, FOLDER):
            raise InputError(problem)

    @property
    def identify(self) -> "FileFinder":
        """The finder of files in this folder: call it with names and the folder of their table."""
        return FileFinder(self.root)

    def path(self, key: str) -> str:
        """Return the path of the file that `identify` gave `key` for."""
        return posixpath.join(self.root, key)


@dataclass(frozen=True)
class FileFinder:
    """Finds the files below `root` that names mean.

    Names are relative to `root` or to the folder of their table (as in Hugging Face's ImageFolder), or absolute.
    Where there is no file of exactly that name, composed and decomposed Unicode, slashes and backslashes, and names
    with and without blanks around them mean the same file.
    """

    root: Path

    def __call__(self, names: list[str], folder: Path | None) -> list[str | None]:
        """Return the path of each named file relative to `root`, with slashes; None where there is no file."""
        bases = self._bases(folder)
        root = os.path.join(bases[0], "")
        keys: list[str | None] = []
        for name in names:
            if not ODD_PATH.search(name) and os.path.isfile(root + name):
                keys.append(name)
            else:
                keys.append(self._find(name, bases))
        return keys

    def explain(self, names: list[str], folder: Path | None) -> list[str]:
        """Return a sentence per name on why it has no file, and which file may be meant."""
        bases = self._bases(folder)
        listed = _list_files(bases[0])
        sentences = []
        for name in names:
            if any(os.path.isdir(os.path.join(base, name)) for base in bases if "\0" not in name):
                sentences.append(f"{name!r} is a folder; expected an image file.")
                continue
            close = _closest_file(name, listed)
            hint = f" A file like it is {close!r}." if close else ""
            sentences.append(f"there is no file {name!r} in the image folder {str(self.root)!r}.{hint}")
        return sentences

    def _bases(self, folder: Path | None) -> list[str]:
        bases = [os.path.abspath(self.root)]
        if folder is not None and os.path.realpath(folder) != os.path.realpath(self.root):
            bases.append(os.path.abspath(folder))
        return bases

    def _find(self, name: str, bases: list[str]) -> str | None:
        if "\0" in name:
            return None
        for base in bases:
            for spelling in _spellings(name):
                path = os.path.join(base, spelling)
                if os.path.isfile(path):
                    return _relative(path, bases[0])
        return None


def _relative(path: str, root: str) -> str:
    """Return `path` relative to `root`, both as spelled where that works, else with links resolved."""
    absolute = os.path.abspath(path)
    if os.path.realpath(absolute) != os.path.realpath(path):  # 'link/..' is not where it seems to be
        absolute = os.path.realpath(path)
    inside = absolute.startswith(os.path.join(root, ""))
    if not inside:
        absolute, root = os.path.realpath(absolute), os.path.realpath(root)
    return os.path.relpath(absolute, root).replace(os.sep, "/")


def _spellings(name: str) -> list[str]:
    spellings = [name]
    if "\\" in name:
        spellings.append(name.replace("\\", "/"))
    if not name.isascii():
        spellings += [unicodedata.normalize(form, s) for s in spellings for form in ("NFC", "NFD")]
    spellings += [s.strip() for s in spellings]
    return list(dict.fromkeys(spellings))


def _list_files(root: str) -> list[str]:
    """Return the paths of the files below `root`, for suggestions; it stops after `MOST_LISTED`."""
    listed: list[str] = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        listed += (
            os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/") for name in sorted(names)
        )
        if len(listed) > MOST_LISTED:
            break
    return listed


def _closest_file(name: str, listed: list[str]) -> str | None:
    """Return the file of the same name in another folder, of another ending, or of a similar name."""
    plain = _folded(name.strip().replace("\\", "/"))
    base = posixpath.basename(plain)
    bases = [_folded(posixpath.basename(path)) for path in listed]
    same = [path for path, other in zip(listed, bases, strict=True) if other == base]
    if not same:
        stems = (base, posixpath.splitext(base)[0])
        same = [
            path for path, other in zip(listed, bases, strict=True) if posixpath.splitext(other)[0] in stems
        ]
    if same:
        like = difflib.SequenceMatcher(b=plain)

        def likeness(path: str) -> float:
            like.set_seq1(_folded(path))
            return like.ratio()

        return max(same[:MOST_COMPARED], key=likeness)
    return next(iter(difflib.get_close_matches(name, listed[:MOST_COMPARED], n=1, cutoff=0.8)), None)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
