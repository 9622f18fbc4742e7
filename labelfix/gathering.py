"""Evidence of a run: out-of-fold probabilities of every image, from a matrix, heads, or full training."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelfix.backbones import load_backbone
from labelfix.config import CleanConfig, Kind, Train
from labelfix.dataset import LabelTable
from labelfix.errors import InputError, SettingError
from labelfix.features import choose_device, extract_features
from labelfix.folds import assign_folds, hash_keys
from labelfix.head import CrossFitted, HeadData, cross_fit_head
from labelfix.images import ImageFolder
from labelfix.matrices import Matrix
from labelfix.progress import Progress
from labelfix.record import Clock
from labelfix.retraining import regression_evidence
from labelfix.rundir import HISTORY_FILE, RunDirectory

__all__ = ["Evidence", "decide_training", "gather_evidence"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Out-of-fold probabilities (N, K) of the images that could be read, and how they came about."""

    table: LabelTable
    probs: np.ndarray
    fold: np.ndarray
    quarantine: dict[str, str]
    record: dict[str, Any]
    more: dict[str, np.ndarray] = field(default_factory=dict)  # further evidence (N, K) by name
    features: np.ndarray | None = None  # (N + E, D), where there are any
    calibrating: np.ndarray | None = None  # (N,) bool: trusted rows that training did not see; None: all
    files: tuple[str, ...] = ()  # what training wrote to the run directory by itself

    @property
    def calibrating_pairs(self) -> np.ndarray:
        """Numbers of the images whose given and trusted labels training did not see together, ascending."""
        pairs = self.table.pairs
        return pairs if self.calibrating is None else pairs[self.calibrating[pairs]]


def decide_training(
    config: CleanConfig, options: dict[str, Any], kind: Kind, table: LabelTable
) -> CleanConfig:
    """Return the configuration with ``--train auto`` decided, and the defaults that go with it."""
    train = config.train
    if train is Train.FULL and kind is not Kind.IMAGES:
        raise SettingError(
            f"--train full: SOURCE holds {kind}; expected a folder of images. Use --train head."
        )
    if train is Train.AUTO:
        trusted = bool((table.trusted >= 0).any()) or len(table.extra_trusted) > 0
        on_gpu = choose_device(config.device).type == "cuda"
        train = Train.FULL if kind is Kind.IMAGES and trusted and on_gpu else Train.HEAD
    return CleanConfig.from_options({**options, "train": train})


def gather_evidence(
    origin: ImageFolder | Matrix,
    kind: Kind,
    table: LabelTable,
    config: CleanConfig,
    run: RunDirectory,
    *,
    resume: bool,
    clock: Clock,
    progress: Progress,
) -> Evidence:
    """Compute the evidence in the way that the configuration says.

    Parameters
    ----------
    origin, kind
        The images, or the matrix, and what it holds.
    table
        The validated labels; images that turn out to be unreadable are left out of the one that is returned.
    run
        Where full training keeps its checkpoints.
    """
    if config.train is Train.FULL:
        return _gather_full(origin, table, config, clock, progress, run, resume=resume)
    return _gather(origin, kind, table, config, clock, progress)


def _gather_full(
    origin: ImageFolder | Matrix,
    table: LabelTable,
    config: CleanConfig,
    clock: Clock,
    progress: Progress,
    run: RunDirectory,
    *,
    resume: bool,
) -> Evidence:
    from labelfix.full import gather_full  # training is of no use to the other ways

    assert isinstance(origin, ImageFolder)
    _check_size(table, config)
    with clock.time("training"):
        gathered = gather_full(origin, table, config, run, resume=resume, progress=progress)
        network = gathered.evidence
        data = _head_data(gathered.table, gathered.features, config)
        more = _frozen_evidence(data, network.fold, config, progress)
    return Evidence(
        table=gathered.table,
        probs=network.probs,
        more=more,
        features=gathered.features,
        fold=network.fold,
        quarantine=dict.fromkeys(table.missing, "there is no such file") | gathered.unreadable,
        record={"kind": str(Kind.IMAGES), **gathered.record},
        calibrating=network.calibrating,
        files=(HISTORY_FILE,),
    )


def _gather(
    origin: ImageFolder | Matrix,
    kind: Kind,
    table: LabelTable,
    config: CleanConfig,
    clock: Clock,
    progress: Progress,
) -> Evidence:
    quarantine = dict.fromkeys(table.missing, "there is no such file")
    record: dict[str, Any] = {"kind": str(kind)}
    if isinstance(origin, ImageFolder):
        with clock.time("features"):
            features, table, unreadable, said = _image_features(origin, table, config, progress)
        quarantine |= unreadable
        record |= said
    else:
        features, extra = origin.rows_for(table)
        if len(extra) < len(table.extra_trusted):
            lost = len(table.extra_trusted) - len(extra)
            progress.note(f"warning: {lost:,} trusted images have no row in {origin.name} and are left out.")
        table = table.with_extra(extra)
    _check_size(table, config)
    more: dict[str, np.ndarray] = {}
    with clock.time("training"):
        if kind is Kind.PROBS:
            fitted = _given_probs(features[: table.num_images], table, config)
            probs = fitted.probs
        else:
            data = _head_data(table, features, config)
            device = choose_device(config.device)
            fitted = cross_fit_head(data, config.head, seed=config.seed, device=device, progress=progress)
            more = _frozen_evidence(data, fitted.fold, config, progress)
            probs = more.pop("given")
            more["mslg"] = fitted.probs
    return Evidence(
        table=table,
        probs=probs,
        more=more,
        features=None if kind is Kind.PROBS else features,
        fold=fitted.fold,
        quarantine=quarantine,
        record=record,
    )


def _image_features(
    folder: ImageFolder, table: LabelTable, config: CleanConfig, progress: Progress
) -> tuple[np.ndarray, LabelTable, dict[str, str], dict[str, Any]]:
    """Return features of the readable images, the table without the others, why those, and a record."""
    settings = config.features
    backbone = load_backbone(
        settings.backbone, checkpoint=settings.checkpoint, image_size=settings.image_size
    )
    keys = table.keys.to_pylist() + table.extra_keys.to_pylist()
    matrix = extract_features(
        folder, keys, backbone, settings, device=choose_device(config.device), progress=progress
    )
    names = table.images.to_pylist() + table.extra_keys.to_pylist()
    unreadable = {names[row]: reason for row, reason in sorted(matrix.unreadable.items())}
    if unreadable:
        progress.note(f"warning: {len(unreadable):,} images could not be read; see quarantine.parquet.")
    readable = np.ones(len(keys), bool)
    readable[list(matrix.unreadable)] = False
    record = {
        "backbone": backbone.name,
        "weights_digest": backbone.weights_digest,
        "image_size": backbone.side,
        "precision": matrix.precision,
        "images_digest": matrix.digest,
        "images_decoded": matrix.decoded,
    }
    return matrix.values[readable], table.only(readable), unreadable, record


def _hashes(table: LabelTable, config: CleanConfig) -> np.ndarray:
    return hash_keys(table.keys.to_pylist() + table.extra_keys.to_pylist(), config.seed)


def _head_data(table: LabelTable, features: np.ndarray, config: CleanConfig) -> HeadData:
    return HeadData(
        features=features,
        given=table.given,
        trusted=np.concatenate([table.trusted, table.extra_trusted]),
        hashes=_hashes(table, config),
        num_classes=len(table.classes),
        trusted_count=table.trusted_count,
    )


def _frozen_evidence(
    data: HeadData, fold: np.ndarray, config: CleanConfig, progress: Progress
) -> dict[str, np.ndarray]:
    prior_rows, device = config.verdict.prior_rows, choose_device(config.device)
    return regression_evidence(data, fold, prior_rows=prior_rows, device=device, progress=progress)


def _given_probs(probs: np.ndarray, table: LabelTable, config: CleanConfig) -> CrossFitted:
    if probs.shape[1] != len(table.classes):
        raise InputError(
            f"the matrix has {probs.shape[1]} columns, but there are {len(table.classes)} classes "
            f"({', '.join(table.classes[:5])}, …). Name the columns' classes in order with --classes."
        )
    strata = np.where(table.trusted >= 0, table.trusted, len(table.classes))
    fold = assign_folds(_hashes(table, config)[: table.num_images], strata, config.head.folds)
    return CrossFitted(probs=probs, fold=fold)


def _check_size(table: LabelTable, config: CleanConfig) -> None:
    if table.num_images < max(config.head.folds, 2):
        raise InputError(
            f"{table.num_images} images with a given label can be used; expected at least {config.head.folds}, "
            "one per fold. Check the labels, quarantined images, or lower --folds."
        )
