"""One run of the benchmark: one method on one data set under one noise, measured after every epoch.

The loop is the same for all methods: shuffle, augment, let the method step, measure. The seed of the settings
determines all that is random. Test images choose nothing: the best epoch is the one with the highest accuracy on
trusted images that the method never sees.

N training rows, M trusted rows, K classes.
"""

import math
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import labelfix
from labelfix.benchmark.methods import METHODS, Batch, Method, Task
from labelfix.benchmark.networks import build_network
from labelfix.benchmark.run_data import RunData, prepare_data
from labelfix.benchmark.settings import RunSettings
from labelfix.errors import TrainingError
from labelfix.images.augmentation import Augmentation
from labelfix.system.devices import choose_device
from labelfix.system.hashing import random_seed
from labelfix.training.learning_rate import learning_rate

__all__ = ["execute"]

MEAN, STD = 0.5, 0.25
CHUNK = 512  # images per forward pass of a measurement

Watch = Callable[[int, float], None]


def execute(
    settings: RunSettings, *, folder: Path, device: str = "auto", watch: Watch = lambda epoch, accuracy: None
) -> dict[str, Any]:
    """Run, and return the row of the results file: plain values.

    A run whose loss is no longer finite ends early, with the reason under ``failed`` and null as final accuracies.

    Parameters
    ----------
    folder
        Where the data sets are.
    watch
        Receives every epoch, counted from 1, and its test accuracy.
    """
    torch_device = choose_device(device)
    if torch_device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(torch_device)
    data = prepare_data(settings, folder, torch_device)
    training = _Training(settings, data, torch_device)
    begin, failed = time.perf_counter(), None
    with torch.random.fork_rng([torch_device] if torch_device.type == "cuda" else []):
        try:
            for epoch in range(settings.epochs):
                training.run_epoch(epoch)
                watch(epoch + 1, training.history["test_accuracy"][-1])
        except TrainingError as error:
            failed = str(error)
    history = training.history
    best = int(np.argmax(history["held_out_accuracy"])) if len(data.held_out) and not failed else None
    return {
        "key": settings.key(),
        "settings": settings.as_json(),
        "method_settings": _plain(settings.method_settings()),
        "failed": failed,
        "last": None if failed else history["test_accuracy"][-1],
        "best": None if best is None else history["test_accuracy"][best],
        "best_epoch": None if best is None else best + 1,
        "label_accuracy": history["label_accuracy"][-1] if history["label_accuracy"] and not failed else None,
        "history": history,
        "noise": _describe_noise(data),
        "images": {p: len(data.numbers(p)) for p in ("train", "trusted", "held_out", "test")},
        "seconds": time.perf_counter() - begin,
        "peak_mib": _peak_mib(torch_device),
        "hardware": _hardware(torch_device),
        "versions": {
            "labelfix": labelfix.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


class _Training:
    """The loop of one run, with the measurements of its finished epochs."""

    def __init__(self, settings: RunSettings, data: RunData, device: torch.device):
        self.settings, self.data, self.device = settings, data, device
        self.augmentation = Augmentation(
            settings.augment, [MEAN] * data.channels, [STD] * data.channels, device
        )
        self.autocast_dtype = None if settings.dtype == "float32" else getattr(torch, settings.dtype)
        self.labels_N = torch.from_numpy(data.noise.labels).to(device)
        self.true_N = None if data.true is None else torch.from_numpy(data.true).to(device)
        self.method: Method = METHODS[settings.method](self._task(), settings.method_settings())
        names = ("test_accuracy", "held_out_accuracy", "label_accuracy", "train_loss", "seconds")
        self.history: dict[str, list[float]] = {name: [] for name in names}

    def run_epoch(self, epoch: int) -> None:
        """Train for one epoch, then measure."""
        begin = time.perf_counter()
        torch.manual_seed(random_seed(self.settings.seed, epoch, "masks and shifts"))
        rate = self.method.rate_factor(epoch) * learning_rate(
            self.method.schedule_position(epoch),
            1.0,
            self.settings.learning_rate,
            self.settings.learning_rate_schedule,
        )
        self.method.start_epoch(epoch)
        for optimizer in self.method.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        batches = self._shuffled_batches(epoch)
        losses = []
        for rows, pixels in zip(batches, self.data.pixels.batches(batches), strict=True):
            rows = rows.to(self.device)
            images = self.augmentation(pixels)
            batch = Batch(
                rows=rows, images=images, labels=self.labels_N[rows], epoch=epoch, learning_rate=rate
            )
            losses.append(self.method.step(batch))
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.settings.method}: the loss is not a finite number in epoch {epoch + 1} of "
                f"{self.settings.epochs}. Lower the learning rate or the method's own steps."
            )
        self.method.end_epoch(epoch)
        self._measure(loss, begin)

    def _shuffled_batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Return the training images in random order, in nearly equal batches."""
        numbers = self.data.numbers("train")
        generator = torch.Generator().manual_seed(random_seed(self.settings.seed, epoch, "order"))
        shuffled = numbers[torch.randperm(len(numbers), generator=generator)]
        return shuffled.tensor_split(math.ceil(len(numbers) / self.settings.batch_size))

    def _measure(self, loss: float, begin: float) -> None:
        model = self.method.predictor().eval()
        self.history["test_accuracy"].append(self._accuracy(model, "test", self.data.test))
        if len(self.data.held_out):
            self.history["held_out_accuracy"].append(self._accuracy(model, "held_out", self.data.held_out))
        if self.true_N is not None:
            right = self.method.current_labels() == self.true_N
            self.history["label_accuracy"].append(float(right.float().mean()))
        self.history["train_loss"].append(loss)
        self.history["seconds"].append(time.perf_counter() - begin)

    def _accuracy(self, model: nn.Module, part: str, labels: np.ndarray) -> float:
        predicted = []
        for pixels in self.data.pixels.batches(self.data.numbers(part).split(CHUNK)):
            with torch.inference_mode():
                logits = self.method.forward(self.augmentation.plain(pixels), model)
            predicted.append(logits.argmax(1).cpu())
        return float((torch.cat(predicted).numpy() == labels).mean())

    def _task(self) -> Task:
        settings, data = self.settings, self.data
        trusted = data.numbers("trusted")

        def network(number: int) -> nn.Module:
            with torch.random.fork_rng([]):
                torch.manual_seed(random_seed(settings.seed, number, "weights"))
                model = build_network(
                    settings.network,
                    len(data.classes),
                    channels=data.channels,
                    checkpoint=settings.checkpoint,
                )
            return model.to(self.device).to(memory_format=torch.channels_last)

        def pixels(rows_M: Tensor) -> Tensor:
            return next(iter(data.pixels.batches([trusted[rows_M]])))

        return Task(
            network=network,
            optimizer=lambda parameters: torch.optim.SGD(
                parameters,
                lr=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
            ),
            labels=self.labels_N,
            num_classes=len(data.classes),
            epochs=settings.epochs,
            noise_ratio=math.nan if data.true is None else data.noise.ratio,
            trusted_labels=torch.from_numpy(data.trusted).to(self.device),
            trusted_images=lambda rows_M: self.augmentation(pixels(rows_M)),
            plain_trusted_images=lambda rows_M: self.augmentation.plain(pixels(rows_M)),
            generator=torch.Generator().manual_seed(random_seed(settings.seed, "method")),
            autocast_dtype=self.autocast_dtype,
        )


# ---------------------------------------------------------------------------------------------------- the row


def _plain(settings: Any) -> dict[str, Any]:
    return {
        name: value if not hasattr(value, "value") else str(value) for name, value in vars(settings).items()
    }


def _describe_noise(data: RunData) -> dict[str, Any] | None:
    if data.true is None:
        return None
    return {
        "ratio": data.noise.ratio,
        "tied_rows": data.noise.tied_rows,
        "tied_classes": data.noise.tied_classes,
        "transition": np.round(data.noise.transition, 5).tolist(),
    }


def _peak_mib(device: torch.device) -> float:
    """Return the peak memory: of torch on CUDA, else of this process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _hardware(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
