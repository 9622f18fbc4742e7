"""How close does the audit come? Simulated annotators on real images, next to what people use now.

Twenty annotators with accuracies from .55 to .98, each good at some classes and with favourite mistakes, label
every image once, or three times; one image in ten is verified. The truth is known, so that every method can be held
against it:

    agreement      how often an annotator says what most say (cleanlab.multiannotator, quality_method="agreement")
    CROWDLAB       cleanlab.multiannotator with out-of-fold probabilities of a logistic regression on the same
                   features; also with the trusted labels, as one more annotator and in place of the majority
    Dawid-Skene    crowd-kit's, from the labels alone; also with the trusted labels as true ones
    labelfix       what `labelfix audit` says
    the truth      the share of right labels that each annotator gave, as if all labels were verified: as far as the
                   draw of the labels lets anybody come

    python examples/simulated_annotators.py --draws 24
    LABELFIX_DATA=folder python examples/simulated_annotators.py --data cifar10 --images 5000 --labels-per-image 3

The digits are scikit-learn's scans (1,797, with about 90 labels per annotator and label of an image); CIFAR-10 and
Fashion-MNIST come from LABELFIX_DATA, and their features from the embedded backbone.

N images, R label rows, K classes, A annotators.
"""

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import spearmanr

import labelfix

NUM_ANNOTATORS = 20
IMAGE_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A finished run on simulated labels.

    Attributes
    ----------
    result
        What `labelfix.clean` returned.
    features, true
        (N, D) and (N,) of the images.
    rows
        (R, 3) image, annotator, label.
    trusted
        Numbers of the verified images.
    accuracy, matrices
        (A,) the chance of each annotator's label being right, and (A, K, K) P_a(given | true).
    """

    result: labelfix.CleanResult
    features: np.ndarray
    true: np.ndarray
    rows: np.ndarray
    trusted: np.ndarray
    accuracy: np.ndarray
    matrices: np.ndarray

    @property
    def audit(self) -> pd.DataFrame:
        """The annotators as the audit sees them, in the order of their numbers."""
        assert self.result.annotators is not None
        return self.result.annotators.to_pandas()

    @property
    def covered(self) -> np.ndarray:
        """(A,) whether each interval holds the true accuracy."""
        frame = self.audit
        return ((frame.low <= self.accuracy) & (self.accuracy <= frame.high)).to_numpy()


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a method says: accuracies (A,), and the label of every image (N,)."""

    accuracy: np.ndarray
    consensus: np.ndarray


def simulate(
    folder: Path,
    features: np.ndarray,
    true: np.ndarray,
    *,
    seed: int,
    per_image: int = 1,
    num_annotators: int = NUM_ANNOTATORS,
    trusted_share: float = 0.1,
) -> Crowd:
    """Draw annotators of accuracies .55 to .98 with their own confusions, let them label, and clean."""
    rng = np.random.default_rng(seed)
    num_classes = int(true.max()) + 1
    level = rng.permutation(np.linspace(0.55, 0.98, num_annotators))
    hits = np.clip(level[:, None] + rng.normal(0, 0.06, (num_annotators, num_classes)), 0.2, 0.995)
    matrices = np.zeros((num_annotators, num_classes, num_classes))
    for k in range(num_classes):
        elsewhere = rng.dirichlet(np.full(num_classes - 1, 0.4), num_annotators)
        matrices[:, k, np.arange(num_classes) != k] = (1 - hits[:, k, None]) * elsewhere
        matrices[:, k, k] = hits[:, k]
    who = np.argsort(rng.random((len(true), num_annotators)), axis=1)[:, :per_image]
    image = np.repeat(np.arange(len(true)), per_image)
    cumulated = matrices[who.reshape(-1), true[image]].cumsum(1)
    label = (cumulated < rng.random((len(image), 1))).sum(1).clip(max=num_classes - 1)
    trusted = rng.permutation(len(true))[: round(trusted_share * len(true))]
    names = np.array([f"i{n:05d}" for n in range(len(true))])
    folder.mkdir(parents=True, exist_ok=True)
    matrix = folder / "features.parquet"
    pd.DataFrame({"image": names, "features": list(features.astype(np.float32))}).to_parquet(matrix)
    annotators = [f"a{number:02d}" for number in who.reshape(-1)]
    result = labelfix.clean(
        matrix,
        pd.DataFrame({"image": names[image], "label": label, "annotator": annotators}),
        pd.DataFrame({"image": names[trusted], "label": true[trusted]}) if len(trusted) else None,
        folder / "out",
        kind="features",
        classes=[str(k) for k in range(num_classes)],
        seed=seed,
        report=False,
    )
    matrix.unlink()
    share = np.bincount(true, minlength=num_classes) / len(true)
    return Crowd(
        result=result,
        features=features,
        true=true,
        rows=np.stack([image, who.reshape(-1), label], axis=1),
        trusted=trusted,
        accuracy=np.einsum("k,akk->a", share, matrices),
        matrices=matrices,
    )


# ---------------------------------------------------------------------------------------------------- opinions


def own_opinion(crowd: Crowd) -> Opinion:
    """Return what the run says; its consensus where images have several labels, else its predictions."""
    table = crowd.result.soft_labels
    predicted = table["predicted_label"].to_numpy().astype(int)
    path = crowd.result.out / "consensus.parquet"
    if path.exists():
        predicted = pq.read_table(path)["consensus_label"].to_numpy().astype(int)
    return Opinion(accuracy=crowd.audit.accuracy.to_numpy(), consensus=predicted)


def majority(rows: np.ndarray, num_images: int, num_classes: int) -> np.ndarray:
    """Return the most frequent label (N,) of every image, the first class at a tie."""
    votes = np.zeros((num_images, num_classes))
    np.add.at(votes, (rows[:, 0], rows[:, 2]), 1)
    return votes.argmax(1)


def best_opinion(crowd: Crowd) -> Opinion:
    """Return what the truth says."""
    image, _, label = crowd.rows.T
    return Opinion(accuracy=_shares(crowd, crowd.true[image] == label), consensus=crowd.true)


def rival_opinions(crowd: Crowd) -> dict[str, Opinion]:
    """Return what others say of the same labels, features and trusted labels."""
    opinions = {}
    if len(crowd.rows) > len(crowd.true):  # cleanlab refuses a table in which every image has one label
        opinions["agreement with majority"] = _agreement(crowd)
        opinions["CROWDLAB"] = _crowdlab(crowd, use_trusted=False)
    opinions["CROWDLAB, trusted labels as well"] = _crowdlab(crowd, use_trusted=True)
    opinions["Dawid-Skene"] = _dawid_skene(crowd, use_trusted=False)
    opinions["Dawid-Skene, trusted labels as well"] = _dawid_skene(crowd, use_trusted=True)
    return opinions


def _agreement(crowd: Crowd) -> Opinion:
    image, _, label = crowd.rows.T
    most = majority(crowd.rows, len(crowd.true), crowd.matrices.shape[1])
    return Opinion(accuracy=_shares(crowd, most[image] == label), consensus=most)


def _shares(crowd: Crowd, right: np.ndarray) -> np.ndarray:
    """Return the share of right label rows (A,) of every annotator, where `right` is (R,)."""
    who, size = crowd.rows[:, 1], len(crowd.accuracy)
    return np.bincount(who, right, size) / np.bincount(who, minlength=size)


def _crowdlab(crowd: Crowd, *, use_trusted: bool) -> Opinion:
    from cleanlab.multiannotator import get_label_quality_multiannotator
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    image, who, label = crowd.rows.T
    size, num_classes = len(crowd.accuracy), crowd.matrices.shape[1]
    target = majority(crowd.rows, len(crowd.true), num_classes)
    wide = np.full((len(crowd.true), size + use_trusted), np.nan)
    wide[image, who] = label
    if use_trusted:
        target[crowd.trusted] = crowd.true[crowd.trusted]
        wide[crowd.trusted, size] = crowd.true[crowd.trusted]
    scaled = (crowd.features - crowd.features.mean(0)) / (crowd.features.std(0) + 1e-6)
    model = LogisticRegression(C=0.001 if crowd.features.shape[1] > 200 else 0.01, max_iter=500)
    probs = cross_val_predict(model, scaled, target, cv=5, method="predict_proba")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_label_quality_multiannotator(
            pd.DataFrame(wide), probs, verbose=False, return_detailed_quality=False
        )
    quality = found["annotator_stats"].sort_index().annotator_quality.to_numpy()[:size]
    return Opinion(accuracy=quality, consensus=found["label_quality"].consensus_label.to_numpy())


def _dawid_skene(crowd: Crowd, *, use_trusted: bool) -> Opinion:
    """Read accuracies from the posteriors, as the expected share of right labels."""
    from crowdkit.aggregation import DawidSkene

    image, who, label = crowd.rows.T
    known = pd.Series(crowd.true[crowd.trusted], index=pd.Index(crowd.trusted, name="task"), name="label")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probs: Any = (
            DawidSkene(n_iter=200)
            .fit(
                pd.DataFrame({"task": image, "worker": who, "label": label}),
                true_labels=known if use_trusted else None,
            )
            .probas_
        )
    probs = probs.sort_index().reindex(columns=range(crowd.matrices.shape[1]), fill_value=0.0).to_numpy()
    return Opinion(accuracy=_shares(crowd, probs[image, label]), consensus=probs.argmax(1))


# -------------------------------------------------------------------------------------------------------- data


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64) and classes of scikit-learn's scanned digits."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return data.data, data.target


def backbone_features(table: Path, images: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, D) by the embedded backbone, and classes, of the first images of a data set."""
    import torch

    from labelfix.images.backbones import load_backbone
    from labelfix.images.features import extract_features
    from labelfix.images.folder import ImageFolder
    from labelfix.settings import FeatureConfig
    from labelfix.system.progress import SilentProgress

    rows = pq.read_table(table, columns=["image", "label"]).slice(0, images)
    names = [f"{number:05d}.png" for number in range(images)]
    source = folder / "images"
    source.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, rows["image"].to_pylist(), strict=True):
        (source / name).write_bytes(content)
    matrix = extract_features(
        ImageFolder(source),
        names,
        load_backbone("embedded", image_size=IMAGE_SIZE),
        FeatureConfig(cache_dir=str(folder / "cache"), workers=0),
        device=torch.device("cpu"),
        progress=SilentProgress(),
    )
    return matrix.values.astype(np.float32), rows["label"].to_numpy().astype(np.int64)


# ------------------------------------------------------------------------------------------------------ figures


def figures_of(crowd: Crowd, opinion: Opinion) -> tuple[float, float, float]:
    """Return the rank correlation, the mean error of the accuracies, and the share of right labels of images.

    Labels are counted on the images that nobody verified.
    """
    unverified = np.setdiff1d(np.arange(len(crowd.true)), crowd.trusted)
    return (
        float(spearmanr(opinion.accuracy, crowd.accuracy)[0]),
        float(np.abs(opinion.accuracy - crowd.accuracy).mean()),
        float((opinion.consensus == crowd.true)[unverified].mean()),
    )


WIDTHS = (16, 8, 17, 19, 16)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.3f}"


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def main() -> None:
    """Measure over draws, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "cifar10", "fashion_mnist"], default="digits")
    parser.add_argument("--images", type=int, default=5000, help="of cifar10 and fashion_mnist")
    parser.add_argument("--labels-per-image", type=int, default=1)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--trusted", type=float, default=0.1, help="share of the images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.data == "digits":
            features, true = digits()
        else:
            if "LABELFIX_DATA" not in os.environ:
                parser.error("set LABELFIX_DATA to the folder with cifar10.parquet or fashion_mnist.parquet")
            table = Path(os.environ["LABELFIX_DATA"]) / f"{arguments.data}.parquet"
            features, true = backbone_features(table, arguments.images, folder)
        figures: dict[str, list[tuple[float, float, float]]] = {}
        covered, widths = [], []
        for seed in range(arguments.draws):
            crowd = simulate(
                folder / str(seed), features, true, seed=seed, per_image=arguments.labels_per_image,
                trusted_share=arguments.trusted,
            )  # fmt: skip
            covered.append(crowd.covered.mean())
            widths.append((crowd.audit.high - crowd.audit.low).mean())
            opinions = {
                "labelfix": own_opinion(crowd),
                **rival_opinions(crowd),
                "the truth": best_opinion(crowd),
            }
            for name, opinion in opinions.items():
                figures.setdefault(name, []).append(figures_of(crowd, opinion))
            print(f"draw {seed + 1} of {arguments.draws}", file=sys.stderr, flush=True)
    packages = ", ".join(f"{name} {version(name)}" for name in ("labelfix", "cleanlab", "crowd-kit"))
    print(
        f"{arguments.data}: {len(true):,} images, {len(crowd.accuracy)} annotators, {arguments.labels_per_image} "
        f"labels per image, {len(crowd.trusted)} verified, {arguments.draws} draws; {packages}"
    )
    titles = ("Spearman", "least", "to labelfix", "error of accuracy", "labels right")
    print(" " * 36 + "".join(title.rjust(width) for title, width in zip(titles, WIDTHS, strict=True)))
    for name, rows in figures.items():
        values = np.array(rows)
        behind = (values - np.array(figures["labelfix"]))[:, 0]
        difference = f"{behind.mean():+.3f} ± {_standard_error(behind):.3f}"
        rank, error, right = map(_spread, values.T)
        cells = (rank, f"{values[:, 0].min():.3f}", difference, error, right)
        print(name.ljust(36) + "".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True)))
    print("mean ± standard deviation over draws; to labelfix: paired difference ± its standard error")
    print(
        f"95 % intervals hold the true accuracy {np.mean(covered):.1%} of the time (least of a draw "
        f"{np.min(covered):.0%}); mean width {np.mean(widths):.3f}"
    )


if __name__ == "__main__":
    main()
