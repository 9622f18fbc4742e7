"""One run from images to a row, on a tiny data set of the official layout."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_data_sets import png, write_food101n

from labelfix.benchmark.methods import METHODS, Batch
from labelfix.benchmark.run_data import prepare_data
from labelfix.benchmark.runs import execute
from labelfix.benchmark.settings import RunSettings
from labelfix.errors import InputError, SettingError
from labelfix.settings import LearningRateSchedule
from labelfix.training.learning_rate import learning_rate

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fashion-MNIST's layout with 300 + 100 images whose brightness tells the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    pixels = np.clip(25 * labels[:, None, None] + rng.normal(0, 4, (400, 28, 28)), 0, 255).astype(np.uint8)
    split = ["train"] * 300 + ["test"] * 100
    table = pa.table({"split": split, "image": [png(p) for p in pixels], "label": labels})
    pq.write_table(table, tmp_path / "fashion_mnist.parquet")
    np.save(tmp_path / "student_logits_fashion_mnist.npy", rng.random((300, 10)).astype(np.float32))
    return tmp_path


def tiny(**changes: Any) -> RunSettings:
    values: dict[str, Any] = {
        "method": "cross_entropy", "images": 120, "test": 60, "trusted": 40, "held_out": 15, "epochs": 2,
        "batch_size": 32,
    }  # fmt: skip
    return RunSettings(**values | changes)


def test_a_row_says_everything(folder: Path) -> None:
    seen = []
    row = execute(tiny(), folder=folder, device="cpu", watch=lambda epoch, accuracy: seen.append(epoch))
    assert seen == [1, 2]
    assert row == json.loads(json.dumps(row, allow_nan=False))
    assert row["key"] == tiny().key()
    assert row["images"] == {"train": 120, "trusted": 25, "held_out": 15, "test": 60}
    history = row["history"]
    assert row["last"] == history["test_accuracy"][-1]
    assert row["best_epoch"] == 1 + int(np.argmax(history["held_out_accuracy"]))
    assert row["best"] == history["test_accuracy"][row["best_epoch"] - 1]
    assert row["noise"]["ratio"] == pytest.approx(0.4)
    assert row["label_accuracy"] == pytest.approx(0.6)
    assert row["seconds"] > 0
    assert row["peak_mib"] > 50
    assert {"labelfix", "torch", "python"} <= set(row["versions"])


@pytest.mark.parametrize("method", ["mslg", "meta_weight_net", "mlnt", "co_teaching"])
def test_the_same_seed_gives_the_same_row(folder: Path, method: str) -> None:
    torch.rand(3)  # what happened before does not matter
    one, other, third = (
        execute(tiny(method=method, seed=seed), folder=folder, device="cpu")["history"] for seed in (4, 4, 5)
    )
    assert one["train_loss"] == other["train_loss"]
    assert one["train_loss"] != third["train_loss"]


def test_test_images_choose_nothing(folder: Path) -> None:
    """Other test labels change the accuracy and leave everything else alone."""
    before = execute(tiny(method="mslg"), folder=folder, device="cpu")
    table = pq.read_table(folder / "fashion_mnist.parquet")
    labels = table["label"].to_numpy().copy()
    labels[300:] = (labels[300:] + 1) % 10
    other = folder / "other"
    other.mkdir()
    pq.write_table(table.set_column(2, "label", pa.array(labels)), other / "fashion_mnist.parquet")
    np.save(other / "student_logits_fashion_mnist.npy", np.load(folder / "student_logits_fashion_mnist.npy"))
    after = execute(tiny(method="mslg"), folder=other, device="cpu")
    assert after["history"]["test_accuracy"] != before["history"]["test_accuracy"]
    for name in ("held_out_accuracy", "train_loss", "label_accuracy"):
        assert after["history"][name] == before["history"][name]
    assert after["best_epoch"] == before["best_epoch"]


@pytest.mark.parametrize("trusted_from", ["train", "test"])
@pytest.mark.parametrize("measured_on", ["train", "test"])
def test_no_image_has_two_roles(folder: Path, trusted_from: str, measured_on: str) -> None:
    settings = tiny(trusted_from=trusted_from, measured_on=measured_on, test=30, images=None)
    if measured_on == "test":
        settings = replace(settings, test=None)
    data = prepare_data(settings, folder, CPU)
    pixels = data.pixels.values.reshape(-1, 28 * 28)
    numbers = torch.cat([data.numbers(part) for part in ("train", "trusted", "held_out", "test")])
    assert numbers.tolist() == list(range(len(pixels)))
    assert len(np.unique(pixels, axis=0)) == len(pixels)
    others = (40 if trusted_from == "train" else 0) + (30 if measured_on == "train" else 0)
    assert len(data.noise.labels) == 300 - others


def test_all_methods_get_the_same_images_and_noise(folder: Path) -> None:
    first = prepare_data(tiny(), folder, CPU)
    for method in METHODS:
        data = prepare_data(tiny(method=method), folder, CPU)
        assert (data.noise.labels == first.noise.labels).all()
        assert (data.trusted == first.trusted).all()
        assert (data.pixels.values == first.pixels.values).all()


def test_images_keep_their_labels(folder: Path) -> None:
    data = prepare_data(tiny(noise="none"), folder, CPU)
    shown = np.concatenate([data.noise.labels, data.trusted, data.held_out, data.test])
    brightness = data.pixels.values.reshape(len(shown), -1).mean(1)
    np.testing.assert_array_equal(np.round(brightness / 25), shown)


def test_a_run_that_leaves_the_numbers_is_a_failed_row(folder: Path) -> None:
    row = execute(tiny(learning_rate=1e30), folder=folder, device="cpu")
    assert "not a finite number" in row["failed"]
    assert row["last"] is row["best"] is None
    json.dumps(row, allow_nan=False)


def test_schedules() -> None:
    step = [learning_rate(e, 120, 1e-2, LearningRateSchedule.STEP) for e in (0, 39, 40, 79, 80, 119)]
    assert step == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    cosine = [learning_rate(p, 1, 2.0, LearningRateSchedule.COSINE) for p in (0, 0.5)]
    assert cosine == pytest.approx([2.0, 1.0])


def test_a_method_may_change_the_rate_of_the_schedule(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, seen = METHODS["cross_entropy"], []

    class Watched(kind):  # type: ignore[misc, valid-type]
        def rate_factor(self, epoch: int) -> float:
            return 3.0 if epoch else 1.0

        def step(self, batch: Batch) -> torch.Tensor:
            seen.append((batch.epoch, batch.learning_rate, self.optimizer.param_groups[0]["lr"]))
            return super().step(batch)

    monkeypatch.setitem(METHODS, "cross_entropy", Watched)
    execute(tiny(learning_rate=0.2), folder=folder, device="cpu")
    np.testing.assert_allclose(np.unique(seen, axis=0), [(0, 0.2, 0.2), (1, 0.3, 0.3)])


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (
            {"images": 290},
            InputError,
            r"trusted: 40 images asked for; fashion_mnist has 10 left in its train",
        ),
        ({"noise": "aggre"}, SettingError, "noise: got 'aggre'; expected one of none, uniform"),
        ({"trusted_from": "own"}, SettingError, "has no trusted images of its own"),
        ({"data": "cifar10"}, InputError, "holds no CIFAR-10"),
    ],
)
def test_what_does_not_fit(folder: Path, change: dict[str, Any], kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        execute(tiny(**change), folder=folder, device="cpu")


def test_missing_scores(folder: Path) -> None:
    (folder / "student_logits_fashion_mnist.npy").unlink()
    with pytest.raises(InputError, match="expected scores"):
        execute(tiny(), folder=folder, device="cpu")


def test_image_files_with_real_noise(tmp_path: Path) -> None:
    """Food-101N's layout: real noise, trusted images of its own, files of any size."""
    write_food101n(tmp_path)
    for root, keys in (
        ("Food-101N_release/images", [f"{c}/{i}.jpg" for c in ("apple_pie", "beignets") for i in range(3)]),
        ("food-101/images", ["beignets/77.jpg", "apple_pie/8.jpg"]),
    ):
        for number, key in enumerate(keys):
            path = tmp_path / root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.full((40, 50 + number, 3), 20 * number, np.uint8)))
    settings = tiny(
        data="food101n", noise="real", images=None, test=None, trusted=1, held_out=0, trusted_from="own",
        batch_size=2, side=16, method="mslg",
    )  # fmt: skip
    row = execute(settings, folder=tmp_path, device="cpu")
    assert row["images"] == {"train": 4, "trusted": 1, "held_out": 0, "test": 2}
    assert row["label_accuracy"] is row["noise"] is row["best"] is None
    (tmp_path / "food-101/images/apple_pie/8.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"8.jpg: cannot be decoded"):
        execute(settings, folder=tmp_path, device="cpu")
