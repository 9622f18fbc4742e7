"""Content of ``run.json``: results, timings, inputs and versions of a run."""

import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelfix.inputs import as_list
from labelfix.settings import Kind
from labelfix.system.clock import Clock
from labelfix.system.hashing import file_sha256
from labelfix.verdicts.arrays import Verdict
from labelfix.verdicts.random_check import RandomCheck

if TYPE_CHECKING:  # torch is not needed here
    from labelfix.cross_fitting import OutOfFoldPredictions

__all__ = ["as_json", "input_record", "summarise", "versions"]

VERSIONED = ("numpy", "pyarrow", "scipy", "scikit-learn", "timm", "torch")


def summarise(
    predictions: "OutOfFoldPredictions",
    judged: Verdict,
    *,
    out: Path,
    clock: Clock,
) -> dict[str, Any]:
    """Return the summary of a run: counts, estimates with intervals, warnings and timings."""
    table = predictions.table
    untrusted = np.ones(table.num_images, bool)
    untrusted[table.pairs] = False
    actions = np.bincount(judged.action, minlength=3)
    return {
        "out": str(out),
        "images": table.num_images,
        "label_rows": len(table.row_image),
        "classes": list(table.classes),
        "annotators": len(table.annotators),
        "trusted_pairs": len(table.pairs),
        "hand_picked": int(table.is_hand_picked.sum()),
        "trusted_extra": len(table.extra_trusted),
        "calibrated": bool(judged.estimates),
        "sample": None if judged.sample is None else _sample_record(judged.sample),
        "suspects": int(judged.is_label_issue.sum()),
        "suspects_untrusted": int(judged.is_label_issue[untrusted].sum()),
        "expected_wrong": float((1 - judged.label_score.astype(np.float64)).sum()),
        "actions": {"keep": int(actions[0]), "relabel": int(actions[1]), "review": int(actions[2])},
        "quarantined": len(predictions.quarantine),
        "ties": table.ties,
        "duplicates": 0 if predictions.group is None else _num_duplicates(predictions.group),
        "estimates": dict(judged.estimates),
        "per_class": judged.per_class,
        "promises": list(judged.promises),
        "warnings": list(table.warnings),
        "seconds": {**clock.seconds, "total": clock.total()},
    }


def input_record(source: Path, kind: Kind, labels: Any, trusted: Any, reviewed: Any = None) -> dict[str, Any]:
    """Return the paths of the inputs, with the SHA-256 of every file except the images."""
    sampled, picked = as_list(trusted), as_list(reviewed)
    tables = [labels, *sampled, *picked]
    files = [Path(t) for t in tables if isinstance(t, (str, os.PathLike))]
    files += [] if kind is Kind.IMAGES else [source]
    return {
        "source": str(source),
        "folder": os.path.abspath(source) if kind is Kind.IMAGES else None,
        "labels": os.path.abspath(labels) if isinstance(labels, (str, os.PathLike)) else None,
        "trusted": [os.path.abspath(t) for t in sampled if isinstance(t, (str, os.PathLike))],
        "reviewed": [os.path.abspath(t) for t in picked if isinstance(t, (str, os.PathLike))],
        "files": [{"path": str(p), "sha256": file_sha256(p)} for p in files],
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}}


def _num_duplicates(group: np.ndarray) -> int:
    """Return how many images have a twin, as far as it was looked for."""
    return int((np.bincount(group)[group] > 1).sum())


def _sample_record(sample: RandomCheck) -> dict[str, Any]:
    """Return what the random check found, without the list of its tests, which is long."""
    return {
        "alarm": sample.alarm,
        "kind": sample.kind,
        "p_value": sample.p_value,
        "by_group": sample.by_group,
        "message": sample.message(),
    }


def as_json(value: Any) -> Any:
    """Return dataclasses, arrays and NaN as values that JSON knows."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
