"""Plain loaders of the data sets that the methods are compared on. Nothing is downloaded.

Each takes the folder that holds the data in its official layout, checks that the files are there, and returns a
`DataSet`: images by number, labels, and what is known of their truth.

n images of a part, S pixels per side, C channels.
"""

import csv
import functools
import gzip
import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from labelfix.errors import InputError

__all__ = [
    "DATA_SETS",
    "DataSet",
    "EncodedImages",
    "HeldImages",
    "ImageFiles",
    "Images",
    "Part",
    "read_data_set",
]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CLOTHING1M = (
    "t-shirt", "shirt", "knitwear", "chiffon", "sweater", "hoodie", "windbreaker", "jacket", "downcoat", "suit",
    "shawl", "dress", "vest", "underwear",
)  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


# ----------------------------------------------------------------------------------------------------- values


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


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a loader returns.

    Attributes
    ----------
    name, classes
        Of the data set and its K classes.
    train, test
        The labels of `train` are true, or, where `real_noise`, the noisy ones that the data set comes with.
    trusted
        Images whose labels were verified, where the data set has its own; None otherwise.
    real_noise
        Whether the training labels are noisy as they are.
    human
        Other labels of the training images, by name, (n,) int64.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    trusted: Part | None = None
    real_noise: bool = False
    human: dict[str, np.ndarray] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------- loaders


def read_cifar10(folder: Path) -> DataSet:
    """Read ``cifar10.parquet``, ``cifar-10-batches-py/`` or ``cifar10/{train,test}/CLASS/``; human labels if there.

    Human labels are those of CIFAR-10N: ``cifar10n.parquet`` (columns aggre, random1, …, in the order of the
    training images) or the official ``CIFAR-10_human.pt``.
    """
    parts = _first_layout(
        folder,
        "CIFAR-10",
        {
            "cifar10.parquet": lambda path: _parquet_parts(path),
            "cifar-10-batches-py": _python_batches,
            "cifar10": lambda path: _class_folders(path, CIFAR10),
        },
    )
    human = _human_labels(folder, len(parts[0].labels))
    return DataSet(name="cifar10", classes=CIFAR10, train=parts[0], test=parts[1], human=human)


def read_fashion_mnist(folder: Path) -> DataSet:
    """Read ``fashion_mnist.parquet``, or the official gzip files in ``fashion_mnist/`` or the folder itself."""
    parts = _first_layout(
        folder,
        "Fashion-MNIST",
        {
            "fashion_mnist.parquet": _parquet_parts,
            "fashion_mnist/train-images-idx3-ubyte.gz": lambda path: _idx_parts(path.parent),
            "train-images-idx3-ubyte.gz": lambda path: _idx_parts(path.parent),
        },
    )
    return DataSet(name="fashion_mnist", classes=FASHION, train=parts[0], test=parts[1])


def read_clothing1m(folder: Path) -> DataSet:
    """Read Clothing1M as its authors publish it: key lists, label lists of ``PATH CLASS``, ``images/``.

    It trains on ``noisy_train_key_list.txt``; ``clean_val_key_list.txt`` are the trusted images.
    """
    root = _existing(folder / "clothing1m", folder)
    noisy, clean = _keyed_labels(root / "noisy_label_kv.txt"), _keyed_labels(root / "clean_label_kv.txt")

    def part(keys: str, labels: dict[str, int]) -> Part:
        path = root / keys
        listed = _lines(path)
        missing = [key for key in listed if key not in labels]
        if missing:
            raise InputError(
                [
                    f"{path}: {key!r} has no label; expected one in the label list. Check the copy."
                    for key in missing
                ]
            )
        images = ImageFiles([str(root / key) for key in listed])
        return Part(images=images, labels=np.array([labels[key] for key in listed], np.int64))

    return DataSet(
        name="clothing1m",
        classes=CLOTHING1M,
        train=part("noisy_train_key_list.txt", noisy),
        test=part("clean_test_key_list.txt", clean),
        trusted=part("clean_val_key_list.txt", clean),
        real_noise=True,
    )


def read_food101n(folder: Path) -> DataSet:
    """Read Food-101N (``Food-101N_release/``) with the test images of Food-101 (``food-101/``).

    Trusted are the images of ``verified_train.tsv`` whose label was found right (1): of the others only that
    the label is wrong is known. They leave the training images. Test: ``food-101/meta/test.txt``.
    """
    root, tested = _existing(folder / "Food-101N_release"), _existing(folder / "food-101")
    classes = tuple(name for name in _lines(root / "meta" / "classes.txt") if name != "class_name")
    number = {name: k for k, name in enumerate(classes)}
    verified = _rows(root / "meta" / "verified_train.tsv")
    right = [key for key, verdict in verified if verdict == "1"]
    seen = {key for key, _ in verified}
    listed = [row[0] for row in _rows(root / "meta" / "imagelist.tsv") if row[0] not in seen]

    def part(base: Path, keys: list[str], suffix: str = "") -> Part:
        unknown = sorted({key.split("/")[0] for key in keys} - set(number))
        if unknown:
            raise InputError(
                [f"{base}: class {name!r} is not in meta/classes.txt. Check the copy." for name in unknown]
            )
        return Part(
            images=ImageFiles([str(base / "images" / f"{key}{suffix}") for key in keys]),
            labels=np.array([number[key.split("/")[0]] for key in keys], np.int64),
        )

    return DataSet(
        name="food101n",
        classes=classes,
        train=part(root, listed),
        test=part(tested, _lines(tested / "meta" / "test.txt"), ".jpg"),
        trusted=part(root, right),
        real_noise=True,
    )


DATA_SETS: dict[str, Callable[[Path], DataSet]] = {
    "cifar10": read_cifar10,
    "fashion_mnist": read_fashion_mnist,
    "clothing1m": read_clothing1m,
    "food101n": read_food101n,
}
"""Loaders by name."""


@functools.lru_cache(maxsize=2)
def read_data_set(name: str, folder: Path) -> DataSet:
    """Read a data set of `DATA_SETS` from the folder that holds it; the last ones are kept.

    Raises
    ------
    InputError
        An unknown name, or files that are missing or do not fit together.
    """
    if name not in DATA_SETS:
        raise InputError(f"data: got {name!r}; expected one of {', '.join(DATA_SETS)}.")
    return DATA_SETS[name](folder)


# -------------------------------------------------------------------------------------------- parts of loaders

_Parts = tuple[Part, Part]


def _first_layout(folder: Path, name: str, layouts: dict[str, Callable[[Path], _Parts]]) -> _Parts:
    for place, read in layouts.items():
        if (folder / place).exists():
            return read(folder / place)
    raise InputError(f"{folder}: holds no {name}; expected one of {', '.join(layouts)} in it. Put it there.")


def _existing(*paths: Path) -> Path:
    for path in paths:
        if path.is_dir():
            return path
    raise InputError(
        f"{paths[0]}: is not a folder; expected the data set in its official layout. Unpack it there."
    )


def _parquet_parts(path: Path) -> _Parts:
    table = pq.read_table(path, columns=["split", "image", "label"])
    splits = np.asarray(table["split"])
    parts = []
    for split in ("train", "test"):
        rows = table.filter(pa.array(splits == split))
        labels = rows["label"].to_numpy().astype(np.int64)
        parts.append(Part(images=EncodedImages(rows["image"]), labels=labels))
    return parts[0], parts[1]


def _python_batches(path: Path) -> _Parts:
    """Read the pickled batches of the official archive, with no class of any pickle but numpy's arrays."""

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
        """Allow what an array of numbers needs, nothing else."""
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "ndarray",
            "dtype",
        ):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of CIFAR-10")


def _class_folders(path: Path, classes: tuple[str, ...]) -> _Parts:
    def part(split: str) -> Part:
        found = [
            (str(file), k)
            for k, name in enumerate(classes)
            for file in sorted(_existing(path / split / name).iterdir())
            if file.suffix.lower() in IMAGE_SUFFIXES
        ]
        files, labels = zip(*found, strict=True) if found else ((), ())
        if not files:
            raise InputError(f"{path / split}: holds no images; expected some in each folder of a class.")
        return Part(images=ImageFiles(list(files)), labels=np.array(labels, np.int64))

    return part("train"), part("test")


def _human_labels(folder: Path, rows: int) -> dict[str, np.ndarray]:
    """Labels of CIFAR-10N by their short names, clean ones left out."""
    found: dict[str, np.ndarray] = {}
    if (path := folder / "cifar10n.parquet").is_file():
        table = pq.read_table(path)
        found = {
            name: table[name].to_numpy() for name in table.column_names if name not in ("index", "clean")
        }
    elif (path := folder / "CIFAR-10_human.pt").is_file():
        found = {name.replace("_label", ""): values for name, values in _torch_arrays(path).items()}
        found.pop("clean", None)
    wrong = [name for name, values in found.items() if len(values) != rows]
    if wrong:
        raise InputError([f"{path}: {n} has {len(found[n]):,} labels; expected {rows:,}." for n in wrong])
    return {name: values.astype(np.int64) for name, values in found.items()}


def _torch_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a dictionary of arrays that torch saved, and nothing else."""
    import torch

    allowed = [np._core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.int64))]  # type: ignore[attr-defined]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, weights_only=True)


def _idx_parts(folder: Path) -> _Parts:
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


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(
            f"{path}: does not exist; expected it in the official layout. Unpack the data set again."
        )
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _keyed_labels(path: Path) -> dict[str, int]:
    return {key: int(label) for key, label in (line.rsplit(maxsplit=1) for line in _lines(path))}


def _rows(path: Path) -> list[list[str]]:
    """Rows of a tab-separated file without its header."""
    return list(csv.reader(_lines(path)[1:], delimiter="\t"))
