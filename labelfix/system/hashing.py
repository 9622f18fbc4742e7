"""Digests of files and of plain values, and seeds that follow from them."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DIGEST_BYTES",
    "FileState",
    "content_digest",
    "digest_of_all",
    "file_sha256",
    "file_state",
    "random_seed",
    "value_digest",
]

DIGEST_BYTES = 16


def content_digest(content: bytes) -> bytes:
    """Return the digest (16 bytes, BLAKE2b) that identifies the content of a file."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def digest_of_all(files: Iterable[tuple[str, bytes]]) -> str:
    """Return one digest, 32 hexadecimal digits, of (key, content digest) pairs in any order."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for key, digest in sorted(files):
        total.update(key.encode("utf-8", "surrogateescape") + b"\0" + digest)
    return total.hexdigest()


def value_digest(value: object, digest_size: int = DIGEST_BYTES) -> str:
    """Return the digest, in hexadecimal digits, of a value that JSON can write."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=digest_size).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_seed(*parts: object) -> int:
    """Return a seed (63 bits) that follows from `parts` alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class FileState:
    """Size in bytes and modification time in nanoseconds: while both stay, the content is taken to stay."""

    size: int
    modified: int


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of a file; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns)
