"""One network per fold, trained by MSLG from its checkpoint or from the start, and its predictions for its fold.

What each image is for, and which trusted labels training never sees, is `labelfix.training.data_split`; the loop is
`labelfix.training.network`.

N images with a given label, E extra trusted ones, P = N + E, K classes, F folds, D features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

import labelfix
from labelfix.errors import TrainingError
from labelfix.images.augmentation import Augmentation
from labelfix.images.backbones import Backbone, trainable_network
from labelfix.images.features import FrozenNetwork
from labelfix.images.pixel_store import PixelStore
from labelfix.inputs import LabelTable
from labelfix.settings import CleanConfig, Precision, option_owners
from labelfix.settings.validation import option_name
from labelfix.system.devices import choose_dtype
from labelfix.system.hashing import random_seed
from labelfix.system.progress import Progress
from labelfix.training.checkpoints import RESUME, Checkpoints, Stopped, StopRequest, stop_on_signals
from labelfix.training.data_split import DataSplit, split_of_fold, split_of_one
from labelfix.training.epoch_log import EpochRow, EpochWatcher, watching, write_history
from labelfix.training.network import NetworkTraining
from labelfix.training.network_task import NetworkTask, predict

__all__ = [
    "LabelledPixels",
    "data_splits",
    "frozen_features",
    "run_identity",
    "train_folds",
    "training_dtype",
]

# Options that do not change what a network becomes: a run may be resumed with other values.
FREE_OPTIONS = ("cache_dir", "pixel_budget", "soft_label_top_k", "workers")


@dataclass(frozen=True, kw_only=True)
class LabelledPixels:
    """Pixels with what is known of their labels: what the networks learn from.

    Attributes
    ----------
    pixels
        Images 0 to P - 1; those with a given label come first.
    given
        (N,) given labels.
    trusted
        (P,) trusted labels, -1 where there is none.
    hashes
        (P,) from `labelfix.system.folds.hash_keys`; they decide folds and order.
    num_classes
        K.
    hand_picked
        (N,) bool: trusted rows that a person chose.
    group
        (N,) numbers of groups of duplicates; None takes every image for itself.
    """

    pixels: PixelStore
    given: np.ndarray
    trusted: np.ndarray
    hashes: np.ndarray
    num_classes: int
    hand_picked: np.ndarray
    group: np.ndarray | None = None


def run_identity(
    table: LabelTable, config: CleanConfig, backbone: Backbone, images_digest: str, device: torch.device
) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed from its checkpoints."""
    owners = option_owners()
    options = {
        option_name(name): value
        for name, value in config.options().items()
        if owners[name] != "verdict" and name not in FREE_OPTIONS
    }
    digest = hashlib.blake2b(digest_size=16)
    for part in (table.keys, table.extra_keys):
        digest.update("\0".join(part.to_pylist()).encode("utf-8", "surrogateescape") + b"\n")
    for labels in (table.given, table.trusted, table.extra_trusted):
        digest.update(np.ascontiguousarray(labels, np.int32).tobytes())
    return {
        "options": {**options, "--device": device.type, "--classes": list(table.classes)},
        "the labels": digest.hexdigest(),
        "the images": images_digest,
        "the weights of --backbone": backbone.weights_digest,
        "versions": {
            "labelfix": labelfix.__version__, "timm": timm.__version__, "torch": torch.__version__.split("+")[0]
        },
    }  # fmt: skip


def frozen_features(
    pixels: PixelStore,
    count: int,
    backbone: Backbone,
    config: CleanConfig,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Return features (P, D) float16 of all images, `count`, from the backbone as it was before training."""
    network = FrozenNetwork(backbone, device, training_dtype(config, device) or torch.float32)
    chunks = torch.arange(count).split(config.features.inference_batch)
    with progress.stage("Computing features", count, "images") as advance, network.context():
        parts = []
        for batch in pixels.batches(chunks):
            parts.append(network(batch))
            advance(len(batch))
    return np.concatenate(parts)


def training_dtype(config: CleanConfig, device: torch.device) -> torch.dtype | None:
    """Return the number format of training's forward passes, None for float32.

    ``auto`` is bfloat16 on a GPU that computes in it, else float32.
    """
    precision = config.features.precision
    if precision is Precision.AUTO and device.type != "cuda":
        return None
    dtype = choose_dtype(precision, device)
    return None if dtype is torch.float32 else dtype


# ------------------------------------------------------------------------------------------------------ training


def data_splits(data: LabelledPixels, fold: np.ndarray, config: CleanConfig) -> list[DataSplit]:
    """Return what each image is for in every network: one per fold (N,), or a single one.

    Raises
    ------
    InputError
        When too little is left to train on.
    """
    labels, full = (data.given, data.trusted, data.hashes), config.full
    if config.head.folds == 1:
        return [
            split_of_one(
                *labels,
                hand_picked=data.hand_picked,
                group=data.group,
                held_out_share=full.held_out_share,
                role=full.trusted_role,
            )
        ]
    return [
        split_of_fold(*labels, fold=fold, number=number, role=full.trusted_role)
        for number in range(config.head.folds)
    ]


def train_folds(
    data: LabelledPixels,
    fold: np.ndarray,
    splits: Sequence[DataSplit],
    backbone: Backbone,
    config: CleanConfig,
    checkpoints: Checkpoints,
    *,
    device: torch.device,
    progress: Progress,
) -> np.ndarray:
    """Train a network per split, each from its checkpoint where there is one.

    Returns
    -------
    numpy.ndarray
        (N, K) float32 class probabilities: of networks that did not train on the image, with several of them.

    Raises
    ------
    TrainingError
        When training leaves the finite numbers.
    Stopped
        When SIGINT or SIGTERM asked to stop; the state has been saved.
    KeyboardInterrupt
        When a second one did not wait for that.
    """
    num_given, single = len(data.given), len(splits) == 1
    probs = np.zeros((num_given, data.num_classes), np.float32)
    history: list[EpochRow] = []
    with stop_on_signals() as stop, watching(progress) as watch:
        for number, split in enumerate(splits):
            rows = np.arange(num_given) if single else np.flatnonzero(fold == number)
            task = _task(data, split, backbone, config, number, device)
            fitted = _FoldRun(task, backbone, config, checkpoints, stop, watch, progress)
            result = fitted.finish(rows, history)
            history += [EpochRow(**row) for row in result["history"]]
            probs[rows] = result["probs"].numpy()
            if stop.requested:  # since the last step of training
                trained = "the training" if single else f"the training of fold {number + 1}"
                raise Stopped(f"saved after {trained}. {RESUME}")
    write_history(checkpoints.out, history)
    return probs


def _task(
    data: LabelledPixels,
    split: DataSplit,
    backbone: Backbone,
    config: CleanConfig,
    fold: int,
    device: torch.device,
) -> NetworkTask:
    return NetworkTask(
        pixels=data.pixels,
        split=split,
        num_images=len(data.trusted),
        num_classes=data.num_classes,
        augmentation=Augmentation(config.full.augment, backbone.mean, backbone.std, device),
        loop=config.head,
        full=config.full,
        seed=config.seed,
        fold=fold,
        device=device,
        autocast_dtype=training_dtype(config, device),
    )


@dataclass(frozen=True)
class _FoldRun:
    """One network: from its checkpoint, or the start, to its result."""

    task: NetworkTask
    backbone: Backbone
    config: CleanConfig
    checkpoints: Checkpoints
    stop: StopRequest
    watch: EpochWatcher
    progress: Progress

    def finish(self, rows: np.ndarray, earlier: list[EpochRow]) -> dict[str, Any]:
        """Return history, probabilities of the images `rows` and label logits, training what is missing."""
        name, result_name = f"fold_{self.task.fold}", f"fold_{self.task.fold}_result"
        result = self.checkpoints.load(result_name)
        if result is not None:
            return result
        training = NetworkTraining(self._network(), self.task)
        state = self.checkpoints.load(name)
        if state is not None:
            training.restore(state)
            self.progress.note(f"resumed {_where(training)}.")
        saved = [_where(training)] if state is not None else []

        def save(state: dict[str, Any]) -> None:
            self.checkpoints.save(name, state)
            saved.append(_where(training))

        def watch(row: EpochRow) -> None:
            write_history(self.checkpoints.out, [*earlier, *training.history])
            self.watch.epoch(row, self._epochs_left(row.epoch))

        try:
            training.run(
                save=save,
                stopping=lambda: self.stop.requested,
                watch=watch,
                count=self.watch.step,
                last_checkpoint=str(self.checkpoints.path(name)),
            )
        except Stopped:
            raise Stopped(f"saved {_where(training)}. {RESUME}") from None
        except KeyboardInterrupt:
            last = f"the last checkpoint was saved {saved[-1]}" if saved else "no epoch of it is saved yet"
            raise KeyboardInterrupt(f"training the network: {last}. {RESUME}") from None
        chunks = torch.from_numpy(rows).split(self.config.features.inference_batch)
        probs = torch.cat([p.cpu() for p in predict(training.model, self.task, chunks)])
        if not torch.isfinite(probs).all():
            raise TrainingError(
                f"training the network, fold {self.task.fold + 1}: its probabilities are not finite numbers. "
                "Lower --learning-rate, --alpha or --beta and start over with --force."
            )
        history = training.state()["history"]
        result = {"history": history, "probs": probs}
        self.checkpoints.save(result_name, result)
        self.checkpoints.path(name).unlink(missing_ok=True)
        return result

    def _epochs_left(self, epoch: int) -> dict[str, int]:
        """Return how many epochs of each phase are to come in all folds, after `epoch` of this one."""
        loop, folds = self.task.loop, self.task.loop.folds - self.task.fold - 1
        warm_up = max(0, loop.warmup_epochs - epoch) + folds * loop.warmup_epochs
        return {"warm-up": warm_up, "mslg": loop.epochs - epoch + folds * loop.epochs - warm_up}

    def _network(self) -> nn.Module:
        """Build the network with a new classifier that follows from the seed and the fold."""
        with torch.random.fork_rng([]):
            torch.manual_seed(random_seed(self.task.seed, self.task.fold, "classifier"))
            module = trainable_network(self.backbone, self.task.num_classes)
        return module.to(self.task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _where(training: NetworkTraining) -> str:
    """Say how far a training is, as what it was saved or resumed."""
    task = training.task
    fold = f"fold {task.fold + 1}, " if task.loop.folds > 1 else ""
    if training.step == 0:
        return f"after {fold}epoch {training.epoch}"
    return f"at {fold}epoch {training.epoch + 1}, step {training.step + 1}"
