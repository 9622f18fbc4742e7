"""Readers of the formats that data sets come in: images in memory or in files, and their labels.

n images of a part, S pixels per side, C channels.
"""

import csv
import gzip
import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from labelfix.errors import InputError

__all__ = [
    "EncodedImages",
    "HeldImages",
    "ImageFiles",
    "Images",
    "Part",
    "Parts",
    "class_folders",
    "existing_folder",
    "first_layout",
    "human_labels",
    "idx_parts",
    "keyed_labels",
    "lines_of",
    "parquet_parts",
    "python_batches",
    "rows_of",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class HeldImages:
    """Decoded images, (n, S, S, C) uint8."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows, (r, S, S, C) uint8."""
        return self.values[rows]


@dataclass(frozen=True)
class EncodedImages:
    """Images of one size as PNG or JPEG bytes in memory."""

    contents: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.contents)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Decode the images of some rows, (r, S, S, C) uint8."""
        chosen = self.contents.take(pa.array(rows)).to_pylist()
        images = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in chosen])
        return images.reshape(*images.shape[:3], -1)


@dataclass(frozen=True)
class ImageFiles:
    """Images in files, of any size."""

    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)


Images = HeldImages | EncodedImages | ImageFiles


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images and one label each, (n,) int64."""

    images: Images
    labels: np.ndarray


Parts = tuple[Part, Part]


def first_layout(folder: Path, name: str, layouts: dict[str, Callable[[Path], Parts]]) -> Parts:
    """Read the first of `layouts` (file or folder name to reader) that exists in `folder`."""
    for path, read in layouts.items():
        if (folder / path).exists():
            return read(folder / path)
    raise InputError(f"{folder}: holds no {name}; expected one of {', '.join(layouts)} in it. Put it there.")


def existing_folder(*paths: Path) -> Path:
    """Return the first path that is a folder."""
    for path in paths:
        if path.is_dir():
            return path
    raise InputError(
        f"{paths[0]}: is not a folder; expected the data set in its official layout. Unpack it there."
    )


def parquet_parts(path: Path) -> Parts:
    """Read the columns split, image (bytes) and label."""
    table = pq.read_table(path, columns=["split", "image", "label"])
    splits = np.asarray(table["split"])
    parts = []
    for split in ("train", "test"):
        rows = table.filter(pa.array(splits == split))
        labels = rows["label"].to_numpy().astype(np.int64)
        parts.append(Part(images=EncodedImages(rows["image"]), labels=labels))
    return parts[0], parts[1]


def python_batches(path: Path) -> Parts:
    """Read the pickled batches of the official archive; the pickles may hold numpy arrays and no other class."""

    def part(names: Iterable[str]) -> Part:
        batches = [_SafeUnpickler.read(path / name) for name in names]
        flat = np.concatenate([batch[b"data"] for batch in batches])
        pixels = np.ascontiguousarray(flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        return Part(
            images=HeldImages(pixels), labels=np.concatenate([b[b"labels"] for b in batches]).astype(np.int64)
        )

    return part(f"data_batch_{i}" for i in range(1, 6)), part(["test_batch"])


class _SafeUnpickler(pickle.Unpickler):
    @classmethod
    def read(cls, path: Path) -> Any:
        try:
            with path.open("rb") as file:
                return cls(file, encoding="bytes").load()
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: does not exist; expected a batch of CIFAR-10. Unpack it again."
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that an array of numbers needs; refuse all others."""
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "ndarray",
            "dtype",
        ):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of CIFAR-10")


def class_folders(path: Path, classes: tuple[str, ...]) -> Parts:
    """Read ``{train,test}/CLASS/IMAGE``."""

    def part(split: str) -> Part:
        labelled_files = [
            (str(file), k)
            for k, name in enumerate(classes)
            for file in sorted(existing_folder(path / split / name).iterdir())
            if file.suffix.lower() in IMAGE_SUFFIXES
        ]
        files, labels = zip(*labelled_files, strict=True) if labelled_files else ((), ())
        if not files:
            raise InputError(f"{path / split}: holds no images; expected some in each folder of a class.")
        return Part(images=ImageFiles(list(files)), labels=np.array(labels, np.int64))

    return part("train"), part("test")


def human_labels(folder: Path, rows: int) -> dict[str, np.ndarray]:
    """Return the noisy labels of CIFAR-10N by their short names; none where they are not there.

    Raises
    ------
    InputError
        When they are not as many as `rows`.
    """
    labels: dict[str, np.ndarray] = {}
    if (path := folder / "cifar10n.parquet").is_file():
        table = pq.read_table(path)
        labels = {
            name: table[name].to_numpy() for name in table.column_names if name not in ("index", "clean")
        }
    elif (path := folder / "CIFAR-10_human.pt").is_file():
        labels = {name.replace("_label", ""): values for name, values in _torch_arrays(path).items()}
        labels.pop("clean", None)
    wrong = [name for name, values in labels.items() if len(values) != rows]
    if wrong:
        raise InputError([f"{path}: {n} has {len(labels[n]):,} labels; expected {rows:,}." for n in wrong])
    return {name: values.astype(np.int64) for name, values in labels.items()}


def _torch_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a dictionary of arrays that torch saved; no other class is loaded."""
    import torch

    allowed = [np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.int64))]  # type: ignore[attr-defined]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, weights_only=True)


def idx_parts(folder: Path) -> Parts:
    """Read the four gzip files of MNIST's format."""

    def read(name: str, dimensions: int) -> np.ndarray:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: does not exist; expected it next to the other files of Fashion-MNIST.")
        content = gzip.decompress(path.read_bytes())
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        if content[3] != dimensions or len(values) != shape.prod():
            raise InputError(f"{path}: is not an IDX file of {dimensions} dimensions. Copy it again.")
        return values.reshape(shape)

    def part(prefix: str) -> Part:
        pixels, labels = read(f"{prefix}-images-idx3-ubyte.gz", 3), read(f"{prefix}-labels-idx1-ubyte.gz", 1)
        return Part(images=HeldImages(pixels[..., None]), labels=labels.astype(np.int64))

    return part("train"), part("t10k")


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank."""
    if not path.is_file():
        raise InputError(
            f"{path}: does not exist; expected it in the official layout. Unpack the data set again."
        )
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def keyed_labels(path: Path) -> dict[str, int]:
    """Read lines of ``KEY NUMBER``."""
    return {key: int(label) for key, label in (line.rsplit(maxsplit=1) for line in lines_of(path))}


def rows_of(path: Path) -> list[list[str]]:
    """Return the rows of a tab-separated file without its header."""
    return list(csv.reader(lines_of(path)[1:], delimiter="\t"))
