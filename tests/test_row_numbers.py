"""A row keeps its number: one that is left out moves no other, whatever the images, labels and values go through.

The image that cannot be read stands in the middle. A run with it must give every other image what a run gives that
never heard of it, bit for bit.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from conftest import TinySet, write_rows

import labelfix

ROWS, BROKEN = 48, 20
OPTIONS: dict[str, dict[str, Any]] = {
    "head": {"train": "head", "image_size": 32, "folds": 3, "workers": 0, "epochs": 4, "warmup_epochs": 2},
    "full": {
        "train": "full", "backbone": "test_efficientnet", "image_size": 32, "epochs": 3, "warmup_epochs": 1,
        "batch_size": 16, "trusted_batch_size": 8, "workers": 0, "device": "cpu",
    },
}  # fmt: skip
STORAGES = {"mapped": {}, "stream": {"pixel_budget": 0.0}}
COLUMNS = [
    "image",
    "given_label",
    "predicted_label",
    "soft_label",
    "confidence",
    "label_score",
    "trusted_label",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Images of which one in the middle is broken, with labels that name it (`labels`) and that do not."""
    tiny = TinySet(tmp_path_factory.mktemp("rows"), rows=ROWS)
    tiny.trusted_rows = tiny.trusted_rows[tiny.trusted_rows != BROKEN]
    tiny.trusted = tiny.write("trusted.csv", tiny.trusted_rows, tiny.true)
    (tiny.images / tiny.names[BROKEN]).write_bytes(b"not an image")
    tiny.write("others.csv", [row for row in range(ROWS) if row != BROKEN], tiny.given)
    torch.manual_seed(0)
    torch.save(
        timm.create_model("test_efficientnet", num_classes=2).state_dict(), tiny.folder / "weights.pth"
    )
    return tiny


def clean(tiny: TinySet, out: Path, labels: str, train: str, **more: Any) -> labelfix.CleanResult:
    options = OPTIONS[train] | more | {"cache_dir": str(out.parent / "cache")}
    if train == "full":
        options["checkpoint"] = str(tiny.folder / "weights.pth")
    return labelfix.clean(tiny.images, tiny.folder / labels, tiny.trusted, out=out, report=False, **options)


@pytest.mark.parametrize(
    ("train", "more"),
    [("head", {}), *(("full", STORAGES[name]) for name in STORAGES)],
    ids=["head", *STORAGES],
)
def test_a_broken_image_moves_no_other(
    data: TinySet, tmp_path: Path, train: str, more: dict[str, Any]
) -> None:
    whole = clean(data, tmp_path / "whole", "labels.csv", train, **more)
    without = clean(data, tmp_path / "without", "others.csv", train, **more)
    assert whole.quarantine["image"].to_pylist() == [data.names[BROKEN]]
    assert whole.soft_labels["image"].to_pylist() == [n for i, n in enumerate(data.names) if i != BROKEN]
    for column in COLUMNS:
        assert whole.soft_labels[column].equals(without.soft_labels[column]), column


@pytest.fixture(scope="module")
def run(data: TinySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean(data, tmp_path_factory.mktemp("run") / "out", "labels.csv", "head").out


def test_an_export_gives_every_image_its_own_label_and_picture(
    data: TinySet, run: Path, tmp_path: Path
) -> None:
    table = pq.read_table(run / "soft_labels.parquet")
    predicted = dict(zip(table["image"].to_pylist(), table["predicted_label"].to_pylist(), strict=True))
    labelfix.export_run(run, tmp_path / "csv", to="csv", policy="relabel", min_confidence=0.0)
    with (tmp_path / "csv" / "labels.csv").open(encoding="utf-8") as file:
        written = {row["image"]: row["label"] for row in csv.DictReader(file)}
    assert written == predicted
    labelfix.export_run(run, tmp_path / "folder", to="imagefolder", policy="relabel", min_confidence=0.0)
    files = pq.read_table(tmp_path / "folder" / "provenance.parquet")
    assert set(files["image"].to_pylist()) == set(predicted)
    for name, file in zip(files["image"].to_pylist(), files["file"].to_pylist(), strict=True):
        exported = tmp_path / "folder" / file
        assert exported.read_bytes() == (data.images / name).read_bytes()
        assert exported.parent.name == predicted[name]
    labelfix.export_run(run, tmp_path / "torch", to="torch", policy="soft", transfer="symlink")
    samples = labelfix.SoftLabelDataset(tmp_path / "torch")
    soft = dict(zip(table["image"].to_pylist(), table["soft_label"].to_pylist(), strict=True))
    for number, path in enumerate(samples.paths):
        name = Path(path).resolve().relative_to(data.images.resolve()).as_posix()
        np.testing.assert_allclose(samples.targets[number], soft[name], atol=1e-6)


def test_rows_of_a_matrix_go_to_their_images(tmp_path: Path) -> None:
    """In another order than the labels, with a row too many, and a trusted image in the middle that has none."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 60)
    probs = rng.dirichlet(np.ones(3), 60) * 0.05 + 0.95 * np.eye(3)[true]
    given = np.where(rng.random(60) < 0.2, (true + 1) % 3, true)
    names = [f"image {row:02d}" for row in range(60)]
    labels = write_rows(tmp_path / "labels.csv", zip(names[10:], given[10:], strict=True))
    verified = [3, 12, 20, 25, 31, 38, 44, 52, 59]
    rows = [(names[row], true[row]) for row in verified]
    order = rng.permutation(60)
    pq.write_table(
        pa.table({"image": [names[row] for row in order], "probs": list(probs[order])}),
        tmp_path / "mixed.parquet",
    )
    np.save(tmp_path / "plain.npy", probs[10:])
    mixed = write_rows(tmp_path / "mixed.csv", [*rows[:4], ("of nowhere", 1), *rows[4:]])
    plain = write_rows(tmp_path / "plain.csv", rows[1:])
    results = [
        labelfix.clean(tmp_path / source, labels, trusted, out=tmp_path / trusted.stem, report=False, folds=3)
        for source, trusted in (("mixed.parquet", mixed), ("plain.npy", plain))
    ]
    for column in COLUMNS:
        assert results[0].soft_labels[column].equals(results[1].soft_labels[column]), column
    predicted = np.array(results[0].soft_labels["predicted_label"].to_pylist(), int)
    assert (predicted == true[10:]).mean() > 0.9


def test_images_that_are_readable_again_come_back_in_their_place(data: TinySet, tmp_path: Path) -> None:
    tiny = TinySet(tmp_path / "again", rows=ROWS)
    first = clean(tiny, tmp_path / "first", "labels.csv", "head")
    broken = tiny.images / tiny.names[BROKEN]
    shutil.copy(broken, tmp_path / "kept.png")
    broken.write_bytes(b"not an image")
    clean(tiny, tmp_path / "second", "labels.csv", "head")
    shutil.copy(tmp_path / "kept.png", broken)
    third = clean(tiny, tmp_path / "third", "labels.csv", "head")
    for column in COLUMNS:
        assert third.soft_labels[column].equals(first.soft_labels[column]), column
