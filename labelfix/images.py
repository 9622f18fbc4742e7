"""Image files: which file a name means, and pixels from any file that Pillow reads.

A file that cannot be decoded is a value (`Unreadable`, with its reason), not an exception: one broken image
must not stop a run.
"""

import difflib
import io
import os
import posixpath
import re
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from labelfix.errors import InputError

__all__ = ["FileFinder", "ImageFolder", "Unreadable", "decode_image"]

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
        if not self.root.is_dir():
            state = "is not a folder" if self.root.exists() else "does not exist"
            raise InputError(f"{self.root}: {state}; expected a folder of images. Check the path.")

    @property
    def identify(self) -> "FileFinder":
        """What finds the file of each name: call it with names and the folder of their table."""
        return FileFinder(self.root)

    def path(self, key: str) -> str:
        """Return the path of the file that `identify` gave `key` for."""
        return posixpath.join(self.root, key)


@dataclass(frozen=True)
class FileFinder:
    """Finds the files below `root` that names mean.

    Names are relative to `root` or to the folder of the table they stand in (as in Hugging Face's
    ImageFolder), or absolute. Composed and decomposed Unicode, slashes and backslashes, and blanks around a
    name mean the same file, where there is none of the very name.
    """

    root: Path

    def __call__(self, names: list[str], folder: Path | None) -> list[str | None]:
        """Return the path of each named file relative to `root`, with slashes; None where there is no file."""
        bases = self._bases(folder)
        root = os.path.join(bases[0], "")
        found: list[str | None] = []
        for name in names:
            if not ODD_PATH.search(name) and os.path.isfile(root + name):
                found.append(name)
            else:
                found.append(self._find(name, bases))
        return found

    def explain(self, names: list[str], folder: Path | None) -> list[str]:
        """Return, in a sentence, why each name has no file, and which file may be meant."""
        bases = self._bases(folder)
        listed = _list_files(bases[0])
        said = []
        for name in names:
            if any(os.path.isdir(os.path.join(base, name)) for base in bases if "\0" not in name):
                said.append(f"{name!r} is a folder; expected an image file.")
                continue
            close = _closest_file(name, listed)
            hint = f" A file like it is {close!r}." if close else ""
            said.append(f"there is no file {name!r} in the image folder {str(self.root)!r}.{hint}")
        return said

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
    """Return `path` relative to `root`, by spelling where that works, else with links resolved."""
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
    """Return the paths of the files below `root`, for suggestions: not more than can be listed at once."""
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


@dataclass(frozen=True)
class Unreadable:
    """Why an image could not be decoded, in words for a person."""

    reason: str


def decode_image(content: bytes, side: int) -> Image.Image | Unreadable:
    """Decode an image file to upright 8-bit RGB.

    EXIF orientation is applied; transparent pixels become white; palettes, grey, CMYK and 16-bit grey are
    converted, the last over its full range (65535 is white); of an animation the first frame is taken.

    Parameters
    ----------
    content
        The bytes of the file.
    side
        The side in pixels that the caller needs; large JPEGs are decoded at a fraction of their size, never
        below twice this.
    """
    if not content:
        return Unreadable("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings on odd metadata; the pixels are what counts
            return _decode(content, side)
    except UnidentifiedImageError:
        return Unreadable("not an image that Pillow can read")
    except Image.DecompressionBombError as error:
        return Unreadable(f"too many pixels to decode safely ({error})")
    except MemoryError:
        return Unreadable("too large for the memory")
    except Exception as error:  # Pillow's decoders meet damaged files with any exception there is
        return Unreadable(f"cannot be decoded ({str(error) or type(error).__name__})")


def _decode(content: bytes, side: int) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "EPS":
            raise ValueError("PostScript is a program, which labelfix does not run")
        if image.format in ("JPEG", "MPO"):
            image.draft(image.mode, (2 * side, 2 * side))
        image.load()
        return _to_rgb(_upright(image))


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a damaged EXIF block fails in many ways, and the pixels are fine
        return image
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _grey(np.asarray(image).astype(np.float64) / 257.0)
    if image.mode in ("I", "F"):
        return _grey(_stretch(np.asarray(image, np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Map 32-bit grey to 0–255.

    From the range of 1, 8 or 16 bits, the least that holds the values; else from least to greatest.
    """
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    for white in (1.0, 255.0, 65535.0):
        if low >= 0 and high <= white:
            return values * 255.0 / white
    return (values - low) * 255.0 / (high - low) if high > low else np.full_like(values, 127.0)


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
