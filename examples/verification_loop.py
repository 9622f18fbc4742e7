"""What verified labels buy: the loop sample, clean, next.

Writes CIFAR-10 images out as files with human labels of CIFAR-10N, verifies some of them at random, and runs
``labelfix clean``. Then it verifies a few more, those that ``labelfix next`` draws, and asks what is promised of
the list (``--max-fix-error 0.05``). The answers come from the clean labels of the data set, so that it can also be
counted how many of the promised fixes are wrong, and after which row of the list the promise stood.

    LABELFIX_DATA=folder python examples/verification_loop.py --draws 20
    LABELFIX_DATA=folder python examples/verification_loop.py --labels uniform-40 --first 1000 --more 200

The folder holds cifar10.parquet (split, index, image, label) and cifar10n.parquet (index, clean, aggre, random1).
"""

import argparse
import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import labelfix
from labelfix.benchmark.noise import uniform_noise
from labelfix.inputs.answers import UNDECIDED, AnsweredDraw
from labelfix.verdicts.promises import promise_of_frozen_fixes

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_FIX_ERROR, COVERAGE = 0.05, 0.95
NOISE_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A folder of images, at which size they are looked at, and their given and true labels, (N,) class names."""

    folder: Path
    image_size: int | None
    images: np.ndarray
    given: np.ndarray
    true: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is promised after `more` rows: unverified fixes, the share that is wrong, and when the promise stood."""

    more: int
    fixes: int
    wrong: float
    stood: int
    chance: float

    @property
    def is_broken(self) -> bool:
        """Whether more of the fixes are wrong than was promised."""
        return self.wrong > MAX_FIX_ERROR


def main() -> None:
    """Print the curve, both ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--image-size", type=int, help="default: what the backbone was trained with")
    parser.add_argument("--labels", choices=["aggre", "random1", "uniform-40"], default="random1")
    parser.add_argument("--first", type=int, default=500, help="rows verified at random to begin with")
    parser.add_argument("--more", type=int, nargs="*", default=[100, 200], help="rows verified then")
    parser.add_argument("--draws", type=int, default=4, help="how often all of it is done")
    asked = parser.parse_args()
    if "LABELFIX_DATA" not in os.environ:
        parser.error("set LABELFIX_DATA to the folder with cifar10.parquet and cifar10n.parquet")
    with tempfile.TemporaryDirectory() as temporary:
        data = write_images(Path(temporary), asked.rows, asked.labels, asked.image_size)
        promises = [
            promise for draw in range(asked.draws) for promise in loop(data, draw, asked.first, asked.more)
        ]
    print(
        f"labelfix {version('labelfix')}, {asked.rows:,} images, {asked.labels} labels, {asked.draws} draws"
    )
    print(f"promise: at most {MAX_FIX_ERROR:.0%} of the fixes are wrong, {COVERAGE:.0%} sure")
    print(
        f"{'verified':>12}{'promised':>13}{'fixes':>9}{'least':>7}{'wrong':>8}{'broken':>8}{'stood':>7}{'chance':>8}"
    )
    for more in asked.more:
        show([promise for promise in promises if promise.more == more], f"{asked.first}+{more}")


def write_images(folder: Path, rows: int, labels: str, image_size: int | None) -> DataSet:
    """Write the first training images as files; human labels, or 40 % of them replaced by any other class."""
    source = Path(os.environ["LABELFIX_DATA"])
    images = pq.read_table(source / "cifar10.parquet", filters=[("split", "=", "train")])["image"]
    table = pq.read_table(source / "cifar10n.parquet").slice(0, rows)
    names = [f"{number:05d}.jpg" for number in range(rows)]
    for name, content in zip(names, images.slice(0, rows).to_pylist(), strict=True):
        (folder / name).write_bytes(content)
    true = table["clean"].to_numpy().astype(np.int64)
    if labels == "uniform-40":
        # a seed of no draw: the same one would verify the very rows that it spoils
        given = uniform_noise(true, 0.4, num_classes=len(CLASSES), seed=NOISE_SEED).labels
    else:
        given = table[labels].to_numpy()
    as_names = np.array(CLASSES)
    return DataSet(
        folder=folder,
        image_size=image_size,
        images=np.array(names),
        given=as_names[given],
        true=as_names[true],
    )


def loop(data: DataSet, draw: int, first: int, steps: list[int]) -> list[Outcome]:
    """Clean, and verify more rows."""
    start = verified(data, np.random.default_rng(draw).permutation(len(data.images))[:first])
    labels = pa.table({"image": data.images.tolist(), "label": data.given.tolist()})
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        labelfix.clean(
            data.folder, labels, start, out, report=False, seed=draw, train="head", image_size=data.image_size
        )
        return [next_rows(data, labelfix.open_run(out), more, draw) for more in steps]


def next_rows(data: DataSet, run: labelfix.Run, more: int, seed: int) -> Outcome:
    """Draw a list, verify its rows one after the other, and compare what is promised with the truth."""
    found = run.next(more, max_fix_error=MAX_FIX_ERROR, seed=seed)
    rows = np.searchsorted(data.images, found.draw.table["image"].to_pylist())
    index = {name: k for k, name in enumerate(CLASSES)}
    suggested = np.array([index[name] for name in found.draw.table["suggestion"].to_pylist()])
    true = np.array([index[name] for name in data.true[rows]])
    answers, stood = true[found.draw.drawn], 0
    for looked in range(1, len(answers) + 1):
        seen = np.where(np.arange(len(answers)) < looked, answers, UNDECIDED)
        frozen = promise_of_frozen_fixes(AnsweredDraw(draw=found.draw, row=rows, answer=seen), suggested)
        stood = stood or looked * bool(frozen.promise.size)
    wrong = suggested[: frozen.promise.size] != true[: frozen.promise.size]
    return Outcome(
        more=more,
        fixes=frozen.promise.unverified,
        wrong=float(wrong.mean()) if len(wrong) else 0.0,
        stood=stood,
        chance=found.plan.chance,
    )


def verified(data: DataSet, rows: np.ndarray) -> pa.Table:
    """Look rows up in the truth, as a person would look at the images."""
    return pa.table({"image": data.images[rows].tolist(), "label": data.true[rows].tolist()})


def show(outcomes: list[Outcome], verified: str) -> None:
    """Print one line."""
    made = [outcome for outcome in outcomes if outcome.fixes]
    fixes = [outcome.fixes for outcome in outcomes]
    wrong = f"{sum(o.fixes * o.wrong for o in made) / sum(o.fixes for o in made):.1%}" if made else "–"
    stood, chance = median(o.stood for o in made) if made else 0, median(o.chance for o in outcomes)
    print(f"{verified:>12}{f'{len(made)} of {len(outcomes)}':>13}{median(fixes):9,.0f}{min(fixes):7,}{wrong:>8}"
          f"{sum(o.is_broken for o in made):8}{stood:7.0f}{chance:8.0%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
