"""`export_run`: one straight line from a run directory to the folder of an export."""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import labelfix
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
from labelfix.settings import ExportConfig, ExportFormat

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
        What ``export.json`` says: run, format, policy, and how many labels were kept, changed or dropped.
    """

    path: Path
    summary: dict[str, Any]


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
        When an option, the run, an input or the destination has a fault; nothing has been written then.
    """
    config = ExportConfig(**options)
    finished, folder = FinishedRun.open(run), Path(destination)
    check_destination(folder, _inputs(finished, config), force=force)
    assert config.policy is not None
    decisions = decide(finished, config.policy, min_confidence=config.min_confidence, rows=config.rows)
    with new_folder(folder) as building:
        paths, facts = _write(building, finished, decisions.kept, config)
        _write_provenance(building, decisions, paths)
        summary = _summary(finished, decisions, config) | facts
        write_json(building / EXPORT_FILE, summary)
    return ExportResult(path=folder, summary=summary | {"path": str(folder)})


def _inputs(run: FinishedRun, config: ExportConfig) -> list[Path]:
    """Return what an export must not be written into, or over."""
    inputs = run.record.get("inputs") or {}
    files = [Path(path) for path in (inputs.get("labels"), *inputs.get("trusted", [])) if path]
    folders = [run.image_folder] if run.holds_images else []
    folders += [Path(config.images)] if config.images else []
    files += [Path(config.labels)] if config.labels else []
    return [path for path in (*folders, *files) if path.exists()]


def _write(
    folder: Path, run: FinishedRun, decisions: Decisions, config: ExportConfig
) -> tuple[list[str] | None, dict[str, Any]]:
    """Write the files of the format; return the image paths that it has, and what to record besides."""
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
        place = pc.if_else(exported, order, pa.scalar(None, pa.int64()))
        columns["file"] = pa.array(paths, pa.string()).take(place)
    pq.write_table(pa.table({**columns, **decisions.provenance()}), folder / "provenance.parquet")


def _summary(run: FinishedRun, decisions: Decisions, config: ExportConfig) -> dict[str, Any]:
    with (run.path / "soft_labels.parquet").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "labelfix": labelfix.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run.run_id,
        "run": os.path.abspath(run.path),
        "soft_labels_sha256": digest,
        "format": str(config.to),
        "policy": str(config.policy),
        "min_confidence": config.min_confidence,
        "rows": str(config.rows),
        "classes": list(decisions.classes),
        "images": len(decisions.kept),
        "actions": decisions.counts(),
    }
