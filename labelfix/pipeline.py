"""`clean`: the stages joined in one straight line.

    tables -> LabelTable -> features -> cross-fitted heads (MSLG) -> verdict -> Parquet

Every stage is a function of its own that can be called from Python; what passes between them is frozen.
"""

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import labelfix
from labelfix.annotator_model import LabelRows
from labelfix.annotators import vote_likelihood
from labelfix.audit import audit_annotators, weighs_annotators
from labelfix.backbones import load_backbone
from labelfix.config import CleanConfig, Kind, MissingImages, Train
from labelfix.dataset import NO_LABEL, LabelTable, lexical_keys, read_label_table
from labelfix.errors import InputError, SettingError
from labelfix.features import choose_device, extract_features
from labelfix.folds import assign_folds, hash_keys
from labelfix.head import CrossFitted, HeadData, cross_fit_head
from labelfix.images import ImageFolder
from labelfix.matrices import Matrix, infer_kind, read_matrix
from labelfix.neighbours import neighbour_table
from labelfix.posterior import Action, Verdict, verdict
from labelfix.progress import Progress, SilentProgress
from labelfix.report import SUSPECTS_SHOWN, write_report
from labelfix.retraining import regression_evidence
from labelfix.rundir import (
    HISTORY_FILE,
    RunDirectory,
    as_json,
    held_out_table,
    label_row_table,
    noise_matrix_table,
    quarantine_table,
    soft_label_table,
    suspect_table,
)

__all__ = ["CleanResult", "clean"]

PathLike = str | os.PathLike[str]
# Trusted images of either class that the report shows beside a suspect.
NEIGHBOURS = 3
VERSIONED = ("numpy", "pyarrow", "scipy", "scikit-learn", "timm", "torch")


@dataclass(frozen=True, kw_only=True)
class CleanResult:
    """A finished run: the tables of the run directory, and a summary.

    Attributes
    ----------
    out
        The run directory.
    soft_labels, suspects, noise_matrix, quarantine
        Arrow tables, as in the Parquet files of the same names.
    verdict
        The same verdicts as numpy arrays, in the order of `soft_labels`.
    summary
        Counts, estimates with intervals, warnings and timings; what ``--json`` prints.
    annotators
        Arrow table of `labelfix.audit.audit_annotators`; None where the labels name no annotators.
    """

    out: Path
    soft_labels: pa.Table
    suspects: pa.Table
    noise_matrix: pa.Table
    quarantine: pa.Table
    verdict: Verdict
    summary: dict[str, Any]
    annotators: pa.Table | None = None


def clean(
    images: PathLike,
    labels: Any,
    trusted: Any = None,
    out: PathLike = "labelfix-out",
    *,
    force: bool = False,
    resume: bool = False,
    report: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> CleanResult:
    """Find and repair the wrong labels of an image data set.

    Parameters
    ----------
    images
        A folder of images, or a ``.npy`` or ``.parquet`` matrix of features or predicted probabilities.
    labels
        Path or table (pandas, polars, Arrow) with columns ``image``, ``label`` and optionally ``annotator``.
    trusted
        Path or table with ``image`` and ``label`` that someone verified, or a list of them; without it there
        is no calibration and no promise.
    out
        The run directory to write.
    force
        Replace the run that `out` holds.
    resume
        Go on with the unfinished training of the full network in `out`; without one, start from the beginning.
    report
        Write ``report.html`` at the end.
    progress
        Receives how far the run is; None keeps quiet.
    **options
        The fields of `CleanConfig` and its stages, flat: ``image_size=128, seed=1, folds=10, …``.

    Raises
    ------
    LabelfixError
        When an option, the input or the run directory has a fault; nothing has been trained then.
    """
    config = CleanConfig.from_options(options)
    progress = progress or SilentProgress()
    clock = _Clock()
    run = RunDirectory.claim(out, force=force, resume=resume)
    source = Path(images)
    kind = infer_kind(source, config.kind)
    with clock.time("tables"):
        origin = ImageFolder(source) if kind is Kind.IMAGES else read_matrix(source, kind)
        table = read_label_table(
            labels,
            trusted,
            classes=config.classes,
            identify=origin.identify if isinstance(origin, ImageFolder) else lexical_keys,
            skip_missing=config.missing is MissingImages.QUARANTINE,
            trusted_weights=config.trusted_weights,
        )
    for warning in table.warnings:
        progress.note(f"warning: {warning}")
    config = _with_training(config, options, kind, table)
    if config.train is Train.FULL:
        evidence = _gather_full(origin, table, config, clock, progress, run, resume=resume)
    else:
        evidence = _gather(origin, kind, table, config, clock, progress)
    table = evidence.table
    with clock.time("verdict"):
        pairs = table.pairs
        if evidence.calibrating is not None:
            pairs = pairs[evidence.calibrating[pairs]]
        judged = verdict(
            evidence.probs,
            table.given,
            pairs,
            table.trusted[pairs],
            classes=table.classes,
            folds=evidence.fold,
            evidence=evidence.more,
            votes=_votes(table, evidence, config),
            trusted_weights=table.trusted_weight[pairs],
            trusted_samples=table.trusted_sample[pairs],
            config=config.verdict,
        )
        judged = _with_trusted(judged, table, pairs)
    record = {
        "run_id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labelfix": labelfix.__version__,
        "classes": list(table.classes),
        "seed": config.seed,
        "config": config.options(),
    }
    with clock.time("output"):
        soft_labels = soft_label_table(table, judged, top_k=config.soft_label_top_k, metadata=record)
        tables = {
            "soft_labels": soft_labels,
            "suspects": suspect_table(soft_labels),
            "noise_matrix": noise_matrix_table(judged.noise_matrix, table.classes),
            "quarantine": quarantine_table(evidence.quarantine),
        }
        further = _audited(table, judged, config) if table.annotators else {}
        further |= _explained(table, judged, pairs, evidence)
        summary = _summary(run, table, judged, evidence, clock)
        record |= {"summary": as_json(summary), "inputs": _input_record(source, kind, labels, trusted)}
        record |= {"versions": _versions(), "evidence": evidence.record, "weights": judged.weights}
        run.write(tables | further, as_json(record), kept=evidence.files)
    if config.train is Train.FULL:
        run.discard_checkpoints()
    if report:
        write_report(run.path, force=True)
    return CleanResult(
        out=run.path,
        verdict=judged,
        summary=as_json(summary),
        annotators=further.get("annotators"),
        **tables,
    )


# ---------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True, kw_only=True)
class _Evidence:
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


def _with_training(
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


def _gather_full(
    origin: ImageFolder | Matrix,
    table: LabelTable,
    config: CleanConfig,
    clock: "_Clock",
    progress: Progress,
    run: RunDirectory,
    *,
    resume: bool,
) -> _Evidence:
    from labelfix.full import gather_full  # training is of no use to the other ways

    assert isinstance(origin, ImageFolder)
    _check_size(table, config)
    with clock.time("training"):
        gathered = gather_full(origin, table, config, run, resume=resume, progress=progress)
    return _Evidence(
        table=gathered.table,
        probs=gathered.evidence.probs,
        fold=gathered.evidence.fold,
        quarantine=dict.fromkeys(table.missing, "there is no such file") | gathered.unreadable,
        record={"kind": str(Kind.IMAGES), **gathered.record},
        calibrating=gathered.evidence.calibrating,
        files=(HISTORY_FILE,),
    )


def _label_rows(table: LabelTable) -> LabelRows:
    return LabelRows(
        image=table.row_image,
        label=table.row_label,
        annotator=table.row_annotator,
        num_annotators=len(table.annotators),
    )


def _votes(table: LabelTable, evidence: _Evidence, config: CleanConfig) -> np.ndarray | None:
    """Return what all labels of an image say together, (N, K); None where every image has one, by nobody known."""
    if not table.annotators and len(table.row_image) == table.num_images:
        return None
    trusted = (
        np.where(evidence.calibrating, table.trusted, NO_LABEL)
        if evidence.calibrating is not None
        else table.trusted
    )
    sources = [evidence.probs, *evidence.more.values()]
    prior_rows = config.verdict.prior_rows
    return vote_likelihood(
        sources, table.given, _label_rows(table), trusted, evidence.fold, prior_rows=prior_rows
    )


def _with_trusted(judged: Verdict, table: LabelTable, judged_pairs: np.ndarray) -> Verdict:
    """Return the verdict with the trusted labels of those pairs that took no part in it."""
    rows = np.setdiff1d(table.pairs, judged_pairs)
    if not len(rows):
        return judged
    true, wrong = table.trusted[rows], table.trusted[rows] != table.given[rows]
    columns = {
        name: getattr(judged, name).copy()
        for name in ("soft_label", "predicted_label", "confidence", "label_score", "is_label_issue", "action")
    }
    columns["soft_label"][rows] = np.eye(len(table.classes), dtype=np.float32)[true]
    columns["predicted_label"][rows] = true
    columns["confidence"][rows] = 1.0
    columns["label_score"][rows] = ~wrong
    columns["is_label_issue"][rows] = wrong
    columns["action"][rows] = np.where(wrong, Action.RELABEL, Action.KEEP)
    return replace(judged, **columns)


def _gather(
    origin: ImageFolder | Matrix,
    kind: Kind,
    table: LabelTable,
    config: CleanConfig,
    clock: "_Clock",
    progress: Progress,
) -> _Evidence:
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
    keys = table.keys.to_pylist() + table.extra_keys.to_pylist()
    hashes = hash_keys(keys, config.seed)
    more: dict[str, np.ndarray] = {}
    with clock.time("training"):
        if kind is Kind.PROBS:
            fitted = _given_probs(features[: table.num_images], table, hashes, config)
            probs = fitted.probs
        else:
            data = HeadData(
                features=features,
                given=table.given,
                trusted=np.concatenate([table.trusted, table.extra_trusted]),
                hashes=hashes,
                num_classes=len(table.classes),
                trusted_weight=table.trusted_weight,
                trusted_sample=table.trusted_sample,
            )
            device = choose_device(config.device)
            fitted = cross_fit_head(data, config.head, seed=config.seed, device=device, progress=progress)
            more = regression_evidence(
                data, fitted.fold, prior_rows=config.verdict.prior_rows, device=device, progress=progress
            )
            probs = more.pop("given")
            more["mslg"] = fitted.probs
    return _Evidence(
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


def _audited(table: LabelTable, judged: Verdict, config: CleanConfig) -> dict[str, pa.Table]:
    """Return the tables that only labels with annotators have."""
    audit = audit_annotators(
        judged.soft_label,
        table.given,
        table.trusted,
        _label_rows(table),
        annotators=table.annotators,
        classes=table.classes,
        images=table.images,
        coverage=config.verdict.interval,
        calibration_error=judged.estimates["calibration_error"].value if judged.estimates else None,
        weighed=weighs_annotators(judged.weights),
    )
    tables = {"label_rows": label_row_table(table), "annotators": audit.annotators}
    return tables if audit.consensus is None else tables | {"consensus": audit.consensus}


def _explained(
    table: LabelTable, judged: Verdict, pairs: np.ndarray, evidence: _Evidence
) -> dict[str, pa.Table]:
    """Return the tables that show why: held-out verdicts of trusted rows, and what the worst suspects look like."""
    tables = {"held_out": held_out_table(table, judged, pairs)} if len(pairs) else {}
    trusted = np.concatenate([table.trusted, table.extra_trusted])
    if evidence.features is None or not (trusted >= 0).any():
        return tables
    suspects = np.flatnonzero(judged.is_label_issue)
    worst = np.lexsort((judged.label_score[suspects], table.trusted[suspects] >= 0))[:SUSPECTS_SHOWN]
    rows = suspects[worst]
    tables["neighbours"] = neighbour_table(
        evidence.features,
        table.images.to_pylist() + table.extra_keys.to_pylist(),
        rows,
        table.given[rows],
        judged.predicted_label[rows],
        trusted,
        count=NEIGHBOURS,
    )
    return tables


def _given_probs(
    probs: np.ndarray, table: LabelTable, hashes: np.ndarray, config: CleanConfig
) -> CrossFitted:
    if probs.shape[1] != len(table.classes):
        raise InputError(
            f"the matrix has {probs.shape[1]} columns, but there are {len(table.classes)} classes "
            f"({', '.join(table.classes[:5])}, …). Name the columns' classes in order with --classes."
        )
    strata = np.where(table.trusted >= 0, table.trusted, len(table.classes))
    fold = assign_folds(hashes[: table.num_images], strata, config.head.folds)
    return CrossFitted(probs=probs, label_logits=np.zeros_like(probs), fold=fold)


def _check_size(table: LabelTable, config: CleanConfig) -> None:
    if table.num_images < max(config.head.folds, 2):
        raise InputError(
            f"{table.num_images} images with a given label can be used; expected at least {config.head.folds}, "
            "one per fold. Check the labels, quarantined images, or lower --folds."
        )


# ----------------------------------------------------------------------------------------------------- record


class _Clock:
    """Wall seconds of every stage."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - begin, 3)

    def total(self) -> float:
        return round(time.perf_counter() - self.start, 3)


def _summary(
    run: RunDirectory, table: LabelTable, judged: Verdict, evidence: _Evidence, clock: _Clock
) -> dict[str, Any]:
    untrusted = np.ones(table.num_images, bool)
    untrusted[table.pairs] = False
    actions = np.bincount(judged.action, minlength=3)
    return {
        "out": str(run.path),
        "images": table.num_images,
        "label_rows": len(table.row_image),
        "classes": list(table.classes),
        "annotators": len(table.annotators),
        "trusted_pairs": len(table.pairs),
        "trusted_extra": len(table.extra_trusted),
        "calibrated": len(table.pairs) > 0,
        "suspects": int(judged.is_label_issue.sum()),
        "suspects_untrusted": int(judged.is_label_issue[untrusted].sum()),
        "expected_wrong": float((1 - judged.label_score.astype(np.float64)).sum()),
        "actions": {"keep": int(actions[0]), "relabel": int(actions[1]), "review": int(actions[2])},
        "quarantined": len(evidence.quarantine),
        "ties": table.ties,
        "estimates": dict(judged.estimates),
        "per_class": judged.per_class,
        "guarantee": judged.guarantee,
        "warnings": list(table.warnings),
        "seconds": {**clock.seconds, "total": clock.total()},
    }


def _input_record(source: Path, kind: Kind, labels: Any, trusted: Any) -> dict[str, Any]:
    tables = [
        labels,
        *(trusted if isinstance(trusted, (list, tuple)) else [] if trusted is None else [trusted]),
    ]
    files = [Path(t) for t in tables if isinstance(t, (str, os.PathLike))]
    files += [] if kind is Kind.IMAGES else [source]
    return {
        "source": str(source),
        "folder": os.path.abspath(source) if kind is Kind.IMAGES else None,
        "labels": os.path.abspath(labels) if isinstance(labels, (str, os.PathLike)) else None,
        "trusted": [os.path.abspath(t) for t in tables[1:] if isinstance(t, (str, os.PathLike))],
        "files": [{"path": str(p), "sha256": _sha256(p)} for p in files],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}}
