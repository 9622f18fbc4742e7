"""`clean`: the stages joined in one straight line, and `open_run`: what can be done with the result.

    tables -> LabelTable -> out-of-fold predictions (MSLG) -> verdicts -> Parquet -> report

Every stage is a function of its own that can be called from Python; what passes between them is frozen.
"""

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import labelfix
from labelfix.audit import audit_annotators, weighs_annotators
from labelfix.cross_fitting import OutOfFoldPredictions, predict_out_of_fold
from labelfix.errors import SettingError
from labelfix.images.folder import ImageFolder
from labelfix.inputs import LabelTable, lexical_keys, read_label_table
from labelfix.inputs.matrices import Matrix, infer_kind, read_matrix
from labelfix.report import SUSPECTS_SHOWN, write_report
from labelfix.report.neighbours import neighbour_table
from labelfix.runs.directory import RunDirectory
from labelfix.runs.manifest import as_json, input_record, summarise, versions
from labelfix.runs.tables import (
    held_out_table,
    label_row_table,
    noise_matrix_table,
    quarantine_table,
    soft_label_table,
    suspect_table,
)
from labelfix.settings import CleanConfig, Kind, MissingImages, Train
from labelfix.system.clock import Clock
from labelfix.system.devices import choose_device
from labelfix.system.progress import Progress, SilentProgress
from labelfix.system.run_files import HISTORY_FILE
from labelfix.verdicts import Verdict, judge
from labelfix.verdicts.dawid_skene import LabelRows

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
        Arrow table of `labelfix.audit.annotators.audit_annotators`; None where the labels name no annotators.
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
    source: PathLike,
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
    source
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
    source = Path(source)
    config = CleanConfig.from_options(options, auto=_expected_training(source, trusted, options))
    progress, clock = progress or SilentProgress(), Clock()
    run = RunDirectory.claim(out, force=force, resume=resume)
    kind = infer_kind(source, config.kind)
    with clock.time("tables"):
        origin = ImageFolder(source) if kind is Kind.IMAGES else read_matrix(source, kind)
        table = _read_tables(origin, labels, trusted, config)
    for warning in table.warnings:
        progress.note(f"warning: {warning}")
    config = _decide_training(config, options, kind, table)
    predictions = predict_out_of_fold(
        origin, kind, table, config, run.path, resume=resume, clock=clock, progress=progress
    )
    with clock.time("verdict"):
        judged = judge(predictions, config.verdict)
    record = {
        "run_id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labelfix": labelfix.__version__,
        "classes": list(table.classes),
        "seed": config.seed,
        "config": config.options(),
    }
    with clock.time("output"):
        tables = _tables(predictions, judged, config, record)
        summary = as_json(_summary(predictions, judged, run, clock))
        record |= {"summary": summary, "inputs": input_record(source, kind, labels, trusted)}
        record |= {"versions": versions(), "evidence": predictions.record, "weights": judged.weights}
        run.write(tables, as_json(record), kept=(HISTORY_FILE,) if config.train is Train.FULL else ())
    if config.train is Train.FULL:
        run.discard_checkpoints()
    if report:
        write_report(run.path, force=True)
    shown = ("soft_labels", "suspects", "noise_matrix", "quarantine", "annotators")
    return CleanResult(
        out=run.path, verdict=judged, summary=summary, **{name: tables.get(name) for name in shown}
    )


def _read_tables(origin: ImageFolder | Matrix, labels: Any, trusted: Any, config: CleanConfig) -> LabelTable:
    return read_label_table(
        labels,
        trusted,
        classes=config.classes,
        identify=origin.identify if isinstance(origin, ImageFolder) else lexical_keys,
        skip_missing=config.missing is MissingImages.QUARANTINE,
        trusted_weights=config.trusted_weights,
    )


# ---------------------------------------------------------------------------------------------- --train auto


def _expected_training(source: Path, trusted: Any, options: dict[str, Any]) -> Train:
    """Return what ``--train auto`` will come to, as far as it shows before the tables are read.

    So the options are checked as what they will be used for; `_decide_training` has the last word.
    """
    if options.get("train", Train.AUTO) != Train.AUTO or trusted is None or not source.is_dir():
        return Train.HEAD
    on_gpu = choose_device(options.get("device", CleanConfig.device)).type == "cuda"
    return Train.FULL if on_gpu else Train.HEAD


def _decide_training(
    config: CleanConfig, options: dict[str, Any], kind: Kind, table: LabelTable
) -> CleanConfig:
    """Return the configuration with ``--train auto`` decided, and the defaults that go with it."""
    train = config.train
    if train is Train.FULL and kind is not Kind.IMAGES:
        raise SettingError(
            f"--train full: SOURCE holds {kind}; expected a folder of images. Use --train head."
        )
    if train is Train.AUTO:
        on_gpu = choose_device(config.device).type == "cuda"
        train = Train.FULL if kind is Kind.IMAGES and table.any_trusted and on_gpu else Train.HEAD
    return CleanConfig.from_options({**options, "train": train})


# ------------------------------------------------------------------------------------------ tables of the run


def _summary(
    predictions: OutOfFoldPredictions, judged: Verdict, run: RunDirectory, clock: Clock
) -> dict[str, Any]:
    quarantined = len(predictions.quarantine)
    return summarise(predictions.table, judged, out=run.path, quarantined=quarantined, clock=clock)


def _tables(
    predictions: OutOfFoldPredictions, judged: Verdict, config: CleanConfig, record: dict[str, Any]
) -> dict[str, pa.Table]:
    """Return all tables of the run, by name."""
    table = predictions.table
    soft_labels = soft_label_table(table, judged, top_k=config.soft_label_top_k, metadata=record)
    tables = {
        "soft_labels": soft_labels,
        "suspects": suspect_table(soft_labels),
        "noise_matrix": noise_matrix_table(judged.noise_matrix, table.classes),
        "quarantine": quarantine_table(predictions.quarantine),
    }
    if table.annotators:
        tables |= _annotator_tables(table, judged, config)
    if len(predictions.calibration_rows):
        tables["held_out"] = held_out_table(table, judged, predictions.calibration_rows)
    neighbours = _neighbours(predictions, judged)
    return tables if neighbours is None else tables | {"neighbours": neighbours}


def _annotator_tables(table: LabelTable, judged: Verdict, config: CleanConfig) -> dict[str, pa.Table]:
    """Return the tables that only labels with annotators have."""
    audit = audit_annotators(
        judged.soft_label,
        table.given,
        table.trusted,
        LabelRows.of(table),
        annotators=table.annotators,
        classes=table.classes,
        images=table.images,
        coverage=config.verdict.interval,
        calibration_error=judged.estimates["calibration_error"].value if judged.estimates else None,
        weighed=weighs_annotators(judged.weights),
    )
    tables = {"label_rows": label_row_table(table), "annotators": audit.annotators}
    return tables if audit.consensus is None else tables | {"consensus": audit.consensus}


def _neighbours(predictions: OutOfFoldPredictions, judged: Verdict) -> pa.Table | None:
    """Return the trusted images that the worst label issues look like; None where none can be compared."""
    table = predictions.table
    if predictions.features is not None:
        values, names, trusted = predictions.features, table.every_name, table.every_trusted
    else:  # images are alike where the probabilities are, and only those with a given label have some
        values, names = np.log(np.maximum(predictions.probs, ALIKE_FLOOR)), table.images.to_pylist()
        trusted = table.trusted
    if not (trusted >= 0).any():
        return None
    issues = np.flatnonzero(judged.is_label_issue)
    worst = np.lexsort((judged.label_score[issues], table.trusted[issues] >= 0))[:SUSPECTS_SHOWN]
    rows = issues[worst]
    return neighbour_table(
        values,
        names,
        rows,
        table.given[rows],
        judged.predicted_label[rows],
        trusted,
        count=NEIGHBOURS,
    )
