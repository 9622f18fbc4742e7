"""Side by side on the same images and features: labelfix, and cleanlab on out-of-fold logistic regression.

Writes 10,000 CIFAR-10 images out as files with the human labels of CIFAR-10N, verifies 500 of them at random,
runs ``labelfix clean`` from a cold and from a warm cache as whole processes, then cleanlab's
``get_label_quality_scores`` (self-confidence) on a five-fold logistic regression over the same features.
Every figure is measured on the rows that nobody verified.

    LABELFIX_DATA=folder python examples/compare_with_cleanlab.py --rows 10000 --labels aggre

The folder holds cifar10.parquet (split, index, image, label) and cifar10n.parquet (index, clean, aggre, random1).
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.images.backbones import load_backbone
from labelfix.images.features import extract_features
from labelfix.images.folder import ImageFolder
from labelfix.settings import FeatureConfig
from labelfix.system.progress import SilentProgress

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_SIZE = 128


def main() -> None:
    """Run both and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--trusted", type=int, default=500)
    parser.add_argument("--labels", choices=["aggre", "random1"], default="aggre")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the images, the run and the features here")
    arguments = parser.parse_args()
    if "LABELFIX_DATA" not in os.environ:
        parser.error("set LABELFIX_DATA to the folder with cifar10.parquet and cifar10n.parquet")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        given, true, verified = write_data(folder, arguments)
        unverified = np.setdiff1d(np.arange(arguments.rows), verified)
        print(f"labelfix {version('labelfix')}, cleanlab {version('cleanlab')}, torch {version('torch')}")
        print(
            f"{arguments.rows:,} images, {arguments.labels} labels, {len(verified)} verified, seed {arguments.seed}"
        )
        print(f"{'':42}{'AP':>8}{'F1':>8}{'accuracy':>10}{'seconds':>9}")
        show("given labels", given, true, unverified, 1.0 - np.zeros(len(given)), given, 0.0)
        for cache in ("cold", "warm"):
            seconds = run_labelfix(folder, arguments.seed)
            table = pq.read_table(folder / "out" / "soft_labels.parquet")
            predicted = np.array([CLASSES.index(name) for name in table["predicted_label"].to_pylist()])
            show(f"labelfix clean, {cache} cache", given, true, unverified,
                 table["label_score"].to_numpy(), predicted, seconds)  # fmt: skip
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{'':42}peak memory of labelfix: {peak:.2f} GiB")
        features = load_features(folder, arguments.rows)
        for strength in (1.0, 0.01, 0.001):
            begin = time.perf_counter()
            probs = out_of_fold(features, given, strength)
            score = get_label_quality_scores(given, probs)
            issue = find_label_issues(given, probs)
            fixed = np.where(issue, probs.argmax(1), given)
            name = f"cleanlab, logistic regression C={strength:g}"
            show(name, given, true, unverified, score, fixed, time.perf_counter() - begin)


def write_data(folder: Path, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write images/, labels.csv and trusted.csv; return the given and true labels and the verified rows."""
    data = Path(os.environ["LABELFIX_DATA"])
    images = pq.read_table(data / "cifar10.parquet", filters=[("split", "=", "train")])["image"]
    labels = pq.read_table(data / "cifar10n.parquet").slice(0, arguments.rows)
    given, true = labels[arguments.labels].to_numpy(), labels["clean"].to_numpy()
    verified = np.random.default_rng(arguments.seed).permutation(arguments.rows)[: arguments.trusted]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(images.slice(0, arguments.rows).to_pylist()):
        (folder / "images" / f"{i:05d}.jpg").write_bytes(content)
    for name, rows, column in (("labels", range(arguments.rows), given), ("trusted", verified, true)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label"])
            writer.writerows((f"{i:05d}.jpg", CLASSES[column[i]]) for i in rows)
    return given.astype(np.int64), true.astype(np.int64), verified


def run_labelfix(folder: Path, seed: int) -> float:
    """Run ``labelfix clean`` as a process; return its wall seconds."""
    command = [
        sys.executable, "-m", "labelfix_cli", "clean", str(folder / "images"), str(folder / "labels.csv"),
        "--trusted", str(folder / "trusted.csv"), "--out", str(folder / "out"), "--force", "--quiet",
        "--image-size", str(IMAGE_SIZE), "--cache-dir", str(folder / "cache"), "--seed", str(seed),
    ]  # fmt: skip
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def load_features(folder: Path, rows: int) -> np.ndarray:
    """Return the features that labelfix stored, (N, D) float32, in the order of the labels."""
    matrix = extract_features(
        ImageFolder(folder / "images"),
        [f"{i:05d}.jpg" for i in range(rows)],
        load_backbone("embedded", image_size=IMAGE_SIZE),
        FeatureConfig(cache_dir=str(folder / "cache")),
        device=torch.device("cpu"),
        progress=SilentProgress(),
    )
    return matrix.values.astype(np.float32)


def out_of_fold(features: np.ndarray, given: np.ndarray, strength: float) -> np.ndarray:
    """Return five-fold out-of-fold probabilities, (N, K), of a logistic regression on the given labels."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return cross_val_predict(model, features, given, cv=5, method="predict_proba")


def show(
    name: str,
    given: np.ndarray,
    true: np.ndarray,
    rows: np.ndarray,
    score: np.ndarray,
    predicted: np.ndarray,
    seconds: float,
) -> None:
    """Print one line: how well low scores find wrong labels, and how many labels are right afterwards."""
    wrong = (given != true)[rows]
    average_precision = average_precision_score(wrong, 1 - score[rows])
    f1 = f1_score(wrong, (predicted != given)[rows])
    accuracy = (predicted == true)[rows].mean()
    print(f"{name:42}{average_precision:8.3f}{f1:8.3f}{accuracy:10.4f}{seconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
