"""Thumbnails as one string of base64, from which the page takes each one when it is shown."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from labelfix.images.decoding import Unreadable, decode_image

__all__ = ["Thumbnails", "make_thumbnails"]

# Longest side in pixels and quality, best first: the first that fits the budget is taken.
SIZES = ((144, 76), (112, 72), (96, 66), (80, 60), (64, 50))
SAMPLE = 32


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Small copies of some images.

    Attributes
    ----------
    mime
        ``image/webp``, or ``image/jpeg`` where Pillow has no WebP.
    text
        The files in base64, one after the other.
    ends
        (n,) where each ends in `text`; an image without a thumbnail ends where the one before it does.
    lost
        How many images could not be read.
    dropped
        How many have none because the budget was used up.
    """

    mime: str
    text: str
    ends: tuple[int, ...]
    lost: int
    dropped: int


def make_thumbnails(paths: Sequence[str | None], *, budget: int) -> Thumbnails:
    """Shrink the images at `paths`, the most important first, to at most `budget` characters of base64 in all.

    The size is chosen on a sample so that all fit; smaller images keep their size. None and files that cannot be
    read get no thumbnail.
    """
    kind = "WEBP" if features.check("webp") else "JPEG"
    # threads suffice: Pillow releases the interpreter's lock
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        side, quality = _fitting_size(paths, budget, kind, pool)
        thumbnails = pool.map(lambda path: _thumbnail(path, side, quality, kind), paths)
        pieces: list[str] = []
        ends: list[int] = []
        length = lost = dropped = 0
        for path, piece in zip(paths, thumbnails, strict=True):
            lost += path is not None and not piece
            if length + len(piece) > budget:
                dropped += 1
                piece = ""
            length += len(piece)
            pieces.append(piece)
            ends.append(length)
    return Thumbnails(
        mime=f"image/{kind.lower()}", text="".join(pieces), ends=tuple(ends), lost=lost, dropped=dropped
    )


def _fitting_size(
    paths: Sequence[str | None], budget: int, kind: str, pool: ThreadPoolExecutor
) -> tuple[int, int]:
    present = [path for path in paths if path is not None]
    rows = np.unique(np.linspace(0, len(present) - 1, min(SAMPLE, len(present))).astype(int))
    sample = [present[row] for row in rows.tolist()]
    for side, quality in SIZES:
        pieces = list(pool.map(lambda path, s=side, q=quality: _thumbnail(path, s, q, kind), sample))
        if sum(map(len, pieces)) / max(len(sample), 1) * len(present) <= 0.9 * budget:
            return side, quality
    return SIZES[-1]


def _thumbnail(path: str | None, side: int, quality: int, kind: str) -> str:
    """Return one thumbnail in base64, empty where there is none."""
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return ""
    image = decode_image(content, side)
    if isinstance(image, Unreadable):
        return ""
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    image.save(target, kind, quality=quality, **({"method": 2} if kind == "WEBP" else {"optimize": True}))
    return base64.b64encode(target.getvalue()).decode("ascii")
