"""A torch data set of images and soft labels, from ``labelfix export OUT --to torch DEST``.

N images, K classes.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from labelfix.errors import InputError
from labelfix.images.decoding import Unreadable, decode_image

__all__ = ["SoftLabelDataset"]

FULL_SIZE = 1 << 20  # larger than any image, so that JPEGs are decoded at full size


def load_image(path: str) -> Any:
    """Return the upright RGB image in a file.

    Raises
    ------
    InputError
        When it cannot be decoded.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Export again, or pass images=."
        ) from error
    image = decode_image(content, FULL_SIZE)
    if isinstance(image, Unreadable):
        raise InputError(f"{path}: {image.reason}; expected an image. Run labelfix clean again.")
    return image


class SoftLabelDataset(Dataset[tuple[Any, torch.Tensor]]):
    """Images with their training targets, as `timm.loss.SoftTargetCrossEntropy` takes them.

    Parameters
    ----------
    folder
        The folder of the export.
    transform
        Applied to every image (PIL, RGB, upright), for example from `timm.data.create_transform`.
    load
        Returns the image of a path; None decodes the file. For a run on a matrix, paths are the names of the
        images.

    Attributes
    ----------
    classes
        (K,) class names.
    paths
        (N,) the paths of the images.
    targets
        (N, K) float32, rows sum to 1; read from disk as needed.
    labels
        (N,) int64: the single label of the export.

    Raises
    ------
    InputError
        When `folder` is not such an export.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        transform: Callable[[Any], Any] | None = None,
        load: Callable[[str], Any] | None = None,
    ):
        self.folder = Path(folder)
        self.transform = transform
        self.load = load or load_image
        try:
            self.classes: tuple[str, ...] = tuple(
                json.loads((self.folder / "classes.json").read_text(encoding="utf-8"))
            )
            with pq.ParquetFile(self.folder / "samples.parquet") as file:
                samples = file.read(columns=["path", "label"])
            self.targets = self._map_targets()
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder}: is no export for torch ({error}). Make one: labelfix export OUT --to torch {folder}."
            ) from error
        # os.path.join leaves absolute paths as they are
        self.paths = tuple(os.path.join(self.folder, path) for path in samples["path"].to_pylist())
        self.labels = samples["label"].to_numpy()

    def _map_targets(self) -> np.ndarray:
        return np.load(self.folder / "soft_labels.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Any, torch.Tensor]:
        image = self.load(self.paths[number])
        target = torch.from_numpy(np.array(self.targets[number], np.float32))
        return self.transform(image) if self.transform else image, target

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "targets"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.targets = self._map_targets()  # every worker process maps the file
