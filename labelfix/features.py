"""From images to features: decode in worker processes, run the backbone in batches, keep what was computed.

P images (those of the label table, then the extra trusted ones), B images per batch, D features. Never more
than a few batches of images are in memory. Images go through in the order of their keys, so that the
features of an image do not depend on its place in the label table.
"""

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torch.utils.data import DataLoader, Dataset

from labelfix.backbones import Backbone
from labelfix.config import FeatureConfig, Precision
from labelfix.errors import SettingError, TrainingError
from labelfix.feature_store import FeatureStore, FileDigests, FileState, cache_folder, content_digest
from labelfix.images import ImageFolder, Unreadable, decode_image
from labelfix.progress import Progress

__all__ = ["FeatureMatrix", "FrozenNetwork", "choose_device", "extract_features"]

# Bump when decoding or resizing changes, so that stored features are not mistaken for the new ones.
PIPELINE_VERSION = 1
ROWS_PER_PART = 4096


@dataclass(frozen=True, kw_only=True)
class FeatureMatrix:
    """Features of P images.

    Attributes
    ----------
    values
        (P, D) float16; rows of unreadable images are 0.
    unreadable
        Row number -> why the image could not be decoded.
    decoded
        How many images were decoded; the rest came from the store.
    digest
        Of the content of all readable images with their keys, 32 hexadecimal digits.
    precision
        Number format of the forward pass.
    """

    values: np.ndarray
    unreadable: dict[int, str]
    decoded: int
    digest: str
    precision: str


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` takes CUDA, then the CPU.

    Raises
    ------
    SettingError
        When torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        said = str(error).splitlines()[0]
        raise SettingError(
            f"--device: got {name!r}; expected auto, cpu, cuda or cuda:N ({said}). Leave it out for auto."
        ) from error
    return device


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number format of the forward pass; ``auto`` takes bfloat16 where the hardware computes in it."""
    if precision is not Precision.AUTO:
        return getattr(torch, precision)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = device.type == "cpu" and _cpu_computes_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_computes_bfloat16() -> bool:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def extract_features(
    folder: ImageFolder,
    keys: Sequence[str],
    backbone: Backbone,
    config: FeatureConfig,
    *,
    device: torch.device,
    progress: Progress,
) -> FeatureMatrix:
    """Return the features of the images `keys` in `folder`, computing only those that are not stored yet.

    Raises
    ------
    TrainingError
        When the backbone gives features that are not finite.
    """
    dtype = choose_dtype(config.precision, device)
    cache = cache_folder(config.cache_dir)
    store = FeatureStore(cache, _identity(backbone, dtype), backbone.dim)
    files = FileDigests(cache, folder.root)
    states = [_file_state(folder.path(key)) for key in keys]
    digests = [files.get(key, state) for key, state in zip(keys, states, strict=True)]
    todo = [i for i, digest in enumerate(digests) if digest is None or digest not in store]
    todo.sort(key=lambda i: keys[i])
    unreadable: dict[int, str] = {}
    decoded = 0
    if todo:
        dataset = _ImageFiles([folder.path(keys[i]) for i in todo], backbone, store.known())
        forward = FrozenNetwork(backbone, device, dtype)
        with (
            _PartWriter(store) as writer,
            progress.stage("Computing features", len(todo), "images") as advance,
            forward.context(),
        ):
            for batch in _batches(dataset, config, device):
                for place, digest in batch.digests:
                    digests[todo[place]] = digest
                unreadable.update((todo[place], reason) for place, reason in batch.unreadable)
                if batch.pixels is not None:
                    writer.add(batch.pixel_digests, forward(batch.pixels))
                    decoded += len(batch.pixels)
                advance(batch.size)
        files.remember((keys[i], states[i], digests[i]) for i in todo if i not in unreadable)
    readable = [i for i in range(len(keys)) if i not in unreadable]
    values = np.zeros((len(keys), backbone.dim), np.float16)
    values[readable] = store.take([_known(digests[i]) for i in readable])
    return FeatureMatrix(
        values=values,
        unreadable=unreadable,
        decoded=decoded,
        digest=_digest_of_all(sorted((keys[i], _known(digests[i])) for i in readable)),
        precision=str(dtype).removeprefix("torch."),
    )


def _known(digest: bytes | None) -> bytes:
    assert digest is not None, "every readable image has a digest"
    return digest


def _digest_of_all(files: list[tuple[str, bytes]]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for key, digest in files:
        total.update(key.encode("utf-8", "surrogateescape") + b"\0" + digest)
    return total.hexdigest()


def _identity(backbone: Backbone, dtype: torch.dtype) -> dict[str, Any]:
    described = {
        f.name: getattr(backbone, f.name) for f in fields(backbone) if f.name not in ("module", "name")
    }
    return {**described, "dtype": str(dtype), "pipeline": PIPELINE_VERSION, "timm": timm.__version__}


def _file_state(path: str) -> FileState | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns)


# ----------------------------------------------------------------------------------------- decoding in workers


def square_transform(side: int, interpolation: str) -> Callable[[Image.Image], np.ndarray]:
    """Return the transform that every network sees images through: to (3, side, side) uint8."""
    return transforms_imagenet_eval(
        img_size=side,
        crop_pct=1.0,  # label errors are judged on the whole picture
        interpolation=interpolation,
        use_prefetcher=True,  # leaves uint8; normalisation happens on the device
    )


def start_worker(_: int) -> None:
    """Set up a process that decodes images."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    torch.set_num_threads(1)


class _ImageFiles(Dataset):
    """Yields (digest, pixels): pixels is (3, side, side) uint8, None where stored already, or `Unreadable`."""

    def __init__(self, paths: list[str], backbone: Backbone, stored: frozenset[bytes]):
        self.paths = paths
        self.stored = stored
        self.side = backbone.side
        self.transform = square_transform(backbone.side, backbone.interpolation)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[bytes | None, torch.Tensor | Unreadable | None]:
        try:
            with open(self.paths[place], "rb") as file:
                content = file.read()
        except OSError as error:
            return None, Unreadable(f"cannot be opened ({error.strerror})")
        digest = content_digest(content)
        if digest in self.stored:
            return digest, None
        image = decode_image(content, self.side)
        if isinstance(image, Unreadable):
            return digest, image
        return digest, torch.from_numpy(np.ascontiguousarray(self.transform(image)))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    size: int
    digests: list[tuple[int, bytes]]
    unreadable: list[tuple[int, str]]
    pixel_digests: list[bytes]
    pixels: torch.Tensor | None  # (B, 3, side, side) uint8


class _Collate:
    """Puts a batch together in the worker; a picklable callable, for start methods other than fork."""

    def __call__(self, items: list[tuple[int, tuple[bytes | None, Any]]]) -> _Batch:
        pixels = [(digest, v) for _, (digest, v) in items if digest and isinstance(v, torch.Tensor)]
        return _Batch(
            size=len(items),
            digests=[(place, digest) for place, (digest, _) in items if digest],
            unreadable=[(p, v.reason) for p, (_, v) in items if isinstance(v, Unreadable)],
            pixel_digests=[digest for digest, _ in pixels],
            pixels=torch.stack([value for _, value in pixels]) if pixels else None,
        )


class _Numbered(Dataset):
    def __init__(self, dataset: _ImageFiles):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> tuple[int, tuple[bytes | None, Any]]:
        return place, self.dataset[place]


def _batches(dataset: _ImageFiles, config: FeatureConfig, device: torch.device) -> Iterator[_Batch]:
    workers = min(8, os.cpu_count() or 1) if config.workers is None else config.workers
    workers = min(workers, len(dataset) // config.inference_batch)  # not worth starting for a batch or two
    return iter(
        DataLoader(
            _Numbered(dataset),
            batch_size=config.inference_batch,
            num_workers=workers,
            collate_fn=_Collate(),
            worker_init_fn=start_worker,
            pin_memory=device.type == "cuda",
        )
    )


# --------------------------------------------------------------------------------------------- the forward pass


class FrozenNetwork:
    """A backbone on a device, from pixels to features.

    Parameters
    ----------
    backbone
        Its module moves to `device`.
    dtype
        Number format of the forward pass.
    """

    def __init__(self, backbone: Backbone, device: torch.device, dtype: torch.dtype):
        self.name = backbone.name
        self.device = device
        self.dtype = dtype
        self.module = backbone.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = torch.tensor(backbone.mean, device=device).mul(255).view(3, 1, 1)
        self.std = torch.tensor(backbone.std, device=device).mul(255).view(3, 1, 1)

    def context(self) -> Any:
        """Hold autocast open over all batches, so that the weights are cast once."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> np.ndarray:
        """Return the features of (B, 3, side, side) uint8 pixels as (B, D) float16.

        Raises
        ------
        TrainingError
            When they are not finite.
        """
        images = pixels.to(self.device, non_blocking=True).to(torch.float32)
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = self.module(images).float()
        largest = torch.finfo(torch.float16).max
        if not torch.isfinite(features).all():
            raise TrainingError(
                f"backbone {self.name!r}: gives features that are not finite numbers. Try --precision float32, "
                "or other weights."
            )
        return features.clamp(-largest, largest).to(torch.float16).cpu().numpy()


class _PartWriter:
    """Gathers features and stores them in parts of a few thousand, so that a killed run loses little."""

    def __init__(self, store: FeatureStore):
        self.store = store
        self.digests: list[bytes] = []
        self.features: list[np.ndarray] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()  # after Ctrl-C too: what was computed is kept

    def add(self, digests: Sequence[bytes], features: np.ndarray) -> None:
        self.digests.extend(digests)
        self.features.append(features)
        if len(self.digests) >= ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        if self.digests:
            self.store.add(self.digests, np.concatenate(self.features))
        self.digests, self.features = [], []
