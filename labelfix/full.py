"""``--train full``: from a folder of images to evidence for the verdict, by MSLG on the network itself.

What each image is for, and which trusted labels training never sees, is `labelfix.roles`; the loop is
`labelfix.training`. Here the stages are joined: decode, train one network per fold with checkpoints, and ask the
networks about every image. The features of the backbone as it was before training are kept beside, for the
evidence that is fitted to frozen features.

N images with a given label, E extra trusted ones, P = N + E, K classes, F folds, D features.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

import labelfix
from labelfix.augmentation import Augmentation
from labelfix.backbones import Backbone, load_backbone, trainable_network
from labelfix.checkpoints import GO_ON, Checkpoints, Stopped, StopRequest, stop_on_signals
from labelfix.config import CleanConfig, Precision, option_owners
from labelfix.dataset import LabelTable
from labelfix.errors import InputError, TrainingError
from labelfix.features import FrozenNetwork, choose_device, choose_dtype
from labelfix.folds import assign_folds, hash_keys
from labelfix.history import EpochRow, Watcher, watching, write_history
from labelfix.images import ImageFolder
from labelfix.pixels import PixelSource, PixelStore, decode_images, describe
from labelfix.progress import Progress
from labelfix.roles import Roles, roles_of_fold, roles_of_one
from labelfix.rundir import RunDirectory
from labelfix.training import NetworkTask, NetworkTraining, predict, random_seed

__all__ = ["FullData", "FullEvidence", "Gathered", "gather_full", "train_folds"]

CALIBRATION_FOLDS = 5
# Options that do not change what a network becomes: a run may be resumed with other values.
FREE_OPTIONS = ("cache_dir", "pixel_budget", "soft_label_top_k", "workers")


@dataclass(frozen=True, kw_only=True)
class FullData:
    """What the networks learn from.

    Attributes
    ----------
    pixels
        Images 0 to P - 1; those with a given label come first.
    given
        (N,) given labels.
    trusted
        (P,) trusted labels, -1 where there is none.
    hashes
        (P,) from `labelfix.folds.hash_keys`; they decide folds and order.
    num_classes
        K.
    """

    pixels: PixelStore
    given: np.ndarray
    trusted: np.ndarray
    hashes: np.ndarray
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class FullEvidence:
    """What the networks say about every image with a given label.

    Attributes
    ----------
    probs
        (N, K) float32: class probabilities; of networks that did not train on the image, with several folds.
    fold
        (N,) int32: within which the verdict holds out.
    calibrating
        (N,) bool: trusted rows that the verdict may learn and measure from.
    """

    probs: np.ndarray
    fold: np.ndarray
    calibrating: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """`gather_full`'s evidence, with the table of the readable images, why not the others, and a record.

    `features` are those of the backbone before training, (P, D) float16.
    """

    table: LabelTable
    evidence: FullEvidence
    features: np.ndarray
    unreadable: dict[str, str]
    record: dict[str, Any]


def gather_full(
    folder: ImageFolder,
    table: LabelTable,
    config: CleanConfig,
    run: RunDirectory,
    *,
    resume: bool,
    progress: Progress,
) -> Gathered:
    """Decode the images, train the network of `config` on them and return its evidence.

    Raises
    ------
    LabelfixError
        When nothing is trusted, the backbone cannot be had, checkpoints belong to another run, or training
        leaves the finite numbers.
    """
    if not (table.trusted >= 0).any() and not len(table.extra_trusted):
        raise InputError(
            "--train full: there is no trusted label, and MSLG moves labels by trusted images alone. "
            "Give some with --trusted, or use --train head."
        )
    device = choose_device(config.device)
    settings = config.features
    backbone = load_backbone(
        settings.backbone, checkpoint=settings.checkpoint, image_size=settings.image_size
    )
    keys = table.keys.to_pylist() + table.extra_keys.to_pylist()
    source = PixelSource(
        paths=[folder.path(key) for key in keys],
        side=backbone.side,
        interpolation=backbone.interpolation,
        workers=settings.workers,
    )
    checkpoint_folder = Checkpoints.folder_in(run.path)
    decoded = decode_images(
        source, checkpoint_folder, budget=config.full.pixel_budget, device=device, progress=progress
    )
    names = table.images.to_pylist() + table.extra_keys.to_pylist()
    unreadable = {names[row]: reason for row, reason in sorted(decoded.unreadable.items())}
    if unreadable:
        progress.note(f"warning: {len(unreadable):,} images could not be read; see quarantine.parquet.")
    said = describe(decoded, keys)
    readable = np.ones(len(keys), bool)
    readable[list(decoded.unreadable)] = False
    table = table.only(readable)
    keys = table.keys.to_pylist() + table.extra_keys.to_pylist()
    data = FullData(
        pixels=_Renumbered(decoded.store, torch.from_numpy(np.flatnonzero(readable))),
        given=table.given,
        trusted=np.concatenate([table.trusted, table.extra_trusted]),
        hashes=hash_keys(keys, config.seed),
        num_classes=len(table.classes),
    )
    identity = _identity(table, config, backbone, said["images_digest"], device)
    run.mark_unfinished()  # else the checkpoints would pass for what a finished run left
    checkpoints = Checkpoints.open(run.path, identity, resume=resume)
    evidence = train_folds(data, backbone, config, checkpoints, device=device, run=run, progress=progress)
    features = _frozen_features(data, backbone, config, device, progress)
    record = {
        "backbone": backbone.name,
        "weights_digest": backbone.weights_digest,
        "image_size": backbone.side,
        "precision": str(_training_dtype(config, device) or torch.float32).removeprefix("torch."),
        "held_out_rows": int(evidence.calibrating.sum()),
        **said,
    }
    return Gathered(table=table, evidence=evidence, features=features, unreadable=unreadable, record=record)


class _Renumbered:
    """A store without the unreadable images."""

    def __init__(self, store: PixelStore, kept: Tensor):
        self.store = store
        self.kept = kept

    def batches(self, rows: Any) -> Any:
        return self.store.batches([self.kept[batch] for batch in rows])


def _identity(
    table: LabelTable, config: CleanConfig, backbone: Backbone, images_digest: str, device: torch.device
) -> dict[str, Any]:
    """What must be the same for a run to be continued."""
    owners = option_owners()
    options = {
        f"--{name.replace('_', '-')}": value
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


def _frozen_features(
    data: FullData, backbone: Backbone, config: CleanConfig, device: torch.device, progress: Progress
) -> np.ndarray:
    """Features (P, D) float16 of all images from the backbone as it was before training."""
    network = FrozenNetwork(backbone, device, _training_dtype(config, device) or torch.float32)
    chunks = torch.arange(len(data.trusted)).split(config.features.inference_batch)
    with progress.stage("Computing features", len(data.trusted), "images") as advance, network.context():
        parts = []
        for pixels in data.pixels.batches(chunks):
            parts.append(network(pixels))
            advance(len(pixels))
    return np.concatenate(parts)


def _training_dtype(config: CleanConfig, device: torch.device) -> torch.dtype | None:
    """Number format of the forward passes; ``auto`` is bfloat16 on a GPU that computes in it, else float32."""
    precision = config.features.precision
    if precision is Precision.AUTO and device.type != "cuda":
        return None
    dtype = choose_dtype(precision, device)
    return None if dtype is torch.float32 else dtype


# ------------------------------------------------------------------------------------------------------ training


def train_folds(
    data: FullData,
    backbone: Backbone,
    config: CleanConfig,
    checkpoints: Checkpoints,
    *,
    device: torch.device,
    run: RunDirectory,
    progress: Progress,
) -> FullEvidence:
    """Train one network per fold, each from its checkpoint where there is one, and return their evidence.

    Raises
    ------
    TrainingError
        When training leaves the finite numbers.
    Stopped
        When SIGINT or SIGTERM asked to stop; the state has been saved.
    KeyboardInterrupt
        When a second one did not wait for that.
    """
    num_folds, num_given = config.head.folds, len(data.given)
    strata = np.where(data.trusted[:num_given] >= 0, data.trusted[:num_given], data.num_classes)
    fold = assign_folds(data.hashes[:num_given], strata, num_folds if num_folds > 1 else CALIBRATION_FOLDS)
    calibrating = strata < data.num_classes
    probs = np.zeros((num_given, data.num_classes), np.float32)
    history: list[EpochRow] = []
    with stop_on_signals() as stop, watching(progress) as watch:
        for number in range(num_folds):
            roles = _roles(data, fold, number, config)
            if num_folds == 1:
                calibrating = np.isin(np.arange(num_given), roles.held_out)
            asked = np.arange(num_given) if num_folds == 1 else np.flatnonzero(fold == number)
            task = _task(data, roles, backbone, config, number, device)
            fitted = _FoldRun(task, backbone, config, checkpoints, run, stop, watch, progress)
            result = fitted.finish(asked, history)
            history += [EpochRow(**row) for row in result["history"]]
            probs[asked] = result["probs"].numpy()
            if stop.requested:  # since the last step of training
                trained = "the training" if num_folds == 1 else f"the training of fold {number + 1}"
                raise Stopped(f"saved after {trained}. {GO_ON}")
    write_history(run.path, history)
    return FullEvidence(probs=probs, fold=fold, calibrating=calibrating)


def _roles(data: FullData, fold: np.ndarray, number: int, config: CleanConfig) -> Roles:
    labels, full = (data.given, data.trusted, data.hashes), config.full
    if config.head.folds == 1:
        return roles_of_one(*labels, held_out_share=full.held_out_share, role=full.trusted_role)
    return roles_of_fold(*labels, fold=fold, number=number, role=full.trusted_role)


def _task(
    data: FullData, roles: Roles, backbone: Backbone, config: CleanConfig, fold: int, device: torch.device
) -> NetworkTask:
    return NetworkTask(
        pixels=data.pixels,
        roles=roles,
        num_images=len(data.trusted),
        num_classes=data.num_classes,
        augmentation=Augmentation(config.full.augment, backbone.mean, backbone.std, device),
        loop=config.head,
        full=config.full,
        seed=config.seed,
        fold=fold,
        device=device,
        autocast_dtype=_training_dtype(config, device),
    )


@dataclass(frozen=True)
class _FoldRun:
    """One network: from its checkpoint, or the start, to its result."""

    task: NetworkTask
    backbone: Backbone
    config: CleanConfig
    checkpoints: Checkpoints
    run: RunDirectory
    stop: StopRequest
    watch: Watcher
    progress: Progress

    def finish(self, asked: np.ndarray, earlier: list[EpochRow]) -> dict[str, Any]:
        """Return history, probabilities of the images `asked` and label logits, training what is missing."""
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
            write_history(self.run.path, [*earlier, *training.history])
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
            raise Stopped(f"saved {_where(training)}. {GO_ON}") from None
        except KeyboardInterrupt:
            last = f"the last checkpoint was saved {saved[-1]}" if saved else "no epoch of it is saved yet"
            raise KeyboardInterrupt(f"training the network: {last}. {GO_ON}") from None
        chunks = torch.from_numpy(asked).split(self.config.features.inference_batch)
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
