"""Pixels for training: decoded once where they fit, else decoded anew in every epoch.

Three stores hand out the same uint8 batches:

- device memory, where the decoded images take a small part of it: they are copied once;
- a memory-mapped file, up to a budget in GiB: decoded once, and found again by a resumed run;
- a stream from the image files, beyond the budget: worker processes decode ahead of the training.

What is done to a batch on the device is `labelfix.images.augmentation`.

P images, P' of them readable, B per batch, images S x S pixels, stored as (S, S, 3) so that a batch is in
channels_last.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labelfix.errors import InputError, OutputError
from labelfix.images.loading import PIPELINE_VERSION, ImageSource, load_batches
from labelfix.images.quarantine import ReadableRows
from labelfix.system.files import replace_file
from labelfix.system.hashing import digest_of_all, file_state, value_digest
from labelfix.system.progress import Progress

__all__ = ["DecodedImages", "HeldPixels", "PixelStore", "Storage", "decode_images"]

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
class DecodedImages(ReadableRows):
    """The readable images in a pixel store.

    Attributes
    ----------
    store
        The pixels of the images `rows`, by their positions in it, 0 to P' - 1.
    storage
        Which kind of store it is.
    digest
        Of the content of all readable images with their keys, 32 hexadecimal digits.
    """

    store: PixelStore
    storage: Storage
    digest: str


def choose_storage(num_bytes: int, budget: float, device: torch.device) -> Storage:
    """Return where `num_bytes` of pixels go, with a budget in GiB for the mapped file."""
    if num_bytes > budget * GIB:
        return Storage.STREAM
    if device.type == "cuda" and num_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return Storage.DEVICE
    return Storage.MAPPED


def decode_images(
    source: ImageSource,
    keys: Sequence[str],
    folder: Path,
    *,
    budget: float,
    device: torch.device,
    progress: Progress,
) -> DecodedImages:
    """Decode every image once and return a store of the kind that the budget allows.

    Beyond the budget the pixels of this pass are dropped: it finds the unreadable images before anything is
    trained.

    Parameters
    ----------
    keys
        (P,) what identifies each image of `source`.
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
    mapped = _MappedFile(folder, source)
    earlier = mapped.find() if storage is Storage.MAPPED else None
    values: np.ndarray | Tensor | None = None
    if earlier is not None:
        values, record = earlier
    else:
        shape = (len(source.paths), source.side, source.side, 3)
        if storage is Storage.MAPPED:
            values = mapped.create(shape)
        elif storage is Storage.DEVICE:
            values = torch.empty(shape, dtype=torch.uint8, device=device)
        record = _decode_into(values, source, progress)
        if isinstance(values, np.memmap):
            mapped.finish(values, record)
    rows = np.array([row for row in range(len(keys)) if row not in record.unreadable], np.int64)
    every = _StreamedPixels(source, device) if values is None else HeldPixels(values, device)
    return DecodedImages(
        rows=rows,
        unreadable=record.unreadable,
        store=_ReadablePixels(every, torch.from_numpy(rows)),
        storage=storage,
        digest=digest_of_all((keys[row], record.digests[row]) for row in rows.tolist()),
    )


@dataclass(frozen=True)
class _Decoded:
    """Why each unreadable image is one, by number, and the digests of all files (P,)."""

    unreadable: dict[int, str]
    digests: list[bytes]


def _decode_into(values: np.ndarray | Tensor | None, source: ImageSource, progress: Progress) -> _Decoded:
    """Decode all images into `values` (P, S, S, 3), None to drop the pixels."""
    unreadable: dict[int, str] = {}
    digests = [b""] * len(source.paths)
    batches = torch.arange(len(source.paths)).split(DECODE_BATCH)
    with progress.stage("Decoding images", len(source.paths), "images") as advance:
        for batch in load_batches(source, batches):
            for row, digest in zip(batch.rows, batch.digests, strict=True):
                digests[row] = digest
            unreadable |= batch.unreadable
            if isinstance(values, Tensor) and batch.pixels is not None:
                values[batch.pixel_rows] = batch.pixels.to(values.device)
            elif isinstance(values, np.ndarray) and batch.pixels is not None:
                values[batch.pixel_rows] = batch.pixels.numpy()
            advance(len(batch.rows))
    return _Decoded(unreadable, digests)


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
    """Pixels that worker processes decode again for every batch."""

    def __init__(self, source: ImageSource, device: torch.device):
        self.source = source
        self.device = device

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        for batch in load_batches(self.source, rows, pin_memory=self.device.type == "cuda"):
            for row, reason in batch.unreadable.items():
                raise InputError(
                    f"{self.source.paths[row]}: was readable before training, and is no longer: {reason}. Put the "
                    "image back and go on with --resume."
                )
            assert batch.pixels is not None
            yield batch.pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _ReadablePixels:
    """A store without the unreadable images; `rows` (P',) are the numbers of the others."""

    every: PixelStore
    rows: Tensor

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        return self.every.batches([self.rows[batch] for batch in rows])


class _MappedFile:
    """``pixels.npy`` and what it holds, ``pixels.json``; the latter is written last."""

    def __init__(self, folder: Path, source: ImageSource):
        self.values = folder / "pixels.npy"
        self.record = folder / "pixels.json"
        states = [state and astuple(state) for state in map(file_state, source.paths)]
        self.identity = value_digest(
            [PIPELINE_VERSION, source.side, source.interpolation, list(source.paths), states]
        )

    def find(self) -> tuple[np.ndarray, _Decoded] | None:
        """Return pixels and record of an earlier call, if it was finished and the image files are the same."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            if record["identity"] != self.identity:
                return None
            unreadable = {int(row): reason for row, reason in record["unreadable"].items()}
            digests = [bytes.fromhex(digest) for digest in record["digests"]]
            return np.load(self.values, mmap_mode="r"), _Decoded(unreadable, digests)
        except (OSError, ValueError, KeyError):
            return None

    def create(self, shape: tuple[int, ...]) -> np.memmap:
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

    def finish(self, values: np.memmap, decoded: _Decoded) -> None:
        values.flush()
        digests = [digest.hex() for digest in decoded.digests]
        text = json.dumps({"identity": self.identity, "unreadable": decoded.unreadable, "digests": digests})
        replace_file(self.record, lambda temporary: temporary.write_text(text, encoding="utf-8"))
