"""What verified labels buy: the loop clean, next, clean against verifying as many rows at random.

Writes CIFAR-10 images out as files with human labels of CIFAR-10N, verifies some of them at random, and asks for
a promise (``--max-fix-error 0.05``). Then it verifies a few more, either those that ``labelfix next`` draws or
random ones, and asks again. The answers come from the clean labels of the data set, so that it can also be counted
how many of the promised fixes are wrong.

    LABELFIX_DATA=folder python examples/verification_loop.py --draws 4
    LABELFIX_DATA=folder python examples/verification_loop.py --labels uniform-40 --first 1000 --more

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
from labelfix.risk_control.rows_to_verify import plan_verification

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
class Run:
    """The tables of a run that ``labelfix next`` reads."""

    soft_labels: pa.Table
    held_out: pa.Table


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What one run promises of rows that nobody verified, and how it is."""

    way: str
    verified: int
    fixes: int
    wrong: float

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
        f"{'verified':>12}{'chosen':>10}{'promised':>13}{'median fixes':>14}{'least':>7}{'wrong':>8}{'broken':>8}"
    )
    for more in [0, *asked.more]:
        for way in ("next", "at random") if more else ("at random",):
            verified = asked.first + more
            show(
                [p for p in promises if (p.way, p.verified) == (way, verified)], f"{asked.first}+{more}", way
            )


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


def loop(data: DataSet, draw: int, first: int, steps: list[int]) -> list[Promise]:
    """Clean, verify more rows in either way, clean again."""
    shuffled = np.random.default_rng(draw).permutation(len(data.images))
    start = verified(data, shuffled[:first])
    run, promise = clean(data, [start], draw, "at random")
    promises = [promise]
    for more in steps:
        plan = plan_verification(
            run.soft_labels,
            more,
            held_out=run.held_out,
            max_fix_error=MAX_FIX_ERROR,
            coverage=COVERAGE,
            seed=draw,
        )
        rows = np.searchsorted(data.images, plan.table["image"].to_pylist())
        chosen = verified(data, rows)
        for column in ("weight", "drawn_from"):
            chosen = chosen.append_column(column, plan.table[column])
        promises.append(clean(data, [start, chosen], draw, "next")[1])
        promises.append(clean(data, [verified(data, shuffled[: first + more])], draw, "at random")[1])
    return promises


def verified(data: DataSet, rows: np.ndarray) -> pa.Table:
    """Look rows up in the truth, as a person would look at the images."""
    return pa.table({"image": data.images[rows].tolist(), "label": data.true[rows].tolist()})


def clean(data: DataSet, trusted: list[pa.Table], seed: int, way: str) -> tuple[Run, Promise]:
    """Run ``labelfix clean`` on all rows, and compare its fixes with the truth."""
    labels = pa.table({"image": data.images.tolist(), "label": data.given.tolist()})
    with tempfile.TemporaryDirectory() as out:
        found = labelfix.clean(
            data.folder, labels, trusted, Path(out) / "run", report=False, seed=seed, train="head",
            image_size=data.image_size, max_fix_error=MAX_FIX_ERROR,
        ).soft_labels  # fmt: skip
        run = Run(soft_labels=found, held_out=pq.read_table(Path(out) / "run" / "held_out.parquet"))
    fixed = pa.compute.and_(pa.compute.equal(found["action"], "relabel"), found["trusted_label"].is_null())
    rows = np.flatnonzero(fixed.to_numpy(zero_copy_only=False))
    wrong = np.array(found["predicted_label"].to_pylist())[rows] != data.true[rows]
    share = float(wrong.mean()) if len(rows) else 0.0
    count = sum(len(table) for table in trusted)
    return run, Promise(way=way, verified=count, fixes=len(rows), wrong=share)


def show(promises: list[Promise], verified: str, way: str) -> None:
    """Print one line."""
    made = [promise for promise in promises if promise.fixes]
    fixes = [promise.fixes for promise in promises]
    wrong = f"{sum(p.fixes * p.wrong for p in made) / sum(p.fixes for p in made):.1%}" if made else "–"
    broken = sum(promise.is_broken for promise in made)
    print(f"{verified:>12}{way:>10}{f'{len(made)} of {len(promises)}':>13}{median(fixes):14,.0f}"
          f"{min(fixes):7,}{wrong:>8}{broken:8}")  # fmt: skip


if __name__ == "__main__":
    main()
