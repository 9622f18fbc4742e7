"""`export_run`: from a run directory to the folder of an export."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import labelfix
from labelfix.errors import InputError
from labelfix.export.cleanlab import write_cleanlab
from labelfix.export.csv_labels import write_csv
from labelfix.export.decisions import Decisions, decide
from labelfix.export.fiftyone import write_fiftyone
from labelfix.export.folder import EXPORT_FILE, check_destination, new_folder, write_json
from labelfix.export.hugging_face import write_hugging_face
from labelfix.export.image_files import find_images
from labelfix.export.image_folder import write_image_folder
from labelfix.export.label_studio import write_label_studio
from labelfix.export.training import write_training
from labelfix.runs.reading import FinishedRun
from labelfix.runs.summary_text import rows_html
from labelfix.settings import ExportConfig, ExportFormat, Policy, RowChoice
from labelfix.system.hashing import file_sha256
from labelfix.system.run_files import CERTIFICATE_FILE

__all__ = ["ExportResult", "export_run"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """A finished export.

    Attributes
    ----------
    path
        Its folder.
    summary
        Content of ``export.json``: run, format, policy, and how many labels were kept, changed or dropped.
    """

    path: Path
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"ExportResult({str(self.path)!r}, {self.summary['images']:,} images)"

    def _repr_html_(self) -> str:
        shown = ("format", "policy", "images", "actions", "path")
        return rows_html([(name, str(self.summary[name])) for name in shown])


def export_run(run: PathLike, destination: PathLike, *, force: bool = False, **options: Any) -> ExportResult:
    """Write the labels of a finished run for another tool.

    Parameters
    ----------
    run
        The run directory.
    destination
        The folder to make.
    force
        Replace an earlier export in `destination`.
    **options
        The fields of `ExportConfig`: ``to="huggingface", policy="soft", …``.

    Raises
    ------
    LabelfixError
        When an option, the run, an input or the destination is at fault; then nothing is written.
    """
    config = ExportConfig(**options)
    finished, folder = FinishedRun.open(run), Path(destination)
    check_destination(folder, _inputs(finished, config), force=force)
    assert config.policy is not None
    _check_promise(finished, config)
    decisions = decide(finished, config.policy, min_confidence=config.min_confidence, rows=config.rows)
    with new_folder(folder) as building:
        paths, format_summary = _write(building, finished, decisions.kept, config)
        _write_provenance(building, decisions, paths)
        summary = _summary(finished, decisions, config) | format_summary
        certified = _certificate(finished, config)
        if certified is not None:
            write_json(building / CERTIFICATE_FILE, certified)
        write_json(building / EXPORT_FILE, summary)
    return ExportResult(path=folder, summary=summary | {"path": str(folder)})


def _check_promise(run: FinishedRun, config: ExportConfig) -> None:
    """Refuse to deliver a data set whose promise does not hold (yet)."""
    promises = {str(promise.kind): promise for promise in run.promises}
    labels, kept = promises.get("labels"), promises.get("kept")
    if labels is None or config.policy is Policy.REVIEW_ONLY or config.min_confidence is not None:
        return
    if config.policy is Policy.DROP:
        if kept is None or not kept.size:
            raise InputError(
                f"--policy drop: {run.path} promises nothing of the labels that would be left "
                f"({labels.max_error:.1%} was asked for). Verify the open ones instead: labelfix next {run.path} "
                "--for label-error."
            )
    elif not labels.size or labels.to_verify:
        what = (
            f"{labels.to_verify:,} of its labels are"
            if labels.size
            else "no promise was made: all labels are"
        )
        raise InputError(
            f"{run.path}: {what} to be verified before at most {labels.max_error:.1%} of all are wrong; expected"
            f" none. List them with labelfix next {run.path} --for label-error, or leave them out with --policy"
            " drop."
        )


def _certificate(run: FinishedRun, config: ExportConfig) -> dict[str, Any] | None:
    """Return the certificate of what is exported; None where nothing is promised of it."""
    kinds = {Policy.RELABEL: ("fixes", "labels"), Policy.DROP: ("kept",)}.get(
        config.policy or Policy.SOFT, ()
    )
    certified = run.certificate
    if certified is None or config.min_confidence is not None or config.rows is not RowChoice.ALL:
        return None
    held = [promise for promise in certified["promises"] if promise["kind"] in kinds and promise["holds"]]
    return {**certified, "promises": held} if held else None


def _inputs(run: FinishedRun, config: ExportConfig) -> list[Path]:
    """Return the folders and files of the inputs, which an export must not be written into, or over."""
    inputs = run.record.get("inputs") or {}
    folders = [run.image_folder] if run.holds_images else []
    files = [inputs.get("labels"), *inputs.get("trusted", [])]
    paths = [*folders, *(Path(path) for path in (config.images, *files, config.labels) if path)]
    return [path for path in paths if path.exists()]


def _write(
    folder: Path, run: FinishedRun, decisions: Decisions, config: ExportConfig
) -> tuple[list[str] | None, dict[str, Any]]:
    """Write the files of the format; return the paths of its images, and its part of the summary."""
    if config.to is ExportFormat.CSV:
        return None, {"rows_without_verdict": write_csv(folder, decisions, run, config.labels)}
    if config.to is ExportFormat.CLEANLAB:
        write_cleanlab(folder, decisions, run)
        return None, {}
    names = decisions.images.to_pylist()
    if not run.holds_images and config.images is None:
        if config.to is ExportFormat.LABEL_STUDIO:
            write_label_studio(folder, decisions, names, config.url_prefix)
            return None, {}
        if config.to is ExportFormat.TORCH:
            return write_training(folder, decisions, None, config.transfer), {"image_folder": None}
    files = find_images(run, names, config.images)
    if config.to is ExportFormat.LABEL_STUDIO:
        write_label_studio(folder, decisions, list(files.keys), config.url_prefix)
        return None, {"image_folder": str(files.root)}
    write = {
        ExportFormat.IMAGEFOLDER: write_image_folder,
        ExportFormat.HUGGINGFACE: write_hugging_face,
        ExportFormat.FIFTYONE: write_fiftyone,
        ExportFormat.TORCH: write_training,
    }[config.to]
    return write(folder, decisions, files, config.transfer), {"image_folder": str(files.root)}


def _write_provenance(folder: Path, decisions: Decisions, paths: list[str] | None) -> None:
    columns = {"image": decisions.images}
    if paths is not None:
        exported = pa.array(decisions.new >= 0)
        order = pc.subtract(pc.cumulative_sum(exported.cast(pa.int64())), 1)
        path_number = pc.if_else(exported, order, pa.scalar(None, pa.int64()))
        columns["file"] = pa.array(paths, pa.string()).take(path_number)
    pq.write_table(pa.table({**columns, **decisions.provenance()}), folder / "provenance.parquet")


def _summary(run: FinishedRun, decisions: Decisions, config: ExportConfig) -> dict[str, Any]:
    return {
        "labelfix": labelfix.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run.run_id,
        "run": os.path.abspath(run.path),
        "soft_labels_sha256": file_sha256(run.path / "soft_labels.parquet"),
        "format": str(config.to),
        "policy": str(config.policy),
        "min_confidence": config.min_confidence,
        "rows": str(config.rows),
        "classes": list(decisions.classes),
        "images": len(decisions.kept),
        "actions": decisions.counts(),
        "class_mix": decisions.class_mix(),
    }
