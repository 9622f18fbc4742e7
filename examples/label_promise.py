"""How many labels a person must verify before few of all labels are wrong: ``--max-label-error``, and its rivals.

Takes out-of-fold probabilities, 1,000 random trusted rows and a limit, and counts the rows that are left to verify
beyond the 1,000, as the mean over draws: with the verdict of labelfix, with the probabilities as they are (the same
test; the most probable class, the most confident first), and by verifying at random until as few labels can be
wrong (given labels kept). The truth of the data set says how many promises are broken.

    python examples/label_promise.py probs1.npz probs2.npz --limits 0.05 0.02 --draws 20

Each .npz file holds probs (N, K), given (N,) and true (N,). With --cifar10n, LABELFIX_DATA names the folder with
cifar10.parquet and cifar10n.parquet; the images are cleaned with a head on the embedded backbone, once per draw.
"""

import argparse
import math
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import mean

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import labelfix
from labelfix.cross_fitting import predict_out_of_fold
from labelfix.images.folder import ImageFolder
from labelfix.inputs import read_label_table
from labelfix.risk_control.promise import Answers, largest_set, list_level, most_wrong
from labelfix.settings import CleanConfig, Kind, VerdictConfig
from labelfix.system.clock import Clock
from labelfix.system.progress import SilentProgress
from labelfix.verdicts import judge

COVERAGE = 0.95
LEVEL = list_level(1, 1 - COVERAGE)


def main() -> None:
    """Print one line per data set and limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--cifar10n", nargs="*", default=[], choices=["aggre", "random1"])
    parser.add_argument("--limits", nargs="*", type=float, default=[0.05, 0.02])
    parser.add_argument("--trusted", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--image-size", type=int, help="default: what the backbone was trained with")
    asked = parser.parse_args()
    print(
        f"labelfix {version('labelfix')}, {asked.trusted:,} trusted rows, {asked.draws} draws, {COVERAGE:.0%} sure"
    )
    print(
        f"{'data set':36}{'limit':>7}{'labelfix':>10}{'raw probs':>11}{'at random':>11}{'broken':>8}{'wrong':>8}"
    )
    broken = dict.fromkeys(asked.limits, 0)
    for path in asked.files:
        with np.load(path) as data:
            arrays = tuple(data[name] for name in ("probs", "given", "true"))
        show(path.stem, Probabilities(*arrays), asked, broken)
    for name in asked.cifar10n:
        with tempfile.TemporaryDirectory() as folder:
            show(
                f"cifar-10n {name}, images",
                CleanedImages(Path(folder), name, asked.image_size),
                asked,
                broken,
            )
    for limit, count in broken.items():
        print(f"broken at {limit:.0%}: {count}")


def show(name, data, asked, broken) -> None:  # type: ignore[no-untyped-def]
    """Print the lines of a data set; add the broken promises to `broken`."""
    counts = {(limit, way): [] for limit in asked.limits for way in ("ours", "raw", "random", "wrong")}
    for draw in range(asked.draws):
        rows = np.random.default_rng(draw).permutation(len(data.true))[: asked.trusted]
        for limit, promise, promised, predicted, probs in data.verdicts(rows, asked.limits):
            to_verify, wrong = outcome(promise, promised, predicted, rows, data.true)
            counts[limit, "ours"].append(to_verify)
            counts[limit, "wrong"].append(wrong)
            counts[limit, "raw"].append(with_raw_probabilities(probs, data.true, rows, limit))
            counts[limit, "random"].append(at_random(data.given, data.true, rows, limit))
    for limit in asked.limits:
        failures = sum(share > limit for share in counts[limit, "wrong"])
        broken[limit] += failures
        means = [mean(counts[limit, way]) for way in ("ours", "raw", "random")]
        shown = "".join(f"{value:{width},.0f}" for value, width in zip(means, (10, 11, 11), strict=True))
        print(f"{name:36}{limit:7.0%}{shown}{failures:8}{mean(counts[limit, 'wrong']):8.2%}", flush=True)


class Probabilities:
    """Out-of-fold probabilities of any classifier."""

    def __init__(self, probs: np.ndarray, given: np.ndarray, true: np.ndarray):
        self.probs = probs / probs.sum(1, keepdims=True)
        self.given, self.true = given.astype(int), true.astype(int)

    def verdicts(self, rows, limits):  # type: ignore[no-untyped-def]
        """Yield limit, promise, rows that may be taken, predicted labels, and probabilities, for each limit."""
        for limit in limits:
            config = VerdictConfig(max_label_error=limit, interval=COVERAGE)
            found = labelfix.verdict(self.probs, self.given, rows, self.true[rows], config=config)
            yield limit, found.promises[0], found.promised, found.predicted_label, self.probs


def outcome(promise, promised, predicted, rows, true):  # type: ignore[no-untyped-def]
    """Return what is left to verify (without a promise all rows but the trusted), and the share then wrong."""
    if not promise.size:
        return len(true) - len(rows), 0.0
    taken = promised.copy()
    taken[rows] = False
    return promise.to_verify, float((predicted[taken] != true[taken]).sum() / len(true))


def with_raw_probabilities(probs, true, rows, limit) -> int:  # type: ignore[no-untyped-def]
    """Return how many rows are left where probabilities are taken as they are."""
    rank = np.empty(len(true), np.int64)
    rank[np.argsort(-probs.max(1), kind="stable")] = np.arange(len(true))
    answers = Answers(rank=rank[rows], wrong=probs.argmax(1)[rows] != true[rows])
    taken = largest_set(len(true), most_wrong(limit, len(true)), answers, LEVEL)
    left = rank >= taken
    left[rows] = False
    return int(left.sum())


def at_random(given, true, rows, limit) -> int:  # type: ignore[no-untyped-def]
    """Return how many more random rows to verify until the share of wrong labels in the others is small enough.

    The rows that are left to verify are a random part of the data set: what a random sample says of its given
    labels holds for them, too.
    """
    order = np.random.default_rng(len(rows)).permutation(len(true))
    rank = np.empty(len(true), np.int64)
    rank[order] = np.arange(len(true))
    answers = Answers(rank=rank[rows], wrong=given[rows] != true[rows])
    taken = largest_set(len(true), most_wrong(limit, len(true)), answers, LEVEL)
    return math.ceil((len(true) - taken) * (1 - len(rows) / len(true)))


class CleanedImages:
    """CIFAR-10 with human labels, as files: a head is trained for every draw."""

    CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, folder: Path, labels: str, image_size: int | None):
        source = Path(os.environ["LABELFIX_DATA"])
        self.folder, self.config = (
            folder,
            CleanConfig.from_options({"image_size": image_size, "train": "head"}),
        )
        images = pq.read_table(source / "cifar10.parquet", filters=[("split", "=", "train")])["image"]
        table = pq.read_table(source / "cifar10n.parquet")
        self.names = [f"{number:05d}.jpg" for number in range(len(images))]
        for name, content in zip(self.names, images.to_pylist(), strict=True):
            (folder / name).write_bytes(content)
        self.given, self.true = (table[name].to_numpy().astype(int) for name in (labels, "clean"))

    def verdicts(self, rows, limits):  # type: ignore[no-untyped-def]
        """Yield limit, promise, rows that may be taken, predicted labels, and probabilities, for each limit."""
        images, named = ImageFolder(self.folder), np.array(self.CLASSES)
        labels = pa.table({"image": self.names, "label": named[self.given].tolist()})
        trusted = labels.take(rows).set_column(1, "label", pa.array(named[self.true[rows]].tolist()))
        table = read_label_table(labels, trusted, classes=self.CLASSES, identify=images.identify)
        with tempfile.TemporaryDirectory() as out:
            predictions = predict_out_of_fold(
                images, Kind.IMAGES, table, self.config, Path(out), resume=False, clock=Clock(),
                progress=SilentProgress(),
            )  # fmt: skip
        for limit in limits:
            found = judge(predictions, VerdictConfig(max_label_error=limit, interval=COVERAGE))
            yield limit, found.promises[0], found.promised, found.predicted_label, predictions.probs


if __name__ == "__main__":
    main()
