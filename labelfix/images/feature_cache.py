"""Features kept on disk between runs, keyed by what they were computed from.

A store is one folder per (backbone, weights, transform, precision), holding immutable Arrow files of
(digest of the image file, feature vector). Files are written under a temporary name and renamed, so a killed
run leaves only whole files and the next run goes on behind them; two runs may share a store.

`FileDigests` remembers the digest of every file by size and modification time, as git's index does, so that
a second run reads no image either.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import OutputError
from labelfix.system.files import replace_file
from labelfix.system.hashing import DIGEST_BYTES, FileState, value_digest

__all__ = ["FeatureStore", "FileDigests", "cache_folder"]

# A file changed within this time of being read could change again without a new modification time.
RACY_SECONDS = 2.0
NAME_BYTES = 8
ADVICE = "Free some space, or choose another folder with --cache-dir."


def cache_folder(chosen: str | None) -> Path:
    """Return the folder for features: as chosen, or the user's cache folder."""
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("labelfix"))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the cache folder cannot be made ({error.strerror}). Choose another with --cache-dir."
        ) from error


class FeatureStore:
    """The features of one backbone, weights, transform and precision.

    Parameters
    ----------
    cache
        The cache folder.
    identity
        Everything that the features depend on apart from the image file, as plain JSON values.
    dim
        D, the number of features.
    """

    def __init__(self, cache: Path, identity: dict[str, object], dim: int):
        self.folder = cache / "features" / value_digest(identity, NAME_BYTES)
        self.dim = dim
        _make_folder(self.folder)
        (self.folder / "identity.json").write_text(json.dumps(identity, indent=2, default=str) + "\n")
        self._tables: list[pa.Table] = []
        self._location: dict[bytes, tuple[int, int]] = {}
        for path in sorted(self.folder.glob("part-*.arrow")):
            try:
                self._index(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
            except (pa.ArrowInvalid, OSError):
                path.unlink(missing_ok=True)  # damaged by a full disk, say; it will be computed again

    def _index(self, table: pa.Table) -> None:
        number = len(self._tables)
        self._tables.append(table)
        for row, digest in enumerate(table.column("digest").to_pylist()):
            self._location.setdefault(digest, (number, row))

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._location

    def known(self) -> frozenset[bytes]:
        """Return the digests of all images whose features are stored."""
        return frozenset(self._location)

    def add(self, digests: Sequence[bytes], features: np.ndarray) -> None:
        """Store features, (n, D) float16, as one new file."""
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), self.dim)
        table = pa.table({"digest": pa.array(digests, pa.binary(DIGEST_BYTES)), "feature": values})
        path = self.folder / f"part-{uuid.uuid4().hex}.arrow"

        def write(temporary: Path) -> None:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

        replace_file(path, write, advice=ADVICE)
        self._index(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    def take(self, digests: Sequence[bytes]) -> np.ndarray:
        """Return the stored features of `digests`, (n, D) float16, in their order."""
        features = np.empty((len(digests), self.dim), np.float16)
        locations = np.array([self._location[digest] for digest in digests], np.int64).reshape(-1, 2)
        for number, table in enumerate(self._tables):
            rows = np.flatnonzero(locations[:, 0] == number)
            column = table.column("feature").combine_chunks()
            stored = column.flatten().to_numpy().reshape(-1, self.dim)
            features[rows] = stored[locations[rows, 1]]
        return features


class FileDigests:
    """Digests of the files in one image folder, each valid while size and time of change are the same."""

    def __init__(self, cache: Path, root: Path):
        _make_folder(cache / "files")
        self.path = cache / "files" / f"{value_digest(os.path.realpath(root), NAME_BYTES)}.parquet"
        self._known: dict[str, tuple[FileState, bytes]] = {}
        if self.path.exists():
            try:
                columns = pq.read_table(self.path).to_pydict()
            except (pa.ArrowInvalid, OSError):
                return
            states = map(FileState, columns["size"], columns["modified"])
            self._known = dict(zip(columns["key"], zip(states, columns["digest"], strict=True), strict=True))

    def get(self, key: str, state: FileState | None) -> bytes | None:
        """Return the digest of a file; None where the file has to be read for it."""
        known = self._known.get(key)
        return known[1] if known is not None and known[0] == state else None

    def remember(self, files: Iterable[tuple[str, FileState | None, bytes | None]]) -> None:
        """Save the digests of files, except of those that changed within `RACY_SECONDS`."""
        for key, state, digest in files:
            if state and digest and time.time() - state.modified / 1e9 > RACY_SECONDS:
                self._known[key] = (state, digest)
        self._save()

    def _save(self) -> None:
        states = [state for state, _ in self._known.values()]
        table = pa.table(
            {
                "key": pa.array(list(self._known), pa.large_string()),
                "size": pa.array([state.size for state in states], pa.int64()),
                "modified": pa.array([state.modified for state in states], pa.int64()),
                "digest": pa.array([d for _, d in self._known.values()], pa.binary(DIGEST_BYTES)),
            }
        )
        replace_file(self.path, lambda temporary: pq.write_table(table, temporary), advice=ADVICE)
