"""Image files: which file a name means, and pixels from any file that Pillow reads.

A file that cannot be decoded is a value (`Unreadable`, with its reason), not an exception: one broken image
must not stop a run.
"""

import io
import os
import posixpath
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from labelfix.errors import InputError

__all__ = ["ImageFolder", "Unreadable", "decode_image"]


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

    def identify(self, names: list[str], folder: Path | None) -> list[str | None]:
        """Return the path of each named file relative to `root`, with slashes; None where there is no file.

        Names are relative to `root` or to the folder of the table they stand in (as in Hugging Face's
        ImageFolder). Composed and decomposed Unicode, and slashes and backslashes, mean the same file.
        """
        bases = [self.root]
        if folder is not None and folder.resolve() != self.root.resolve():
            bases.append(folder)
        return [self._find(name, bases) for name in names]

    def _find(self, name: str, bases: list[Path]) -> str | None:
        if "\0" in name:
            return None
        for base in bases:
            for spelling in _spellings(name):
                path = os.path.join(base, spelling)
                if os.path.isfile(path):
                    return self._relative(path)
        return None

    def _relative(self, path: str) -> str:
        root = os.path.abspath(self.root)
        absolute = os.path.abspath(path)
        relative = absolute[len(root) + 1 :] if absolute.startswith(root + os.sep) else None
        if relative is None:
            relative = os.path.relpath(os.path.realpath(absolute), os.path.realpath(root))
        return relative.replace(os.sep, "/")

    def path(self, key: str) -> str:
        """Return the path of the file that `identify` gave `key` for."""
        return posixpath.join(self.root, key)


def _spellings(name: str) -> list[str]:
    spellings = [name]
    if "\\" in name:
        spellings.append(name.replace("\\", "/"))
    if not name.isascii():
        spellings += [unicodedata.normalize(form, s) for s in spellings for form in ("NFC", "NFD")]
    return list(dict.fromkeys(spellings))


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings on odd metadata; the pixels are what counts
            return _decode(content, side)
    except UnidentifiedImageError:
        return Unreadable("not an image that Pillow can read" if content else "the file is empty")
    except Image.DecompressionBombError as error:
        return Unreadable(f"too many pixels to decode safely ({error})")
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ArithmeticError) as error:
        return Unreadable(f"cannot be decoded ({error or type(error).__name__})")


def _decode(content: bytes, side: int) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "JPEG":
            image.draft(image.mode, (2 * side, 2 * side))
        image.load()
        return _to_rgb(_upright(image))


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block fails in many ways, and the pixels are fine
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float64) / 257.0)
    if image.mode in ("I", "F"):
        return _grey(_stretch(np.asarray(image, np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Map 32-bit grey to 0–255: over 16 bits where the values fit into them, else from least to greatest."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 65535 and high > 255:
        return values / 257.0
    if low >= 0 and high <= 255:
        return values * (255.0 if high <= 1 else 1.0)
    return (values - low) * (255.0 / (high - low))


def _grey(values: np.ndarray) -> Image.Image:
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite numbers")
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8), "L").convert("RGB")
