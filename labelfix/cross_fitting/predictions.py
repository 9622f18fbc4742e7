"""Out-of-fold predictions for every image: from a matrix, from heads on frozen features, or from networks.

N images with a given label, E extra trusted ones, K classes, D features.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelfix.cross_fitting.duplicates import contradictions, duplicate_groups
from labelfix.cross_fitting.self_training import self_trained_predictions
from labelfix.errors import InputError
from labelfix.images.backbones import Backbone, load_backbone
from labelfix.images.features import extract_features
from labelfix.images.folder import ImageFolder
from labelfix.images.loading import ImageSource
from labelfix.images.pixel_store import decode_images
from labelfix.images.quarantine import quarantine
from labelfix.inputs import LabelTable
from labelfix.inputs.matrices import Matrix
from labelfix.settings import CleanConfig, Kind, Train
from labelfix.system.clock import Clock
from labelfix.system.devices import choose_device
from labelfix.system.folds import hash_keys, stratified_folds
from labelfix.system.progress import Progress
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fitted_network import (
    LabelledPixels,
    data_splits,
    frozen_features,
    run_identity,
    train_folds,
    training_dtype,
)
from labelfix.training.linear_head import LabelledFeatures, cross_fit_head

__all__ = ["OutOfFoldPredictions", "predict_out_of_fold"]

# With one network there are no folds of training; the verdict still holds out within so many.
FOLDS_OF_ONE_NETWORK = 5


@dataclass(frozen=True, kw_only=True)
class OutOfFoldPredictions:
    """What is predicted for each image without its own labels, and how it came about.

    Attributes
    ----------
    table
        The labels of the N images that could be read; row i of every array below is its image i.
    probs
        (N, K) float32: class probabilities of the first predictor.
    evidence
        (N, K) float32 of every other predictor, by name.
    fold
        (N,) int32: predictions for fold f use no trusted label of fold f (cross-fitting).
    calibration_set
        (N,) bool: sampled trusted rows whose given and trusted labels training did not see together; the verdict
        learns from these and is measured on them. Hand-picked rows are not among them.
    group
        (N,) the first image of each image's group of duplicates; None where nothing is known of images.
    features
        (N + E, D) of the frozen backbone, those of the extra trusted images last; None where there are none.
    quarantine
        Name of every image that is not in `table` -> why.
    record
        What ``run.json`` says of it.
    """

    table: LabelTable
    probs: np.ndarray
    fold: np.ndarray
    calibration_set: np.ndarray
    quarantine: dict[str, str]
    record: dict[str, Any]
    evidence: dict[str, np.ndarray] = field(default_factory=dict)
    features: np.ndarray | None = None
    group: np.ndarray | None = None

    @property
    def calibration_rows(self) -> np.ndarray:
        """Numbers of the images of the calibration set, ascending."""
        return np.flatnonzero(self.calibration_set)


def predict_out_of_fold(
    source: ImageFolder | Matrix,
    kind: Kind,
    table: LabelTable,
    config: CleanConfig,
    out: Path,
    *,
    resume: bool,
    clock: Clock,
    progress: Progress,
) -> OutOfFoldPredictions:
    """Predict the class of every image in the way that the configuration says.

    Parameters
    ----------
    source, kind
        The images, or the matrix, and what it holds.
    table
        The validated labels; images that turn out to be unreadable are not in the one that is returned.
    out
        The run directory, where the training of networks keeps its checkpoints.
    resume
        Go on from these checkpoints.

    Raises
    ------
    LabelfixError
        When the backbone cannot be had, too few images are left, checkpoints belong to another run, or training
        leaves the finite numbers.
    """
    if config.train is Train.FULL:
        assert isinstance(source, ImageFolder)
        with clock.time("training"):
            return _from_networks(source, table, config, out, resume=resume, progress=progress)
    if isinstance(source, ImageFolder):
        with clock.time("features"):
            matrix, backbone, table, quarantined = _image_features(source, table, config, progress)
        record = {
            "kind": str(kind),
            **_backbone_record(backbone),
            "precision": matrix.precision,
            "images_digest": matrix.digest,
            "images_decoded": matrix.decoded,
        }
        values = matrix.values
    else:
        values, table = source.aligned(table, progress)
        quarantined = dict.fromkeys(table.missing, "there is no such file")
        record = {"kind": str(kind)}
    with clock.time("training"):
        if kind is Kind.PROBS:
            return _from_probabilities(values, table, config, quarantined, record)
        return _from_features(values, table, config, quarantined, record, progress)


# ------------------------------------------------------------------------------------------- frozen features


def _image_features(folder: ImageFolder, table: LabelTable, config: CleanConfig, progress: Progress) -> Any:
    """Return the features of the readable images, the backbone, the table of these images, and why not others."""
    backbone = _load(config)
    device = choose_device(config.device)
    matrix = extract_features(
        folder, table.every_key, backbone, config.features, device=device, progress=progress
    )
    readable, quarantined = quarantine(table, matrix, progress)
    return matrix, backbone, readable, quarantined


def _from_features(
    features: np.ndarray,
    table: LabelTable,
    config: CleanConfig,
    quarantined: dict[str, str],
    record: dict[str, Any],
    progress: Progress,
) -> OutOfFoldPredictions:
    _check_size(table, config)
    table, group = _grouped(table, features, progress)
    hashes, fold = _folds(table, config.seed, config.head.folds, group)
    data = _labelled_features(table, features, hashes)
    device = choose_device(config.device)
    mslg = cross_fit_head(data, fold, config.head, seed=config.seed, device=device, progress=progress)
    evidence = _self_trained(data, fold, config, device, progress)
    return OutOfFoldPredictions(
        table=table,
        probs=evidence.pop("given"),
        evidence={**evidence, "mslg": mslg},
        fold=fold,
        calibration_set=table.is_pair & ~table.is_hand_picked,
        features=features,
        group=group,
        quarantine=quarantined,
        record=record,
    )


def _labelled_features(table: LabelTable, features: np.ndarray, hashes: np.ndarray) -> LabelledFeatures:
    return LabelledFeatures(
        features=features,
        given=table.given,
        trusted=table.every_trusted,
        hashes=hashes,
        num_classes=len(table.classes),
        trusted_count=table.trusted_count,
    )


def _self_trained(
    data: LabelledFeatures, fold: np.ndarray, config: CleanConfig, device: torch.device, progress: Progress
) -> dict[str, np.ndarray]:
    return self_trained_predictions(
        data, fold, prior_rows=config.verdict.prior_rows, device=device, progress=progress
    )


# ---------------------------------------------------------------------------------------- given probabilities


def _from_probabilities(
    probs: np.ndarray,
    table: LabelTable,
    config: CleanConfig,
    quarantined: dict[str, str],
    record: dict[str, Any],
) -> OutOfFoldPredictions:
    _check_size(table, config)
    if probs.shape[1] != len(table.classes):
        raise InputError(
            f"the matrix has {probs.shape[1]} columns, but there are {len(table.classes)} classes "
            f"({', '.join(table.classes[:5])}, …). Name the columns' classes in order with --classes."
        )
    _, fold = _folds(table, config.seed, config.head.folds)
    return OutOfFoldPredictions(
        table=table,
        probs=probs[: table.num_images],
        fold=fold,
        calibration_set=table.is_pair & ~table.is_hand_picked,
        quarantine=quarantined,
        record=record,
    )


# --------------------------------------------------------------------------------------------------- networks


def _from_networks(
    folder: ImageFolder,
    table: LabelTable,
    config: CleanConfig,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
) -> OutOfFoldPredictions:
    """Decode the images, train a network per fold on them, and train classifiers on the frozen features too."""
    _check_size(table, config)
    if not table.any_trusted:
        raise InputError(
            "--train full: there is no trusted label, and MSLG moves labels by trusted images alone. "
            "Give some with --trusted, or use --train head."
        )
    device, backbone = choose_device(config.device), _load(config)
    keys = table.every_key
    source = ImageSource(
        paths=[folder.path(key) for key in keys],
        side=backbone.side,
        interpolation=backbone.interpolation,
        workers=config.features.workers,
    )
    budget, kept_in = config.full.pixel_budget, Checkpoints.folder_in(out)
    decoded = decode_images(source, keys, kept_in, budget=budget, device=device, progress=progress)
    table, quarantined = quarantine(table, decoded, progress)
    networks = config.head.folds
    features = frozen_features(decoded.store, len(table.every_key), backbone, config, device, progress)
    table, group = _grouped(table, features, progress)
    hashes, fold = _folds(table, config.seed, networks if networks > 1 else FOLDS_OF_ONE_NETWORK, group)
    data = LabelledPixels(
        pixels=decoded.store,
        given=table.given,
        trusted=table.every_trusted,
        hashes=hashes,
        num_classes=len(table.classes),
        hand_picked=table.is_hand_picked,
        group=group,
    )
    identity = run_identity(table, config, backbone, decoded.digest, device)
    checkpoints = Checkpoints.open(out, identity, resume=resume)
    splits = data_splits(data, fold, config)
    probs = train_folds(data, fold, splits, backbone, config, checkpoints, device=device, progress=progress)
    held_out = np.concatenate([split.held_out for split in splits])
    return OutOfFoldPredictions(
        table=table,
        probs=probs,
        evidence=_self_trained(_labelled_features(table, features, hashes), fold, config, device, progress),
        fold=fold,
        calibration_set=np.isin(np.arange(table.num_images), held_out) & ~table.is_hand_picked,
        features=features,
        group=group,
        quarantine=quarantined,
        record={
            "kind": str(Kind.IMAGES),
            **_backbone_record(backbone),
            "precision": str(training_dtype(config, device) or torch.float32).removeprefix("torch."),
            "held_out_rows": len(held_out),
            "storage": str(decoded.storage),
            "images_digest": decoded.digest,
        },
    )


# ------------------------------------------------------------------------------------------------------ shared


def _load(config: CleanConfig) -> Backbone:
    settings = config.features
    return load_backbone(settings.backbone, checkpoint=settings.checkpoint, image_size=settings.image_size)


def _backbone_record(backbone: Backbone) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "weights_digest": backbone.weights_digest,
        "image_size": backbone.side,
    }


def _grouped(table: LabelTable, features: np.ndarray, progress: Progress) -> tuple[LabelTable, np.ndarray]:
    """Return the groups of duplicates, and the table with a warning where their trusted labels differ."""
    group = duplicate_groups(features[: table.num_images], table.pairs)
    warnings = contradictions(table, group)
    for warning in warnings:
        progress.note(f"warning: {warning}")
    return replace(table, warnings=(*table.warnings, *warnings)), group


def _folds(
    table: LabelTable, seed: int, num_folds: int, group: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes (N + E,) and folds (N,); a group (N,) is in the fold of that row of it with the least hash."""
    hashes = hash_keys(table.every_key, seed)
    fold = stratified_folds(hashes[: table.num_images], table.trusted, num_folds)
    if group is None:
        return hashes, fold
    by_hash = np.argsort(hashes[: table.num_images], kind="stable")
    _, first, inverse = np.unique(group[by_hash], return_index=True, return_inverse=True)
    shared = np.empty_like(fold)
    shared[by_hash] = fold[by_hash[first]][inverse]
    return hashes, shared


def _check_size(table: LabelTable, config: CleanConfig) -> None:
    if table.num_images < max(config.head.folds, 2):
        raise InputError(
            f"{table.num_images} images with a given label can be used; expected at least {config.head.folds}, "
            "one per fold. Check the labels, quarantined images, or lower --folds."
        )
