"""Fixtures: small image folders, tables, and the data folder for tests that want real data."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

if os.environ.get("PYTEST_XDIST_WORKER"):  # one thread each, before torch counts the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache and off the network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data; the test is skipped without it."""
    folder = os.environ.get("LABELFIX_DATA")
    if not folder:
        pytest.skip("needs LABELFIX_DATA, a folder with cifar10.parquet and cifar10n.parquet")
    return Path(folder)


def write_rows(
    path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = ("image", "label")
) -> Path:
    """Write a CSV file and return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


class TinySet:
    """A folder of coloured squares in two or more classes, with planted label errors.

    Class k has its own colour with a little noise, so that any backbone tells the classes apart. `given` has
    a share of wrong labels; `true` is the truth.
    """

    COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (220, 200, 40))

    def __init__(self, folder: Path, *, rows: int = 60, classes: int = 3, noise: float = 0.2, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.folder = folder
        self.images = folder / "images"
        self.classes = [f"c{k}" for k in range(classes)]
        self.true = rng.integers(0, classes, rows)
        flip = rng.random(rows) < noise
        self.given = np.where(flip, (self.true + rng.integers(1, classes, rows)) % classes, self.true)
        self.names = [f"{i % 3}/img {i:03d}.png" for i in range(rows)]
        for name, true in zip(self.names, self.true, strict=True):
            path = self.images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise_pixels = rng.normal(0, 25, (24, 24, 3))
            pixels = np.clip(np.asarray(self.COLOURS[true]) + noise_pixels, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
        self.trusted_rows = rng.permutation(rows)[: rows // 3]
        self.labels = self.write("labels.csv", range(rows), self.given)
        self.trusted = self.write("trusted.csv", self.trusted_rows, self.true)

    def write(self, name: str, rows: Iterable[int], labels: np.ndarray) -> Path:
        """Write a table of some rows."""
        return write_rows(self.folder / name, [(self.names[i], self.classes[labels[i]]) for i in rows])


@pytest.fixture
def tiny(tmp_path: Path) -> TinySet:
    return TinySet(tmp_path)
