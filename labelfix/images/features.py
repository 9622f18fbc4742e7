"""From images to features: decode in worker processes, run the backbone in batches, keep what was computed.

P images (those of the label table, then the extra trusted ones), P' of them readable, B images per batch, D
features. Never more than a few batches of images are in memory. Images are computed in the order of their keys, so
that the features of an image do not depend on its position in the label table.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import timm
import torch

from labelfix.errors import TrainingError
from labelfix.images.backbones import Backbone
from labelfix.images.feature_cache import FeatureStore, FileDigests, cache_folder
from labelfix.images.folder import ImageFolder
from labelfix.images.loading import PIPELINE_VERSION, ImageSource, load_batches
from labelfix.images.quarantine import ReadableRows
from labelfix.settings import FeatureConfig
from labelfix.system.devices import choose_dtype
from labelfix.system.hashing import digest_of_all, file_state
from labelfix.system.progress import Progress

__all__ = ["FeatureMatrix", "FrozenNetwork", "extract_features"]

ROWS_PER_PART = 4096


@dataclass(frozen=True, kw_only=True)
class FeatureMatrix(ReadableRows):
    """Features of P images.

    Attributes
    ----------
    values
        (P', D) float16, those of the images `rows`.
    decoded
        How many images were decoded; the rest came from the store.
    digest
        Of the content of all readable images with their keys, 32 hexadecimal digits.
    precision
        Number format of the forward pass.
    """

    values: np.ndarray
    decoded: int
    digest: str
    precision: str


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
    source = ImageSource(
        paths=[folder.path(key) for key in keys],
        side=backbone.side,
        interpolation=backbone.interpolation,
        workers=config.workers,
    )
    states = [file_state(path) for path in source.paths]
    digests = [files.get(key, state) or b"" for key, state in zip(keys, states, strict=True)]
    todo = sorted((i for i, digest in enumerate(digests) if digest not in store), key=keys.__getitem__)
    unreadable: dict[int, str] = {}
    decoded = 0
    if todo:
        forward = FrozenNetwork(backbone, device, dtype)
        batches = torch.tensor(todo).split(config.inference_batch)
        pin_memory = device.type == "cuda"
        with (
            _PartWriter(store) as writer,
            progress.stage("Computing features", len(todo), "images") as advance,
            forward.context(),
        ):
            for batch in load_batches(source, batches, known=store.known(), pin_memory=pin_memory):
                for row, digest in zip(batch.rows, batch.digests, strict=True):
                    digests[row] = digest
                unreadable |= batch.unreadable
                if batch.pixels is not None:
                    features = forward(batch.pixels.permute(0, 3, 1, 2))
                    writer.add([digests[row] for row in batch.pixel_rows], features)
                    decoded += len(batch.pixel_rows)
                advance(len(batch.rows))
        files.remember((keys[i], states[i], digests[i]) for i in todo if i not in unreadable)
    rows = [i for i in range(len(keys)) if i not in unreadable]
    return FeatureMatrix(
        rows=np.array(rows, np.int64),
        unreadable=unreadable,
        values=store.take([digests[i] for i in rows]),
        decoded=decoded,
        digest=digest_of_all((keys[i], digests[i]) for i in rows),
        precision=str(dtype).removeprefix("torch."),
    )


def _identity(backbone: Backbone, dtype: torch.dtype) -> dict[str, Any]:
    described = {
        f.name: getattr(backbone, f.name) for f in fields(backbone) if f.name not in ("module", "name")
    }
    return {**described, "dtype": str(dtype), "pipeline": PIPELINE_VERSION, "timm": timm.__version__}


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
    """Stores features in parts of a few thousand rows, so that a killed run loses little."""

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
