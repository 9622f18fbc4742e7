"""`clean`: the stages joined in one straight line.

    tables -> LabelTable -> features -> cross-fitted heads (MSLG) -> verdict -> Parquet

Every stage is a function of its own that can be called from Python; what passes between them is frozen.
"""

import os
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import labelfix
from labelfix.annotator_model import LabelRows
from labelfix.annotators import vote_likelihood
from labelfix.audit import audit_annotators, weighs_annotators
from labelfix.config import CleanConfig, Kind, MissingImages, Train
from labelfix.dataset import NO_LABEL, LabelTable, lexical_keys, read_label_table
from labelfix.features import choose_device
from labelfix.gathering import Evidence, decide_training, gather_evidence
from labelfix.images import ImageFolder
from labelfix.matrices import infer_kind, read_matrix
from labelfix.neighbours import neighbour_table
from labelfix.posterior import Action, Verdict, verdict
from labelfix.progress import Progress, SilentProgress
from labelfix.record import Clock, input_record, summarise, versions
from labelfix.report import SUSPECTS_SHOWN, write_report
from labelfix.rundir import (
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
# Differences between smaller probabilities say nothing of how alike two images are.
ALIKE_FLOOR = 1e-4


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
    source = Path(images)
    config = CleanConfig.from_options(options, auto=_expected_training(source, trusted, options))
    progress = progress or SilentProgress()
    clock = Clock()
    run = RunDirectory.claim(out, force=force, resume=resume)
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
    config = decide_training(config, options, kind, table)
    evidence = gather_evidence(
        origin, kind, table, config, run, resume=resume, clock=clock, progress=progress
    )
    table = evidence.table
    with clock.time("verdict"):
        pairs = evidence.calibrating_pairs
        judged = _judge(evidence, pairs, config)
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
        summary = summarise(table, judged, out=run.path, quarantined=len(evidence.quarantine), clock=clock)
        record |= {"summary": as_json(summary), "inputs": input_record(source, kind, labels, trusted)}
        record |= {"versions": versions(), "evidence": evidence.record, "weights": judged.weights}
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


def _expected_training(source: Path, trusted: Any, options: dict[str, Any]) -> Train:
    """Return what ``--train auto`` will come to, as far as it shows before the tables are read.

    So the options are checked as what they will be used for; `decide_training` has the last word.
    """
    if options.get("train", Train.AUTO) != Train.AUTO or trusted is None or not source.is_dir():
        return Train.HEAD
    on_gpu = choose_device(options.get("device", CleanConfig.device)).type == "cuda"
    return Train.FULL if on_gpu else Train.HEAD


# ---------------------------------------------------------------------------------------------------- verdicts


def _judge(evidence: Evidence, pairs: np.ndarray, config: CleanConfig) -> Verdict:
    """Return the verdict on every row, from the trusted rows `pairs` and all evidence."""
    table = evidence.table
    # of the trusted rows; the others took part in training
    known = np.setdiff1d(table.pairs, pairs)
    kept_share = len(pairs) / max(len(table.pairs), 1)
    judged = verdict(
        evidence.probs,
        table.given,
        pairs,
        table.trusted[pairs],
        classes=table.classes,
        folds=evidence.fold,
        evidence=evidence.more,
        votes=_votes(evidence, pairs, config),
        trusted_weights=table.trusted_weight[pairs] / kept_share if len(pairs) else None,
        trusted_samples=table.trusted_sample[pairs] if len(pairs) else None,
        trusted_frames=table.frames if len(pairs) else None,
        known_rows=known,
        known_samples=table.trusted_sample[known],
        config=config.verdict,
    )
    return _with_trusted(judged, table, pairs)


def _label_rows(table: LabelTable) -> LabelRows:
    return LabelRows(
        image=table.row_image,
        label=table.row_label,
        annotator=table.row_annotator,
        num_annotators=len(table.annotators),
    )


def _votes(evidence: Evidence, pairs: np.ndarray, config: CleanConfig) -> np.ndarray | None:
    """Return what all labels of an image say together, (N, K); None where every image has one, by nobody known."""
    table = evidence.table
    if not table.annotators and len(table.row_image) == table.num_images:
        return None
    trusted = np.full(table.num_images, NO_LABEL)
    trusted[pairs] = table.trusted[pairs]
    sources = [evidence.probs, *evidence.more.values()]
    prior_rows = config.verdict.prior_rows
    return vote_likelihood(
        sources, table.given, _label_rows(table), trusted, evidence.fold,
        trusted_count=table.trusted_count, prior_rows=prior_rows,
    )  # fmt: skip


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
    table: LabelTable, judged: Verdict, pairs: np.ndarray, evidence: Evidence
) -> dict[str, pa.Table]:
    """Return the tables that show why: held-out verdicts of trusted rows, and what the worst suspects look like."""
    tables = {"held_out": held_out_table(table, judged, pairs)} if len(pairs) else {}
    if evidence.features is not None:
        values, names = evidence.features, table.images.to_pylist() + table.extra_keys.to_pylist()
        trusted = np.concatenate([table.trusted, table.extra_trusted])
    else:  # images are alike where the probabilities are, and only those with a given label have some
        values, names = np.log(np.maximum(evidence.probs, ALIKE_FLOOR)), table.images.to_pylist()
        trusted = table.trusted
    if not (trusted >= 0).any():
        return tables
    suspects = np.flatnonzero(judged.is_label_issue)
    worst = np.lexsort((judged.label_score[suspects], table.trusted[suspects] >= 0))[:SUSPECTS_SHOWN]
    rows = suspects[worst]
    tables["neighbours"] = neighbour_table(
        values,
        names,
        rows,
        table.given[rows],
        judged.predicted_label[rows],
        trusted,
        count=NEIGHBOURS,
    )
    return tables
