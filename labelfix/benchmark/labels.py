"""``labelfix bench labels``: verdicts of labelfix and of other methods, on the same features and trusted rows.

Data sets come from the folder that LABELFIX_DATA names. Every method sees the same features and the same trusted
rows, and is evaluated on the other rows, in paired draws. cleanlab is evaluated three times: on the out-of-fold
probabilities of scikit-learn's logistic regression, with the best of a few penalties and with the default one, and
on those that labelfix itself computes from the given labels.

N rows, K classes, M trusted rows.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.benchmark.noise import feature_dependent_noise, uniform_noise
from labelfix.cross_fitting.self_training import CrossFitter
from labelfix.errors import InputError
from labelfix.images.backbones import load_backbone
from labelfix.images.feature_cache import cache_folder
from labelfix.images.features import extract_features
from labelfix.images.folder import ImageFolder
from labelfix.settings import FeatureConfig, HeadConfig, VerdictConfig
from labelfix.stacking.transition_matrix import Transition, label_counts
from labelfix.system.devices import choose_device
from labelfix.system.folds import hash_keys, stratified_folds
from labelfix.system.progress import Progress, SilentProgress
from labelfix.training.linear_head import LabelledFeatures, cross_fit_head
from labelfix.verdicts.arrays import verdict
from labelfix.verdicts.calibration import calibration_error

__all__ = ["FIGURES", "METHODS", "SUITE", "LabelTask", "compare", "means_over_data", "read_task"]

FIGURES = ("AP", "F1", "accuracy", "NLL", "ECE", "flagged")
METHODS = (
    "labelfix",
    "cleanlab",
    "cleanlab, C = 1",
    "cleanlab, our probabilities",
    "trusted probe",
    "forward correction",
    "MSLG alone",
    "labels alone",
)
RATES = (20, 40, 60, 80)
SUITE = (
    "cifar10n-aggre",
    "cifar10n-random1",
    *(f"cifar10-uniform-{rate}" for rate in RATES),
    *(f"cifar10-feature-{rate}" for rate in RATES),
    "fashion_mnist-feature-40",
    "cifar10-clean-0",
)
IMAGE_SIDE = 128
FORWARD_ROUNDS = 4
# Inverse penalties C of scikit-learn's logistic regression, its default first.
INVERSE_PENALTIES = (1.0, 0.01, 0.001, 0.0003, 0.0001)
REGRESSION_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """One data set with planted or human label errors: features (N, D), given and true labels (N,)."""

    name: str
    features: np.ndarray
    given: np.ndarray
    true: np.ndarray

    @cached_property
    def regressions(self) -> dict[float, np.ndarray]:
        """Out-of-fold probabilities (N, K) of scikit-learn's regression by C, the usual input of cleanlab.

        They use given labels alone, so they are the same in all draws of the trusted rows.
        """
        features = self.features.astype(np.float32)
        probs = {}
        for c in INVERSE_PENALTIES:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
            probs[c] = cross_val_predict(
                model, features, self.given, cv=REGRESSION_FOLDS, method="predict_proba"
            )
        return probs

    @cached_property
    def best_regression(self) -> np.ndarray:
        """Those of `regressions` with the highest likelihood of the given labels."""
        return min(self.regressions.values(), key=lambda probs: log_loss(self.given, probs))


# ------------------------------------------------------------------------------------------------------- data


def read_task(name: str, data: Path, rows: int, progress: Progress) -> LabelTask:
    """Read the first `rows` training rows of a data set of `SUITE`; noise is planted in all rows before.

    Raises
    ------
    InputError
        When the folder lacks a file, or the name is unknown.
    """
    if name not in SUITE:
        raise InputError(f"{name!r}: is not one of the data sets; expected one of {', '.join(SUITE)}.")
    source = name.split("-")[0].replace("cifar10n", "cifar10")
    table = _read(data / f"{source}.parquet", ["split", "label"])
    train = np.asarray(table["split"]) == "train"
    true = np.asarray(table["label"], np.int64)[train]
    given = _given_labels(name, source, data, true)
    features = _features(data / f"{source}.parquet", rows, progress)
    return LabelTask(name=name, features=features, given=given[:rows], true=true[:rows])


def _read(path: Path, columns: list[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: does not exist. Set LABELFIX_DATA to the folder of the benchmark data.")
    table = pq.read_table(path, columns=columns)
    return {column: table[column].to_numpy() for column in columns}


def _given_labels(name: str, source: str, data: Path, true: np.ndarray) -> np.ndarray:
    kind, _, detail = name.partition("-")[2].partition("-")
    if name.startswith("cifar10n"):
        return _read(data / "cifar10n.parquet", [kind])[kind].astype(np.int64)
    if kind == "clean":
        return true.copy()
    if kind == "uniform":
        return uniform_noise(true, int(detail) / 100, num_classes=int(true.max()) + 1, seed=0).labels
    scores = np.load(data / f"student_logits_{source}.npy")
    return feature_dependent_noise(true, int(detail) / 100, scores=scores, seed=0).labels


def _features(path: Path, rows: int, progress: Progress) -> np.ndarray:
    """Return the features of the first rows, extracted and cached as `labelfix clean` does."""
    table = pq.read_table(path, columns=["split", "image"])
    images = table.filter(np.asarray(table["split"]) == "train")["image"].slice(0, rows)
    folder = cache_folder(None) / "benchmark" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    keys = [f"{number:05d}.png" for number in range(len(images))]
    for key, content in zip(keys, images, strict=True):
        if not (folder / key).exists():
            Image.open(io.BytesIO(content.as_py())).convert("RGB").save(folder / key)
    config = FeatureConfig(image_size=IMAGE_SIDE)
    backbone = load_backbone(config.backbone, image_size=IMAGE_SIDE)
    device = choose_device("auto")
    return extract_features(
        ImageFolder(folder), keys, backbone, config, device=device, progress=progress
    ).values


# ---------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True, kw_only=True)
class _Output:
    """Posteriors (N, K), issue scores (N,; higher is worse), flags (N,) and corrected labels (N,) of a method."""

    posterior: np.ndarray
    issue_score: np.ndarray
    flagged: np.ndarray
    corrected: np.ndarray


def compare(task: LabelTask, *, trusted: int, draw: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (method, figures) for one draw of `trusted` rows, evaluated on the other rows."""
    rng = np.random.default_rng(1000 + draw)
    rows = np.sort(rng.permutation(len(task.true))[:trusted])
    trusted_labels = np.full(len(task.true), -1)
    trusted_labels[rows] = task.true[rows]
    data = LabelledFeatures(
        features=task.features,
        given=task.given,
        trusted=trusted_labels,
        hashes=hash_keys(map(str, range(len(trusted_labels))), draw),
        num_classes=int(task.true.max()) + 1,
    )
    device = choose_device("auto")
    fold = stratified_folds(data.hashes, trusted_labels, HeadConfig.folds)
    mslg = cross_fit_head(data, fold, HeadConfig(), seed=draw, device=device, progress=SilentProgress())
    prior_rows = VerdictConfig().prior_rows
    fitter = CrossFitter(data, fold, device)
    evidence = fitter.predictions(prior_rows, SilentProgress())
    given_probs = evidence.pop("given")
    judged = verdict(
        given_probs,
        task.given,
        rows,
        task.true[rows],
        folds=fold,
        evidence={**evidence, "mslg": mslg},
    )
    outputs: dict[str, Callable[[], _Output]] = {
        "labelfix": lambda: _by_posterior(judged.soft_label, task.given),
        "cleanlab": lambda: _cleanlab(task.best_regression, task.given),
        "cleanlab, C = 1": lambda: _cleanlab(task.regressions[1.0], task.given),
        "cleanlab, our probabilities": lambda: _cleanlab(given_probs, task.given),
        "trusted probe": lambda: _by_posterior(fitter.probe(), task.given),
        "forward correction": lambda: _by_posterior(
            _forward(fitter, given_probs, task, rows, prior_rows), task.given
        ),
        "MSLG alone": lambda: _by_posterior(mslg, task.given),
        "labels alone": lambda: _labels_alone(task, rows),
    }
    untrusted = trusted_labels < 0
    for name in METHODS:
        yield name, _figures(outputs[name](), task, untrusted)


def means_over_data(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return method -> figure -> mean over data sets, of means over draws; sets without noise are left out.

    `rows` have data, method and the figures; AP is None where no label is wrong. Empty where no set has noise.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in (row for row in rows if row["AP"] is not None):
        for figure in FIGURES:
            by_data = values.setdefault(row["method"], {}).setdefault(figure, {})
            by_data.setdefault(row["data"], []).append(row[figure])
    return {
        method: {figure: fmean(map(fmean, by_data.values())) for figure, by_data in figures.items()}
        for method, figures in values.items()
    }


def _by_posterior(posterior: np.ndarray, given: np.ndarray) -> _Output:
    predicted = posterior.argmax(1)
    issue_score = 1 - posterior[np.arange(len(given)), given]
    return _Output(
        posterior=posterior, issue_score=issue_score, flagged=predicted != given, corrected=predicted
    )


def _cleanlab(probs: np.ndarray, given: np.ndarray) -> _Output:
    """Defaults of cleanlab: ranking by self-confidence, `find_label_issues`, the argmax where it flags."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_self_confidence_for_each_label

    probs = probs / probs.sum(1, keepdims=True, dtype=np.float64)
    flagged = find_label_issues(given, probs, n_jobs=1)
    return _Output(
        posterior=probs,
        issue_score=1 - get_self_confidence_for_each_label(given, probs),
        flagged=flagged,
        corrected=np.where(flagged, probs.argmax(1), given),
    )


def _forward(
    fitter: CrossFitter, probs: np.ndarray, task: LabelTask, rows: np.ndarray, prior_rows: float | None
) -> np.ndarray:
    """Forward correction with the trusted transition matrix (Patrini et al. 2017), by expectation-maximisation.

    EM with targets proportional to f_k T[k, g_i] maximises sum_i log sum_k f_k(x_i) T[k, g_i].
    """
    ones = np.ones(len(rows))
    matrix = Transition.fit(
        task.true[rows], task.given[rows], ones, label_counts(probs, task.given), prior_rows
    ).probability
    for _ in range(FORWARD_ROUNDS):
        targets = probs * matrix[:, task.given].T.astype(np.float32)
        targets /= targets.sum(1, keepdims=True)
        probs = fitter.out_of_fold(targets[None])
    return probs


def _labels_alone(task: LabelTask, rows: np.ndarray) -> _Output:
    """Return the given labels, all with the confidence that the trusted rows support."""
    num_classes = int(task.true.max()) + 1
    accuracy = (np.sum(task.given[rows] == task.true[rows]) + 1) / (len(rows) + 2)
    posterior = np.full((len(task.given), num_classes), (1 - accuracy) / (num_classes - 1), np.float32)
    posterior[np.arange(len(task.given)), task.given] = accuracy
    none = np.zeros(len(task.given), bool)
    return _Output(posterior=posterior, issue_score=none.astype(float), flagged=none, corrected=task.given)


def _figures(output: _Output, task: LabelTask, rows: np.ndarray) -> dict[str, float]:
    """Return the values of `FIGURES` on `rows` (N,) bool."""
    wrong, flagged = (task.given != task.true)[rows], output.flagged[rows]
    true, posterior = task.true[rows], output.posterior[rows]
    likelihood = posterior[np.arange(len(true)), true]
    values = (
        average_precision_score(wrong, output.issue_score[rows]) if wrong.any() else float("nan"),
        2 * (wrong & flagged).sum() / max(wrong.sum() + flagged.sum(), 1),
        (output.corrected[rows] == true).mean(),
        -np.log(np.maximum(likelihood.astype(np.float64), 1e-7)).mean(),
        calibration_error(posterior.max(1), posterior.argmax(1) == true),
        flagged.mean(),
    )
    return {name: float(value) for name, value in zip(FIGURES, values, strict=True)}
