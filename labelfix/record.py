"""What is written about a run: how long it took, what was found, what it was made from and with."""

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.config import Kind
from labelfix.dataset import LabelTable
from labelfix.posterior import Verdict

__all__ = ["Clock", "input_record", "summarise", "versions"]

VERSIONED = ("numpy", "pyarrow", "scipy", "scikit-learn", "timm", "torch")


class Clock:
    """Wall seconds of every stage."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - begin, 3)

    def total(self) -> float:
        """Return the seconds since the start."""
        return round(time.perf_counter() - self.start, 3)


def summarise(
    table: LabelTable, judged: Verdict, *, out: Path, quarantined: int, clock: Clock
) -> dict[str, Any]:
    """Return the summary of a run: counts, estimates with intervals, warnings and timings."""
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
        "trusted_extra": len(table.extra_trusted),
        "calibrated": len(table.pairs) > 0,
        "suspects": int(judged.is_label_issue.sum()),
        "suspects_untrusted": int(judged.is_label_issue[untrusted].sum()),
        "expected_wrong": float((1 - judged.label_score.astype(np.float64)).sum()),
        "actions": {"keep": int(actions[0]), "relabel": int(actions[1]), "review": int(actions[2])},
        "quarantined": quarantined,
        "ties": table.ties,
        "estimates": dict(judged.estimates),
        "per_class": judged.per_class,
        "guarantee": judged.guarantee,
        "warnings": list(table.warnings),
        "seconds": {**clock.seconds, "total": clock.total()},
    }


def input_record(source: Path, kind: Kind, labels: Any, trusted: Any) -> dict[str, Any]:
    """Return where the input is, with the SHA-256 of every file of it but the images."""
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


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
