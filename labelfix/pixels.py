"""Pixels for training: decoded once where they fit, else decoded anew in every epoch.

Three stores hand out the same uint8 batches:

- device memory, where the decoded images take a small part of it: nothing moves any more;
- a memory-mapped file, up to a budget in GiB: decoded once, and found again by a resumed run;
- a stream from the image files, beyond the budget: worker processes decode ahead of the training.

Decoding is `labelfix.images.decode_image` in worker processes; what is done to a batch on the device is
`labelfix.augmentation`.

P images, B per batch, images S x S pixels, stored as (S, S, 3) so that a batch is in channels_last.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelfix.errors import InputError, OutputError
from labelfix.features import square_transform, start_worker
from labelfix.images import Unreadable, decode_image
from labelfix.progress import Progress

__all__ = [
    "DecodedImages",
    "HeldPixels",
    "PixelSource",
    "PixelStore",
    "Storage",
    "decode_images",
]

# Bump when decoding or resizing changes, so that a resumed run does not mix old pixels with new ones.
PIPELINE_VERSION = 1
DEVICE_SHARE = 0.25  # of the free device memory that pixels may take
DECODE_BATCH = 64
GIB = 1024**3


class Storage(StrEnum):
    """Where decoded pixels are."""

    DEVICE = "device"
    MAPPED = "mapped"
    STREAM = "stream"


class PixelStore(Protocol):
    """Pixels of P images by their numbers."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield (B, 3, S, S) uint8 on the device, channels_last, for each of the given (B,) numbers."""
        ...


@dataclass(frozen=True, kw_only=True)
class PixelSource:
    """Which images, and how large.

    Attributes
    ----------
    paths
        (P,) files.
    side
        S in pixels.
    interpolation
        How images are resized, as timm names it; the shorter side becomes `side`, the middle is kept.
    workers
        Processes that decode; None takes one per core, at most eight, 0 decodes in this process.
    """

    paths: Sequence[str]
    side: int
    interpolation: str
    workers: int | None

    @property
    def num_bytes(self) -> int:
        """Size of all decoded pixels."""
        return len(self.paths) * self.side * self.side * 3

    def workers_for(self, num_images: int) -> int:
        """Return how many processes are worth starting to decode `num_images`."""
        wanted = min(8, os.cpu_count() or 1) if self.workers is None else self.workers
        return min(wanted, num_images // DECODE_BATCH)


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """What decoding gave.

    Attributes
    ----------
    store
        The pixels; rows of unreadable images must not be asked for.
    storage
        Which kind of store it is.
    unreadable
        Number -> why the image could not be decoded.
    digests
        (P,) of the files' content, 32 hexadecimal digits; empty where a file could not be opened.
    """

    store: PixelStore
    storage: Storage
    unreadable: dict[int, str]
    digests: list[str]


def choose_storage(num_bytes: int, budget: float, device: torch.device) -> Storage:
    """Return where `num_bytes` of pixels go, with a budget in GiB for the mapped file."""
    if num_bytes > budget * GIB:
        return Storage.STREAM
    if device.type == "cuda" and num_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return Storage.DEVICE
    return Storage.MAPPED


def decode_images(
    source: PixelSource, folder: Path, *, budget: float, device: torch.device, progress: Progress
) -> DecodedImages:
    """Decode every image once and return a store of the kind that the budget allows.

    Beyond the budget the pixels of this pass are dropped: it finds the unreadable images before anything is
    trained.

    Parameters
    ----------
    folder
        Where a mapped file is kept, and found again.
    budget
        GiB that decoded pixels may take.

    Raises
    ------
    OutputError
        When the mapped file cannot be written.
    """
    storage = choose_storage(source.num_bytes, budget, device)
    states = [_file_state(path) for path in source.paths]
    kept = _MappedFile(folder, source, states)
    if storage is Storage.MAPPED and (found := kept.find()) is not None:
        values, unreadable, digests = found
        return DecodedImages(
            store=HeldPixels(values, device), storage=storage, unreadable=unreadable, digests=digests
        )
    shape = (len(source.paths), source.side, source.side, 3)
    held: np.ndarray | Tensor | None = None
    if storage is Storage.MAPPED:
        held = kept.create(shape)
    elif storage is Storage.DEVICE:
        held = torch.empty(shape, dtype=torch.uint8, device=device)
    unreadable, digests = {}, [""] * len(source.paths)
    with progress.stage("Decoding images", len(source.paths), "images") as advance:
        for part in _decoded_parts(source):
            for place, item in zip(part.places, part.items, strict=True):
                digests[place] = item.digest
                if item.reason:
                    unreadable[place] = item.reason
            if held is not None and part.pixels is not None:
                rows = [place for place, i in zip(part.places, part.items, strict=True) if not i.reason]
                if isinstance(held, Tensor):
                    held[rows] = part.pixels.to(device)
                else:
                    held[rows] = part.pixels.numpy()
            advance(len(part.places))
    if storage is Storage.MAPPED:
        assert isinstance(held, np.ndarray)
        kept.finish(held, unreadable, digests)
    store = _StreamedPixels(source, device) if held is None else HeldPixels(held, device)
    return DecodedImages(store=store, storage=storage, unreadable=unreadable, digests=digests)


# ---------------------------------------------------------------------------------------------------- stores


class HeldPixels:
    """Pixels in a mapped file (an array) or in device memory (a tensor), (P, S, S, 3) uint8."""

    def __init__(self, values: np.ndarray | Tensor, device: torch.device):
        self.values = values
        self.device = device

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield (B, C, S, S) uint8 on the device for each of the given (B,) numbers."""
        for batch in rows:
            if isinstance(self.values, Tensor):
                pixels = self.values[batch.to(self.values.device)]
            else:
                pixels = torch.from_numpy(self.values[batch.numpy()])
                if self.device.type == "cuda":
                    pixels = pixels.pin_memory().to(self.device, non_blocking=True)
            yield pixels.to(self.device).permute(0, 3, 1, 2)


class _StreamedPixels:
    """Pixels that worker processes decode again whenever they are asked for."""

    def __init__(self, source: PixelSource, device: torch.device):
        self.source = source
        self.device = device

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        loader = DataLoader(
            _ImageFiles(self.source),
            batch_sampler=[batch.tolist() for batch in rows],
            num_workers=self.source.workers_for(sum(map(len, rows))),
            collate_fn=_collate,
            worker_init_fn=start_worker,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own: augmentation's random numbers must not depend on loading
        )
        for part in loader:
            lost = [(place, i.reason) for place, i in zip(part.places, part.items, strict=True) if i.reason]
            if lost:
                raise InputError(
                    f"{self.source.paths[lost[0][0]]}: was readable before training, and is no longer: "
                    f"{lost[0][1]}. Put the image back and go on with --resume."
                )
            yield part.pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


class _MappedFile:
    """``pixels.npy`` and what it holds, ``pixels.json``; the latter is written last."""

    def __init__(self, folder: Path, source: PixelSource, states: list[tuple[int, int] | None]):
        self.values = folder / "pixels.npy"
        self.record = folder / "pixels.json"
        described = [PIPELINE_VERSION, source.side, source.interpolation, list(source.paths), states]
        self.identity = hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()

    def find(self) -> tuple[np.ndarray, dict[int, str], list[str]] | None:
        """Return what an earlier call kept, if it was finished and the image files are the same."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            if record["identity"] != self.identity:
                return None
            values = np.load(self.values, mmap_mode="r")
        except (OSError, ValueError, KeyError):
            return None
        return values, {int(k): v for k, v in record["unreadable"].items()}, record["digests"]

    def create(self, shape: tuple[int, ...]) -> np.ndarray:
        self.record.unlink(missing_ok=True)
        try:
            self.values.parent.mkdir(parents=True, exist_ok=True)
            values = np.lib.format.open_memmap(self.values, mode="w+", dtype=np.uint8, shape=shape)
            if hasattr(
                os, "posix_fallocate"
            ):  # reserves the space: a full disk is an error here, not a crash
                with self.values.open("rb+") as file:
                    os.posix_fallocate(file.fileno(), 0, self.values.stat().st_size)
        except OSError as error:
            raise OutputError(
                f"{self.values}: {np.prod(shape) / GIB:.1f} GiB of pixels cannot be kept ({error.strerror}). "
                "Choose another --out, or lower --pixel-budget to read the images in every epoch."
            ) from error
        return values

    def finish(self, values: np.ndarray, unreadable: dict[int, str], digests: list[str]) -> None:
        assert isinstance(values, np.memmap)
        values.flush()
        record = {"identity": self.identity, "unreadable": unreadable, "digests": digests}
        temporary = self.record.with_suffix(".tmp")
        temporary.write_text(json.dumps(record), encoding="utf-8")
        os.replace(temporary, self.record)


# -------------------------------------------------------------------------------------------------- decoding


@dataclass(frozen=True)
class _Item:
    digest: str
    reason: str  # why there are no pixels; empty where there are


@dataclass(frozen=True)
class _Part:
    places: list[int]
    items: list[_Item]
    pixels: Tensor | None  # (readable, S, S, 3) uint8

    def pin_memory(self) -> "_Part":
        """Return the part as the loader pins it, so that the copy to a GPU need not wait."""
        return self if self.pixels is None else replace(self, pixels=self.pixels.pin_memory())


class _ImageFiles(Dataset):
    def __init__(self, source: PixelSource):
        self.paths = source.paths
        self.side = source.side
        self.transform = square_transform(source.side, source.interpolation)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[int, _Item, Tensor | None]:
        try:
            with open(self.paths[place], "rb") as file:
                content = file.read()
        except OSError as error:
            return place, _Item("", f"cannot be opened ({error.strerror})"), None
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        image = decode_image(content, self.side)
        if isinstance(image, Unreadable):
            return place, _Item(digest, image.reason), None
        pixels = np.ascontiguousarray(np.asarray(self.transform(image)).transpose(1, 2, 0))
        return place, _Item(digest, ""), torch.from_numpy(pixels)


def _collate(items: list[tuple[int, _Item, Tensor | None]]) -> _Part:
    pixels = [values for _, _, values in items if values is not None]
    return _Part([i[0] for i in items], [i[1] for i in items], torch.stack(pixels) if pixels else None)


def _decoded_parts(source: PixelSource) -> Iterator[_Part]:
    return iter(
        DataLoader(
            _ImageFiles(source),
            batch_size=DECODE_BATCH,
            num_workers=source.workers_for(len(source.paths)),
            collate_fn=_collate,
            worker_init_fn=start_worker,
            generator=torch.Generator(),
        )
    )


def _file_state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def describe(decoded: DecodedImages, keys: Sequence[str]) -> dict[str, Any]:
    """Return what ``run.json`` says of the pixels: where they were, and a digest of all readable images."""
    total = hashlib.blake2b(digest_size=16)
    for key, digest in sorted(zip(keys, decoded.digests, strict=True)):
        total.update(key.encode("utf-8", "surrogateescape") + b"\0" + digest.encode())
    return {"storage": str(decoded.storage), "images_digest": total.hexdigest()}
