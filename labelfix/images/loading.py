"""Images read, decoded and resized in worker processes, in batches: the one loader of labelfix.

P images, B per batch, S x S pixels, stored as (S, S, 3) so that a batch is in channels_last.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelfix.images.decoding import Unreadable, decode_image
from labelfix.system.hashing import content_digest

__all__ = ["PIPELINE_VERSION", "DecodedBatch", "ImageSource", "load_batches"]

# Bump when decoding or resizing changes, so that features and pixels kept on disk are computed again.
PIPELINE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ImageSource:
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


@dataclass(frozen=True, kw_only=True)
class DecodedBatch:
    """Images after reading and decoding.

    Attributes
    ----------
    rows
        (B,) numbers of the images.
    digests
        (B,) of the files' content; empty where a file could not be opened.
    unreadable
        Number of each image that cannot be read -> why.
    pixel_rows, pixels
        Numbers of the decoded images, in the order of `rows`, and their (S, S, 3) uint8 in one tensor; None where
        there is none.
    """

    rows: list[int]
    digests: list[bytes]
    unreadable: dict[int, str]
    pixel_rows: list[int]
    pixels: Tensor | None

    def pin_memory(self) -> "DecodedBatch":
        """Return the batch in pinned memory; the loader calls this, so that copies to a GPU need not wait."""
        return self if self.pixels is None else replace(self, pixels=self.pixels.pin_memory())


def load_batches(
    source: ImageSource,
    batches: Sequence[Tensor],
    *,
    known: frozenset[bytes] = frozenset(),
    pin_memory: bool = False,
) -> Iterator[DecodedBatch]:
    """Yield the images of each batch (B,) of numbers.

    Parameters
    ----------
    known
        Digests of files that need no decoding.
    pin_memory
        Whether pixels go on to a GPU.
    """
    workers = min(8, os.cpu_count() or 1) if source.workers is None else source.workers
    loader = DataLoader(
        _Images(source, known),
        batch_sampler=(batch.tolist() for batch in batches),
        num_workers=min(workers, max(len(batches) - 1, 0)),  # not worth starting for one batch
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # a separate one: no other random number must depend on loading
    )
    yield from loader


@dataclass(frozen=True)
class _Item:
    row: int
    digest: bytes
    reason: str = ""
    pixels: Tensor | None = None


class _Images(Dataset[_Item]):
    def __init__(self, source: ImageSource, known: frozenset[bytes]):
        self.paths = source.paths
        self.known = known
        self.side = source.side
        self.transform = _square_transform(source.side, source.interpolation)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> _Item:
        try:
            with open(self.paths[row], "rb") as file:
                content = file.read()
        except OSError as error:
            return _Item(row, b"", f"cannot be opened ({error.strerror})")
        digest = content_digest(content)
        if digest in self.known:
            return _Item(row, digest)
        image = decode_image(content, self.side)
        if isinstance(image, Unreadable):
            return _Item(row, digest, image.reason)
        pixels = np.ascontiguousarray(np.asarray(self.transform(image)).transpose(1, 2, 0))
        return _Item(row, digest, pixels=torch.from_numpy(pixels))


def _collate(items: list[_Item]) -> DecodedBatch:
    decoded = [(item.row, item.pixels) for item in items if item.pixels is not None]
    return DecodedBatch(
        rows=[item.row for item in items],
        digests=[item.digest for item in items],
        unreadable={item.row: item.reason for item in items if item.reason},
        pixel_rows=[row for row, _ in decoded],
        pixels=torch.stack([pixels for _, pixels in decoded]) if decoded else None,
    )


def _square_transform(side: int, interpolation: str) -> Callable[[Image.Image], np.ndarray]:
    """Return the transform that every network sees images through: to (3, side, side) uint8."""
    return transforms_imagenet_eval(
        img_size=side,
        crop_pct=1.0,  # label errors are judged on the whole picture
        interpolation=interpolation,
        use_prefetcher=True,  # leaves uint8; normalisation happens on the device
    )


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    torch.set_num_threads(1)
