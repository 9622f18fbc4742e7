"""The data of a run: training, trusted, held-out and test images, and the planted noise.

N training rows, M trusted rows, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelfix.benchmark.data_formats import ImageFiles, Part
from labelfix.benchmark.data_sets import DataSet, read_data_set
from labelfix.benchmark.noise import NOISES, PlantedNoise
from labelfix.benchmark.settings import MeasuredOn, RunSettings, TrustedFrom
from labelfix.errors import InputError, SettingError
from labelfix.images.feature_cache import cache_folder
from labelfix.images.loading import ImageSource
from labelfix.images.pixel_store import HeldPixels, PixelStore, decode_images
from labelfix.system.progress import SilentProgress

__all__ = ["RunData", "prepare_data"]

FILE_SIDE = 32
FILE_BUDGET = 16.0  # GiB of decoded image files that are kept


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Images by number and the labels of every part; `true` is None where the true labels are unknown.

    Training images come first, then trusted ones, held-out ones and those of the test.
    """

    classes: tuple[str, ...]
    pixels: PixelStore
    channels: int
    noise: PlantedNoise
    true: np.ndarray | None
    trusted: np.ndarray
    held_out: np.ndarray
    test: np.ndarray

    def numbers(self, part: str) -> Tensor:
        """Return the numbers of ``train``, ``trusted``, ``held_out`` or ``test``."""
        sizes = {
            "train": len(self.noise.labels),
            "trusted": len(self.trusted),
            "held_out": len(self.held_out),
            "test": len(self.test),
        }
        first = sum(list(sizes.values())[: list(sizes).index(part)])
        return torch.arange(first, first + sizes[part])


def prepare_data(settings: RunSettings, folder: Path, device: torch.device) -> RunData:
    """Choose the images by the seed, decode them and plant the noise.

    Raises
    ------
    InputError
        When files are missing, or there are too few images.
    SettingError
        When the data set does not have what the settings ask for.
    """
    data = read_data_set(settings.data, folder)
    train, trusted, test = _choose(data, settings)
    noise, true = _plant(data, train[1], settings, folder)
    pixels, channels = _pixels((train, trusted, test), settings, device)
    trusted_labels = trusted[0].labels[trusted[1]]
    num_trusted = len(trusted_labels) - settings.held_out
    return RunData(
        classes=data.classes,
        pixels=pixels,
        channels=channels,
        noise=noise,
        true=true,
        trusted=trusted_labels[:num_trusted],
        held_out=trusted_labels[num_trusted:],
        test=test[0].labels[test[1]],
    )


Chosen = tuple[Part, np.ndarray]


def _choose(data: DataSet, settings: RunSettings) -> tuple[Chosen, Chosen, Chosen]:
    """Return (part, rows) of the training, the trusted and the test images; no image is in two of them."""
    shuffled = {
        "train": np.random.default_rng(settings.seed).permutation(len(data.train.labels)),
        "test": np.random.default_rng([settings.seed, 1]).permutation(len(data.test.labels)),
    }
    parts = {"train": data.train, "test": data.test}

    def take(split: str, count: int | None, option: str) -> Chosen:
        rows = shuffled[split]
        if count is not None and count > len(rows):
            raise InputError(
                f"{option}: {count:,} images asked for; {settings.data} has {len(rows):,} left in its {split} "
                "split. Ask for fewer."
            )
        shuffled[split] = rows[count:] if count is not None else rows[:0]
        return parts[split], rows[:count]

    if settings.trusted_from is TrustedFrom.OWN:
        if data.trusted is None:
            raise SettingError(
                f"trusted_from: {settings.data} has no trusted images of its own; expected train or test."
            )
        shuffled["own"] = np.random.default_rng([settings.seed, 2]).permutation(len(data.trusted.labels))
        parts["own"] = data.trusted
    elif data.real_noise and settings.trusted_from is TrustedFrom.TRAIN:
        raise SettingError(
            f"trusted_from: the training labels of {settings.data} are noisy; expected own or test."
        )
    reserved = settings.trusted if settings.trusted_from is TrustedFrom.TRAIN else 0
    if settings.measured_on is MeasuredOn.TRAIN:
        reserved += settings.test or 0
    count = settings.images if settings.images is not None else len(data.train.labels) - reserved
    train = take("train", count, "images")
    trusted = take(str(settings.trusted_from), settings.trusted, "trusted")
    return train, trusted, take(str(settings.measured_on), settings.test, "test")


def _plant(
    data: DataSet, rows: np.ndarray, settings: RunSettings, folder: Path
) -> tuple[PlantedNoise, np.ndarray | None]:
    """Return the noisy labels of the training rows, and the true ones where they are known."""
    labels, num_classes, name = data.train.labels[rows], len(data.classes), settings.noise
    if data.real_noise:
        if name != "real":
            raise SettingError(
                f"noise: got {name!r}; the labels of {settings.data} are noisy already: expected 'real'."
            )
        return PlantedNoise.measure(labels, labels, num_classes), None
    if name == "none":
        return PlantedNoise.measure(labels, labels, num_classes), labels
    if name in data.human:
        return PlantedNoise.measure(labels, data.human[name][rows], num_classes), labels
    if name not in NOISES:
        known = ", ".join(["none", *NOISES, *data.human])
        raise SettingError(f"noise: got {name!r}; expected one of {known} for {settings.data}.")
    if name == "feature_dependent":
        path = folder / f"student_logits_{settings.data}.npy"
        if not path.is_file():
            raise InputError(
                f"{path}: does not exist; expected scores (N, K) of the training images. Put them there."
            )
        scores = np.load(path, mmap_mode="r")[rows]
        options: dict[str, Any] = {"scores": scores, "ties": settings.ties}
    else:
        options = {"num_classes": num_classes}
    return NOISES[name](labels, settings.ratio, seed=settings.seed, **options), labels


def _pixels(chosen: Sequence[Chosen], settings: RunSettings, device: torch.device) -> tuple[PixelStore, int]:
    """Return all chosen images in one store, and how many channels they have."""
    images = [(part.images, rows) for part, rows in chosen if len(rows)]
    if all(isinstance(i, ImageFiles) for i, _ in images):
        paths = [i.paths[row] for i, rows in images if isinstance(i, ImageFiles) for row in rows]
        source = ImageSource(
            paths=paths, side=settings.side or FILE_SIDE, interpolation="bilinear", workers=None
        )
        folder = cache_folder(None) / "benchmark" / f"{settings.data}-{settings.key()}"
        decoded = decode_images(
            source, paths, folder, budget=FILE_BUDGET, device=device, progress=SilentProgress()
        )
        if decoded.unreadable:
            raise InputError(
                [f"{paths[number]}: cannot be decoded ({why})." for number, why in decoded.unreadable.items()]
            )
        return decoded.store, 3
    values = np.concatenate([i.pixels(rows) for i, rows in images if not isinstance(i, ImageFiles)])
    pixels: Any = torch.from_numpy(values).to(device) if device.type == "cuda" else values
    return HeldPixels(pixels, device), values.shape[-1]
