"""Loaders of the data sets that the methods are compared on. Nothing is downloaded.

Each takes the folder that holds the data in its official layout, checks that the files exist, and returns a
`DataSet`: images by number, and true, noisy or verified labels.

n images of a part, S pixels per side, C channels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelfix.benchmark.data_formats import (
    ImageFiles,
    Part,
    class_folders,
    existing_folder,
    first_layout,
    human_labels,
    idx_parts,
    keyed_labels,
    lines_of,
    parquet_parts,
    python_batches,
    rows_of,
)
from labelfix.errors import InputError

__all__ = ["DATA_SETS", "DataSet", "ImageFiles", "Part", "read_data_set"]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CLOTHING1M = (
    "t-shirt", "shirt", "knitwear", "chiffon", "sweater", "hoodie", "windbreaker", "jacket", "downcoat", "suit",
    "shawl", "dress", "vest", "underwear",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The images and labels of a data set.

    Attributes
    ----------
    name, classes
        Of the data set and its K classes.
    train, test
        The labels of `train` are true; where `real_noise`, they are the noisy ones of the data set.
    trusted
        Images with verified labels, where the data set has them; None otherwise.
    real_noise
        Whether the training labels are noisy without planted noise.
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
    """Read ``cifar10.parquet``, ``cifar-10-batches-py/`` or ``cifar10/{train,test}/CLASS/``.

    Human labels, where there are some, are those of CIFAR-10N: ``cifar10n.parquet`` (columns aggre, random1, …, in
    the order of the training images) or the official ``CIFAR-10_human.pt``.
    """
    parts = first_layout(
        folder,
        "CIFAR-10",
        {
            "cifar10.parquet": parquet_parts,
            "cifar-10-batches-py": python_batches,
            "cifar10": lambda path: class_folders(path, CIFAR10),
        },
    )
    human = human_labels(folder, len(parts[0].labels))
    return DataSet(name="cifar10", classes=CIFAR10, train=parts[0], test=parts[1], human=human)


def read_fashion_mnist(folder: Path) -> DataSet:
    """Read ``fashion_mnist.parquet``, or the official gzip files in ``fashion_mnist/`` or the folder itself."""
    parts = first_layout(
        folder,
        "Fashion-MNIST",
        {
            "fashion_mnist.parquet": parquet_parts,
            "fashion_mnist/train-images-idx3-ubyte.gz": lambda path: idx_parts(path.parent),
            "train-images-idx3-ubyte.gz": lambda path: idx_parts(path.parent),
        },
    )
    return DataSet(name="fashion_mnist", classes=FASHION, train=parts[0], test=parts[1])


def read_clothing1m(folder: Path) -> DataSet:
    """Read Clothing1M as its authors publish it: key lists, label lists of ``PATH CLASS``, ``images/``.

    It trains on ``noisy_train_key_list.txt``; ``clean_val_key_list.txt`` are the trusted images.
    """
    root = existing_folder(folder / "clothing1m", folder)
    noisy, clean = keyed_labels(root / "noisy_label_kv.txt"), keyed_labels(root / "clean_label_kv.txt")

    def part(keys: str, labels: dict[str, int]) -> Part:
        path = root / keys
        listed = lines_of(path)
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

    Trusted are the images of ``verified_train.tsv`` whose label is right (1); the true label of the others is
    unknown. No image of that list trains. Test: ``food-101/meta/test.txt``.
    """
    root, test_root = existing_folder(folder / "Food-101N_release"), existing_folder(folder / "food-101")
    classes = tuple(name for name in lines_of(root / "meta" / "classes.txt") if name != "class_name")
    number = {name: k for k, name in enumerate(classes)}
    verified = rows_of(root / "meta" / "verified_train.tsv")
    right = [key for key, verdict in verified if verdict == "1"]
    verified_keys = {key for key, _ in verified}
    unverified = [row[0] for row in rows_of(root / "meta" / "imagelist.tsv") if row[0] not in verified_keys]

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
        train=part(root, unverified),
        test=part(test_root, lines_of(test_root / "meta" / "test.txt"), ".jpg"),
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
    """Read a data set of `DATA_SETS` from the folder that holds it; the last two stay in memory.

    Raises
    ------
    InputError
        An unknown name, or files that are missing or inconsistent.
    """
    if name not in DATA_SETS:
        raise InputError(f"data: got {name!r}; expected one of {', '.join(DATA_SETS)}.")
    return DATA_SETS[name](folder)
