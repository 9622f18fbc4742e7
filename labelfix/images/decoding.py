"""Pixels from any file that Pillow reads: the one place where an image is decoded.

A file that cannot be decoded is a value (`Unreadable`, with its reason), not an exception: one broken image
must not stop a run.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

__all__ = ["Unreadable", "decode_image"]


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
