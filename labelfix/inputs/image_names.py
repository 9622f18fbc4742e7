"""Which image a name means."""

import posixpath
import re
import unicodedata
from pathlib import Path
from typing import Protocol

__all__ = ["Identify", "lexical_keys"]

# Blanks, backslashes, anything beyond ASCII, and parts of a path that are empty, '.' or '..'.
ODD_NAME = re.compile(r"[^\x21-\x7e]|\\|//|/$|(?:^|/)\.\.?(?:/|$)")


class Identify(Protocol):
    """Turns the names of one table into identities.

    One that may return None also has a method ``explain(names, folder) -> list[str]``, which returns a sentence on
    what is wrong with each unknown name.
    """

    def __call__(self, names: list[str], folder: Path | None) -> list[str | None]:
        """Return the identity of each name, None where it is unknown; `folder` is that of the table."""


def lexical_keys(names: list[str], folder: Path | None) -> list[str | None]:
    """Identify images by their normalised names alone, for sources that are not a folder of images."""
    return [_normal_name(name) if ODD_NAME.search(name) else name for name in names]


def _normal_name(name: str) -> str:
    return posixpath.normpath(unicodedata.normalize("NFC", name.strip()).replace("\\", "/"))
