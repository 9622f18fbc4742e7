"""A small real data set with planted label noise, for a run of `labelfix.clean` without any other data.

scikit-learn ships 1,797 scanned handwritten digits. They are written as image files. Five simulated annotators of
different accuracy label them, with the usual confusions of digits; one row in ten is verified. The true labels are
written to a separate file, which only the comparison at the end reads.
"""

import csv
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labelfix.errors import OutputError
from labelfix.pipeline import CleanResult, clean
from labelfix.system.progress import Progress

__all__ = ["DemoResult", "run_demo", "write_demo_data"]

# Share of wrong labels of each annotator, and the digit that each digit is most often confused with.
ANNOTATOR_ERROR = {"alice": 0.04, "bob": 0.08, "carol": 0.12, "dave": 0.20, "erin": 0.35}
CONFUSED_WITH = {0: 6, 1: 7, 2: 7, 3: 8, 4: 9, 5: 6, 6: 0, 7: 1, 8: 3, 9: 4}
# Share of the errors that take that digit; the others take any other digit.
CONFUSABLE_SHARE = 0.8
TRUSTED_SHARE = 0.1
SIDE = 64
MARKER = "truth.csv"


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The run, and its comparison with the true labels on the unverified rows.

    Attributes
    ----------
    result
        What `labelfix.clean` returned.
    rows, planted, found, flagged
        Unverified rows, wrong labels among them, flagged wrong labels, and all flagged labels.
    noise_before, noise_after
        Share of wrong labels among the given labels, and among the predicted ones.
    """

    result: CleanResult
    rows: int
    planted: int
    found: int
    flagged: int
    noise_before: float
    noise_after: float

    @property
    def precision(self) -> float:
        """Share of the flagged labels that are wrong."""
        return self.found / max(self.flagged, 1)

    @property
    def recall(self) -> float:
        """Share of the wrong labels that are flagged."""
        return self.found / max(self.planted, 1)


def run_demo(
    folder: Path, *, force: bool = False, seed: int = 0, progress: Progress | None = None, **options: Any
) -> DemoResult:
    """Write the demo data to `folder`, clean it, and compare the verdicts with the true labels.

    Raises
    ------
    OutputError
        When `folder` is not empty, and `force` is false or it is not an earlier demo.
    """
    truth = write_demo_data(folder, force=force, seed=seed)
    result = clean(
        folder / "images",
        folder / "labels.csv",
        folder / "trusted.csv",
        out=folder / "labelfix-out",
        force=force,
        progress=progress,
        **{"image_size": SIDE, "train": "head", "seed": seed, "cache_dir": str(folder / "cache"), **options},
    )
    table = result.soft_labels
    true = np.array([truth[name] for name in table["image"].to_pylist()])
    given = np.array(table["given_label"].to_pylist())
    predicted = np.array(table["predicted_label"].to_pylist())
    unverified = np.array(table["trusted_label"].is_null())
    wrong, flagged = (given != true)[unverified], (predicted != given)[unverified]
    return DemoResult(
        result=result,
        rows=int(unverified.sum()),
        planted=int(wrong.sum()),
        found=int((wrong & flagged).sum()),
        flagged=int(flagged.sum()),
        noise_before=float(wrong.mean()),
        noise_after=float((predicted != true)[unverified].mean()),
    )


def write_demo_data(
    folder: Path,
    *,
    force: bool = False,
    seed: int = 0,
    errors: Mapping[str, float] = ANNOTATOR_ERROR,
    trusted_share: float = TRUSTED_SHARE,
) -> dict[str, str]:
    """Write images/, labels.csv, trusted.csv and truth.csv to `folder`; return the true label of every image.

    Parameters
    ----------
    errors
        Share of wrong labels of each annotator.
    trusted_share
        Share of the images that are verified.
    """
    from sklearn.datasets import load_digits

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (force and (folder / MARKER).is_file()):
            raise OutputError(
                f"{folder}: is not empty. Choose another folder, or replace an earlier demo with --force."
            )
        shutil.rmtree(folder / "images", ignore_errors=True)
    rng = np.random.default_rng(seed)
    digits = load_digits()
    names = [f"scan_{i:04d}.png" for i in range(len(digits.target))]
    annotators = rng.choice(list(errors), len(names))
    labels = [_noisy_label(int(t), errors[a], rng) for t, a in zip(digits.target, annotators, strict=True)]
    verified = np.sort(rng.permutation(len(names))[: round(trusted_share * len(names))])
    truth = dict(zip(names, map(str, digits.target), strict=True))
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name, scan in zip(names, digits.images, strict=True):
            ink = np.rint(255 - scan * (255 / 16)).astype(np.uint8)
            Image.fromarray(ink, "L").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(
                folder / "images" / name
            )
        _write_csv(
            folder / "labels.csv",
            ["image", "label", "annotator"],
            zip(names, labels, annotators, strict=True),
        )
        trusted = ((names[i], digits.target[i]) for i in verified)
        _write_csv(folder / "trusted.csv", ["image", "label"], trusted)
        _write_csv(folder / MARKER, ["image", "label"], truth.items())
    except OSError as error:
        raise OutputError(f"{folder}: the demo cannot be written ({error.strerror}).") from error
    return truth


def _noisy_label(true: int, error: float, rng: np.random.Generator) -> int:
    """Return the label that an annotator with this share of errors gives."""
    if rng.random() >= error:
        return true
    if rng.random() < CONFUSABLE_SHARE:
        return CONFUSED_WITH[true]
    return int((true + rng.integers(1, 10)) % 10)


def _write_csv(path: Path, header: list[str], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
