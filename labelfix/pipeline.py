"""`clean`: the stages joined in one straight line, and `open_run`: what can be done with the result.

    tables -> LabelTable -> out-of-fold predictions (MSLG) -> verdicts -> Parquet -> report

Every stage is a function of its own that can be called from Python; what passes between them is frozen.
"""

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

import labelfix
from labelfix.audit import Audit, annotator_tables, audit_run
from labelfix.check import CheckResult, check_run
from labelfix.cross_fitting import OutOfFoldPredictions, predict_out_of_fold
from labelfix.drawing import Verification, draw_next
from labelfix.errors import SettingError
from labelfix.export import ExportResult, export_run
from labelfix.images.folder import ImageFolder
from labelfix.inputs import LabelTable, as_list, lexical_keys, read_label_table
from labelfix.inputs.draws import draws_of
from labelfix.inputs.matrices import Matrix, infer_kind, read_matrix
from labelfix.inputs.random_draw import hold_back
from labelfix.report import WrittenReport, write_report
from labelfix.report.neighbours import issue_neighbours
from labelfix.runs.certificate import certificate
from labelfix.runs.directory import RunDirectory
from labelfix.runs.manifest import as_json, input_record, summarise, versions
from labelfix.runs.reading import FinishedRun
from labelfix.runs.summary_text import summary_html
from labelfix.runs.tables import (
    held_out_table,
    noise_matrix_table,
    quarantine_table,
    soft_label_table,
    suspect_table,
)
from labelfix.settings import CleanConfig, CleanOptions, Kind, MissingImages, Train
from labelfix.settings.signature import signature_with_options
from labelfix.system.clock import Clock
from labelfix.system.devices import choose_device
from labelfix.system.progress import Progress, SilentProgress
from labelfix.system.run_files import HISTORY_FILE
from labelfix.verdicts import Verdict, judge

__all__ = ["CleanResult", "Run", "clean", "open_run"]

PathLike = str | os.PathLike[str]


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

    def __repr__(self) -> str:
        return f"CleanResult({str(self.out)!r}, {_counts(self.summary)})"

    def _repr_html_(self) -> str:
        return summary_html(self.summary)


def clean(
    source: PathLike,
    labels: Any,
    trusted: Any = None,
    out: PathLike = "labelfix-out",
    *,
    reviewed: Any = None,
    draws: Sequence[PathLike] = (),
    force: bool = False,
    resume: bool = False,
    report: bool = True,
    progress: Progress | None = None,
    config: CleanConfig | None = None,
    **options: Unpack[CleanOptions],
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
    reviewed
        As `trusted`, for images that somebody chose, such as label issues from the top: known labels, in outputs
        and training, and in no estimate and no promise.
    draws
        Records of draws, or folders of them; those beside the trusted tables and in `out` are found by themselves.
    force
        Replace the run that `out` holds.
    resume
        Go on with the unfinished training of the full network in `out`; without one, start from the beginning.
    report
        Write ``report.html`` at the end.
    progress
        Receives how far the run is; None keeps quiet.
    config
        The settings of the run; None takes the defaults.
    **options
        The fields of `CleanConfig` and its stages, flat: ``image_size=128, seed=1, folds=10, …``. They go before
        those of `config`.

    Raises
    ------
    LabelfixError
        When an option, the input or the run directory has a fault; nothing has been trained then.
    """
    source = Path(source)
    chosen = (config.changed_options() if config else {}) | dict(options)
    config = CleanConfig.from_options(chosen, auto=_expected_training(source, trusted, chosen))
    progress, clock = progress or SilentProgress(), Clock()
    run = RunDirectory.claim(out, force=force, resume=resume)
    kind = infer_kind(source, config.kind)
    with clock.time("tables"):
        origin = ImageFolder(source) if kind is Kind.IMAGES else read_matrix(source, kind)
        places = [*([run.draws] if run.draws.is_dir() else []), *draws]
        table = _read_tables(origin, labels, trusted, reviewed, places, config)
        table = hold_back(table, config.calibration_split)
    for warning in table.warnings:
        progress.note(f"warning: {warning}")
    config = _decide_training(config, chosen, kind, table)
    predictions = predict_out_of_fold(
        origin, kind, table, config, run.path, resume=resume, clock=clock, progress=progress
    )
    with clock.time("verdict"):
        judged = judge(predictions, config.verdict)
        predictions = replace(predictions, table=predictions.table.revealed())
    if judged.sample is not None and judged.sample.is_remarkable:
        progress.note(f"warning: {judged.sample.message()}")
    record = {
        "run_id": uuid.uuid4().hex,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labelfix": labelfix.__version__,
        "classes": list(table.classes),
        "seed": config.seed,
        "table_digest": table.digest,
        "config": config.options(),
    }
    with clock.time("output"):
        tables = _tables(predictions, judged, config, record)
        summary = as_json(summarise(predictions, judged, out=run.path, clock=clock))
        record |= {"summary": summary, "inputs": input_record(source, kind, labels, trusted, reviewed)}
        record |= {"versions": versions(), "evidence": predictions.record, "weights": judged.weights}
        # those that the run does not use count for the numbers of later lists
        run.record_draws(draws_of(table.digest, [*_folders(trusted), *places]))
        run.record_draws(answered.draw for answered in table.draws)
        certified = certificate(record, judged.promises)
        kept = (HISTORY_FILE,) if config.train is Train.FULL else ()
        run.write(tables, as_json(record), certificate=certified, kept=kept)
    if config.train is Train.FULL:
        run.discard_checkpoints()
    if report:
        write_report(run.path, force=True)
    shown = ("soft_labels", "suspects", "noise_matrix", "quarantine", "annotators")
    fields = {name: tables.get(name) for name in shown}
    return CleanResult(out=run.path, verdict=judged, summary=summary, **fields)


clean.__signature__ = signature_with_options(clean)  # type: ignore[attr-defined]


def _read_tables(
    origin: ImageFolder | Matrix,
    labels: Any,
    trusted: Any,
    reviewed: Any,
    draws: Sequence[PathLike],
    config: CleanConfig,
) -> LabelTable:
    return read_label_table(
        labels,
        trusted,
        reviewed,
        classes=config.classes,
        new_classes=config.new_classes,
        spellings=config.spellings,
        identify=origin.identify if isinstance(origin, ImageFolder) else lexical_keys,
        skip_missing=config.missing is MissingImages.QUARANTINE,
        trusted_weights=config.trusted_weights,
        trusted_strata=config.trusted_strata,
        draws=draws,
    )


def _folders(trusted: Any) -> list[Path]:
    """Return the folders of the trusted tables that are files."""
    files = [Path(table) for table in as_list(trusted) if isinstance(table, (str, os.PathLike))]
    return list(dict.fromkeys(file.parent for file in files))


# ---------------------------------------------------------------------------------------------- --train auto


def _expected_training(source: Path, trusted: Any, options: dict[str, Any]) -> Train:
    """Return what ``--train auto`` will come to, as far as it shows before the tables are read.

    So the options are checked as what they will be used for; `_decide_training` has the last word.
    """
    if options.get("train", Train.AUTO) != Train.AUTO or trusted is None or not source.is_dir():
        return Train.HEAD
    device = choose_device(options.get("device", CleanConfig.device))
    return Train.FULL if device.type == "cuda" else Train.HEAD


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
        possible = kind is Kind.IMAGES and table.any_trusted
        train = Train.FULL if possible and choose_device(config.device).type == "cuda" else Train.HEAD
    return CleanConfig.from_options({**options, "train": train})


# ------------------------------------------------------------------------------------------ tables of the run


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
        tables |= annotator_tables(table, judged, coverage=config.verdict.interval)
    if len(predictions.calibration_rows):
        tables["held_out"] = held_out_table(table, judged, predictions.calibration_rows)
    neighbours = issue_neighbours(table, judged, predictions.features, predictions.probs)
    return tables if neighbours is None else tables | {"neighbours": neighbours}


# ------------------------------------------------------------------------------------------- a finished run


@dataclass(frozen=True)
class Run:
    """A finished run on disk (`finished`), and what can be done with it; `open_run` makes one."""

    finished: FinishedRun

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {_counts(self.summary)})"

    def _repr_html_(self) -> str:
        return summary_html(self.summary)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.finished.path

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, estimates with intervals, warnings and timings."""
        return self.finished.summary

    @property
    def soft_labels(self) -> pa.Table:
        """One row per image, as in ``soft_labels.parquet``."""
        return self.finished.table("soft_labels")

    @property
    def suspects(self) -> pa.Table:
        """The label issues, worst first, as in ``suspects.parquet``."""
        return self.finished.table("suspects")

    def next(self, count: int = 100, out: PathLike | None = None, **options: Any) -> Verification:
        """Draw what to verify next: `labelfix.drawing.draw_next`."""
        return draw_next(self.finished, count, out, **options)

    def audit(self, *, interval: float | None = None) -> Audit:
        """Audit the annotators: `labelfix.audit_run`."""
        return audit_run(self.path, interval=interval)

    def export(self, destination: PathLike, *, force: bool = False, **options: Any) -> ExportResult:
        """Write the labels for another tool: `labelfix.export_run`."""
        return export_run(self.path, destination, force=force, **options)

    def report(self, to: PathLike | None = None, **options: Any) -> WrittenReport:
        """Write the run as one page: `labelfix.report.write_report`."""
        return write_report(self.path, to, **options)

    def check(self, *, baseline: PathLike | None = None, **limits: Any) -> CheckResult:
        """Hold the run against limits: `labelfix.check_run`."""
        return check_run(self.path, baseline=baseline, **limits)


def open_run(path: PathLike) -> Run:
    """Open a finished run; InputError where `path` holds none."""
    return Run(FinishedRun.open(path))


def _counts(summary: dict[str, Any]) -> str:
    return f"{summary['images']:,} images, {summary['suspects']:,} label issues"
