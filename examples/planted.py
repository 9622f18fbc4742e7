"""What the experiments share: image data from LABELFIX_DATA, planted label noise, and three ways to train.

With a folder to keep them in, every finished run and every epoch of an unfinished one are saved: the same command
goes on where it was stopped, or killed.

Shape suffixes: N rows, K classes.
"""

import argparse
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from labelfix.images.augmentation import Augmentation
from labelfix.images.pixel_store import HeldPixels
from labelfix.settings import Augment, FullConfig, NetworkConfig, Schedule
from labelfix.system.files import replace_file
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.data_split import DataSplit
from labelfix.training.epoch_log import EpochRow
from labelfix.training.network import NetworkTraining
from labelfix.training.network_task import NetworkTask, predict


def data_folder() -> Path:
    """Return the folder that LABELFIX_DATA names."""
    folder = os.environ.get("LABELFIX_DATA")
    if not folder:
        raise SystemExit("Set LABELFIX_DATA to the folder that holds the data sets (see its README).")
    return Path(folder)


def read_images(name: str, split: str, rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, S, S, channels) uint8 and labels (N,) of some rows of one split, in its order."""
    table = pq.read_table(data_folder() / f"{name}.parquet", filters=[("split", "=", split)])
    numbers = np.arange(table.num_rows)[rows]
    table = table.take(numbers)
    images = [np.asarray(Image.open(io.BytesIO(content))) for content in table["image"].to_pylist()]
    pixels = np.stack(images)
    return pixels.reshape(*pixels.shape[:3], -1), table["label"].to_numpy().astype(np.int64)


class Kept:
    """Checkpoints of one comparison, or of nothing."""

    def __init__(self, checkpoints: Checkpoints | None, prefix: str):
        self.checkpoints = checkpoints
        self.prefix = prefix

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep `state` under `name`."""
        if self.checkpoints is not None:
            self.checkpoints.save(f"{self.prefix}-{name}", state)

    def load(self, name: str) -> dict[str, Any] | None:
        """Return what was kept under `name`, None where there is nothing."""
        return None if self.checkpoints is None else self.checkpoints.load(f"{self.prefix}-{name}")


NOTHING_KEPT = Kept(None, "")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One noisy training set, its trusted images, and a test set.

    Attributes
    ----------
    pixels
        (P, S, S, channels) uint8: training images, then trusted ones, then those of the test.
    given, trusted, test
        Labels of the three parts, (N,), (M,) and (T,).
    """

    pixels: np.ndarray
    given: np.ndarray
    trusted: np.ndarray
    test: np.ndarray
    network: Callable[[], nn.Module]
    augment: Augment
    device: torch.device
    autocast_dtype: torch.dtype | None
    num_classes: int = 10

    def compare(
        self,
        loop: NetworkConfig,
        full: FullConfig,
        schedules: list[Schedule],
        seed: int,
        kept: Kept = NOTHING_KEPT,
    ) -> Iterator[dict[str, Any]]:
        """Train with cross-entropy and with MSLG under each schedule, from one initialisation.

        The warm-up is the same for all, so it is run once, within the cross-entropy run. Yields a dictionary as
        soon as it is there: method, seed, test_accuracy, labels (N,), history, and seconds, of all its epochs.
        """
        torch.manual_seed(seed)
        initial = self.network().state_dict()
        after_warm_up: dict[str, Any] = {}

        def keep(state: dict[str, Any]) -> None:
            if state["epoch"] == loop.warmup_epochs:
                after_warm_up.update(_copied(state))
                kept.save("warm-up", after_warm_up)

        plain = replace(loop, warmup_epochs=loop.epochs)
        yield self._train("cross-entropy", initial, None, plain, full, seed, kept, keep)
        after_warm_up = after_warm_up or kept.load("warm-up") or {}
        for schedule in schedules:
            options = replace(full, schedule=schedule)
            yield self._train(str(schedule), initial, after_warm_up, loop, options, seed, kept)

    def _train(
        self,
        method: str,
        initial: dict[str, Any],
        state: dict[str, Any] | None,
        loop: NetworkConfig,
        full: FullConfig,
        seed: int,
        kept: Kept,
        also: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> dict[str, Any]:
        result = kept.load(f"{method}-result")
        if result is not None:
            return {**result, "labels": result["labels"].numpy(), "history": _rows(result["history"])}
        model = self.network()
        model.load_state_dict(initial)
        model.to(self.device, memory_format=torch.channels_last)
        task = self._task(loop, full, seed)
        training = NetworkTraining(model, task)
        state = kept.load(method) or state
        if state:
            training.restore(_copied(state))

        def save(state: dict[str, Any]) -> None:
            also(state)
            kept.save(method, state)

        training.run(save=save)
        first = len(self.given) + len(self.trusted)
        chunks = torch.arange(first, first + len(self.test)).split(512)
        predicted = torch.cat([p.argmax(1).cpu() for p in predict(model, task, chunks)]).numpy()
        labels = training.label_logits_PK[: len(self.given)].argmax(1).cpu()
        result = {
            "method": method,
            "seed": seed,
            "test_accuracy": float((predicted == self.test).mean()),
            "labels": labels,
            "seconds": sum(row.seconds for row in training.history),
            "history": [asdict(row) for row in training.history],
        }
        kept.save(f"{method}-result", result)
        return {**result, "labels": labels.numpy(), "history": training.history}

    def _task(self, loop: NetworkConfig, full: FullConfig, seed: int) -> NetworkTask:
        num_given, num_trusted = len(self.given), len(self.trusted)
        channels = self.pixels.shape[-1]
        mean, std = [0.5] * channels, [0.25] * channels
        nothing = np.empty(0, np.int64)
        return NetworkTask(
            pixels=HeldPixels(self._stored(), self.device),
            split=DataSplit(
                train=np.arange(num_given),
                labels=self.given,
                fixed=np.zeros(num_given, bool),
                meta=np.arange(num_given, num_given + num_trusted),
                meta_labels=self.trusted,
                held_out=nothing,
                held_out_labels=nothing,
            ),
            num_images=num_given + num_trusted,
            num_classes=self.num_classes,
            augmentation=Augmentation(self.augment, mean, std, self.device),
            loop=loop,
            full=full,
            seed=seed,
            fold=0,
            device=self.device,
            autocast_dtype=self.autocast_dtype,
        )

    def _stored(self) -> Any:
        return torch.from_numpy(self.pixels).to(self.device) if self.device.type == "cuda" else self.pixels


def _rows(history: list[dict[str, Any]]) -> list[EpochRow]:
    return [EpochRow(**row) for row in history]


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def paired_interval(differences: np.ndarray, coverage: float = 0.95) -> tuple[float, float, float]:
    """Return mean, low and high of paired differences (n,), by Student's t."""
    from scipy import stats

    mean = float(differences.mean())
    if len(differences) < 2:
        return mean, float("-inf"), float("inf")
    half = stats.t.ppf(0.5 + coverage / 2, len(differences) - 1) * differences.std(ddof=1)
    return mean, mean - half / len(differences) ** 0.5, mean + half / len(differences) ** 0.5


def hardware() -> dict[str, str]:
    """Return what the figures were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "device": device,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def recorded_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what was asked for, without where it went: a result says nothing of the machine's folders."""
    return {name: str(value) for name, value in vars(arguments).items() if name != "out"}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a file, atomically."""
    text = json.dumps(content, indent=2) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
