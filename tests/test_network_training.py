import dataclasses
import inspect
import json
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from conftest import TinySet
from torch import nn
from typer.testing import CliRunner

from labelfix.errors import TrainingError
from labelfix.images.augmentation import Augmentation
from labelfix.images.pixel_store import HeldPixels
from labelfix.mslg import Schedule as StepSchedule
from labelfix.settings import (
    Augment,
    FullConfig,
    HeadConfig,
    LearningRateSchedule,
    NetworkConfig,
    Reduction,
    Schedule,
)
from labelfix.settings import Schedule as ConfigSchedule
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.data_split import DataSplit
from labelfix.training.network import GPU_TOLERANCE, NetworkTraining
from labelfix.training.network_task import NetworkTask, predict
from labelfix_cli import app

CPU = torch.device("cpu")
SIDE = 8
LOOP = NetworkConfig(
    epochs=12, warmup_epochs=4, batch_size=16, trusted_batch_size=16, learning_rate=0.03,
    alpha=0.5, beta=2000.0, init_scale=2.0, reduction=Reduction.MEAN,
)  # fmt: skip
FULL = FullConfig(augment=Augment.NONE)


class Planted:
    """Three classes of coloured noise; `wrong` rows carry another class's label; 40 more rows are trusted."""

    def __init__(self, *, rows: int = 120, seed: int = 0, order: np.ndarray | None = None):
        rng = np.random.default_rng(seed)
        total = rows + 40
        self.true = rng.integers(0, 3, total)
        self.pixels = rng.integers(0, 120, (total, SIDE, SIDE, 3)).astype(np.uint8)
        self.pixels[np.arange(total), :, :, self.true] += 90
        self.wrong = np.flatnonzero(rng.random(rows) < 0.25)
        self.given = self.true[:rows].copy()
        self.given[self.wrong] = (self.given[self.wrong] + 1) % 3
        self.numbers = np.arange(total)
        self.rows = rows
        if order is not None:  # the same images under other numbers
            place = np.empty(rows, np.int64)
            place[order] = np.arange(rows)
            self.pixels[:rows] = self.pixels[order]
            self.given, self.true[:rows] = self.given[order], self.true[:rows][order]
            self.numbers[:rows] = place

    def task(self, loop: NetworkConfig = LOOP, full: FullConfig = FULL, **changes: Any) -> NetworkTask:
        train, meta = self.numbers[: self.rows], self.numbers[self.rows :]
        given = self.given[train]
        settings = {
            "pixels": HeldPixels(self.pixels, CPU),
            "split": DataSplit(
                train=train, labels=given, fixed=np.zeros(self.rows, bool),
                meta=meta[:20], meta_labels=self.true[meta[:20]],
                held_out=meta[20:], held_out_labels=self.true[meta[20:]],
            ),
            "num_images": self.rows + 40,
            "num_classes": 3,
            "augmentation": Augmentation(full.augment, [0.5] * 3, [0.25] * 3),
            "loop": loop, "full": full, "seed": 0, "fold": 0, "device": CPU,
        }  # fmt: skip
        return NetworkTask(**{**settings, **changes})


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def one_by_one() -> nn.Module:
    """A network whose batch norm sees maps of 1 x 1."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3)
    )


def trained(task: NetworkTask, model: nn.Module | None = None, **run: Any) -> NetworkTraining:
    training = NetworkTraining(model or network(), task)
    training.run(**run)
    return training


# --------------------------------------------------------------------------------------------- the label store


@pytest.mark.parametrize("schedule", [Schedule.EXACT, Schedule.FAST])
def test_the_rows_whose_labels_move_are_the_wrong_ones(schedule: Schedule) -> None:
    """A store that was addressed by the place in the shuffled batch would move other rows."""
    planted = Planted()
    training = trained(planted.task(full=dataclasses.replace(FULL, schedule=schedule)))
    labels = training.label_logits_PK[: planted.rows].argmax(1).numpy()
    moved = np.flatnonzero(labels != planted.given)
    assert len(moved) >= 0.5 * len(planted.wrong)
    assert np.isin(moved, planted.wrong).mean() >= 0.9
    assert (labels[moved] == planted.true[moved]).mean() >= 0.9
    assert training.label_logits_PK.dtype is torch.float32


def test_rows_that_do_not_train_keep_their_labels() -> None:
    planted = Planted()
    training = trained(planted.task())
    untouched = training.label_logits_PK[planted.rows :]
    assert torch.equal(untouched, LOOP.init_scale * nn.functional.one_hot(torch.zeros(40).long(), 3))


def test_permuting_the_rows_permutes_the_labels_and_nothing_else() -> None:
    order = np.random.default_rng(1).permutation(120)
    one, other = trained(Planted().task()), trained(Planted(order=order).task())
    assert torch.equal(one.label_logits_PK[:120][torch.from_numpy(order)], other.label_logits_PK[:120])
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name])


def test_every_row_trains_once_per_epoch_in_a_new_order() -> None:
    training = NetworkTraining(network(), Planted().task(LOOP))
    orders = []
    for training.epoch in (0, 1, LOOP.warmup_epochs):
        batches = training._draw_epoch()
        orders.append(torch.cat([batch.rows for batch in batches]))
        assert sorted(orders[-1].tolist()) == list(range(120))
        assert {len(batch.rows) for batch in batches} == {15}  # 120 rows in 8 batches of at most 16
    assert not torch.equal(orders[0], orders[1])
    assert [len(batch.meta) for batch in batches] == [16] * 8


@pytest.mark.parametrize(("rows", "batch_size"), [(3, 2), (121, 2), (2, 2), (7, 3), (121, 120)])
def test_no_batch_has_a_single_row(rows: int, batch_size: int) -> None:
    training = NetworkTraining(
        network(), Planted(rows=rows).task(dataclasses.replace(LOOP, batch_size=batch_size))
    )
    sizes = [len(batch.rows) for batch in training._draw_epoch()]
    assert sum(sizes) == rows
    assert 2 <= min(sizes) <= max(sizes) <= max(batch_size, 3)


def test_three_rows_in_batches_of_two_train() -> None:
    trained(Planted(rows=3).task(dataclasses.replace(LOOP, batch_size=2, epochs=5)), model=one_by_one())


def test_fixed_labels_stay_and_train() -> None:
    planted = Planted()
    task = planted.task()
    fixed = np.zeros(planted.rows, bool)
    fixed[planted.wrong] = True
    training = trained(dataclasses.replace(task, split=dataclasses.replace(task.split, fixed=fixed)))
    labels = training.label_logits_PK[: planted.rows]
    start = LOOP.init_scale * nn.functional.one_hot(torch.from_numpy(planted.given), 3).float()
    assert torch.equal(labels[planted.wrong], start[planted.wrong])
    assert not torch.equal(labels, start)


def test_fixed_labels_are_what_their_rows_train_on() -> None:
    """With all labels fixed, beta is of no account."""
    weights = []
    for beta in (0.0, 4000.0):
        planted = Planted()
        task = planted.task(dataclasses.replace(LOOP, beta=beta))
        split = dataclasses.replace(task.split, fixed=np.ones(planted.rows, bool))
        training = trained(dataclasses.replace(task, split=split))
        weights.append(torch.cat([p.flatten() for p in training.model.parameters()]))
    assert torch.equal(weights[0], weights[1])


# -------------------------------------------------------------------------------------------------- the loop


def test_no_label_moves_during_the_warm_up() -> None:
    loop = dataclasses.replace(LOOP, epochs=4)
    training = trained(Planted().task(loop))
    assert [row.phase for row in training.history] == ["warm-up"] * 4
    assert all(row.labels_moved == 0 and row.agreement == 1 for row in training.history)
    assert all(math.isnan(row.meta_loss) for row in training.history)


def test_history_says_what_happened() -> None:
    planted = Planted()
    training = trained(planted.task())
    assert [row.epoch for row in training.history] == list(range(1, 13))
    assert [row.phase for row in training.history] == ["warm-up"] * 4 + ["mslg"] * 8
    last = training.history[-1]
    labels = training.label_logits_PK[: planted.rows].argmax(1).numpy()
    assert last.agreement == pytest.approx((labels == planted.given).mean())
    task = planted.task()
    probs = torch.cat(list(predict(training.model, task, (torch.arange(140, 160),))))
    assert last.held_out_accuracy == pytest.approx((probs.argmax(1).numpy() == planted.true[140:]).mean())
    assert last.held_out_accuracy > 0.8
    assert math.isfinite(last.meta_loss)
    assert last.images_per_second > 0


def test_an_epoch_is_saved_before_it_is_shown() -> None:
    events: list[tuple[str, int]] = []
    trained(
        Planted().task(dataclasses.replace(LOOP, epochs=4)),
        save=lambda state: events.append(("saved", len(state["history"]))),
        watch=lambda row: events.append(("shown", row.epoch)),
    )
    assert events == [(what, epoch) for epoch in (1, 2, 3, 4) for what in ("saved", "shown")]


@pytest.mark.parametrize(
    ("schedule", "epochs_1_5_9"),
    [(LearningRateSchedule.STEP, (1.0, 0.1, 0.01)), (LearningRateSchedule.COSINE, (0.987, 0.645, 0.159))],
)
def test_learning_rate_schedules(
    schedule: LearningRateSchedule, epochs_1_5_9: tuple[float, float, float]
) -> None:
    task = Planted().task(full=dataclasses.replace(FULL, learning_rate_schedule=schedule))
    history = trained(task).history
    for epoch, share in zip((1, 5, 9), epochs_1_5_9, strict=True):
        assert history[epoch - 1].learning_rate == pytest.approx(LOOP.learning_rate * share, rel=0.02)


def test_batchmean_takes_the_steps_of_mean_for_ten_classes() -> None:
    """Both the rate and the weight decay follow; the momentum of the warm-up is no part of it."""
    settings = {
        Reduction.MEAN: {"alpha": 0.5},
        Reduction.BATCHMEAN: {"alpha": 0.05},
    }
    found = []
    for reduction, changes in settings.items():
        loop = dataclasses.replace(
            LOOP, reduction=reduction, warmup_epochs=0, weight_decay=0.1, init_scale=10.0, epochs=3, **changes
        )
        planted = Planted()
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(SIDE), nn.Flatten(), nn.Linear(3, 10))
        training = NetworkTraining(model, planted.task(loop, num_classes=10))
        training.run()
        found.append((training.label_logits_PK, torch.cat([p.flatten() for p in model.parameters()])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_classes_that_never_occur_hardly_matter() -> None:
    """With the defaults' reduction; 'mean' would divide the steps of the weights and of the labels by K."""
    loop = dataclasses.replace(
        LOOP, reduction=Reduction.BATCHMEAN, learning_rate=0.3, alpha=0.25, beta=1000.0, epochs=8
    )
    moved = []
    for num_classes in (3, 60):
        planted = Planted()
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(SIDE), nn.Flatten(), nn.Linear(3, num_classes))
        nn.init.zeros_(model[2].weight)
        with torch.no_grad():
            model[2].bias.copy_(torch.where(torch.arange(num_classes) < 3, 0.0, -20.0))
        training = NetworkTraining(model, planted.task(loop, num_classes=num_classes))
        training.run()
        start = loop.init_scale * nn.functional.one_hot(torch.from_numpy(planted.given), 3)
        moved.append(training.label_logits_PK[: planted.rows, :3] - start)
        assert training.history[-1].learning_rate < training.history[3].learning_rate / loop.init_scale
    assert moved[0].abs().max() > 1
    torch.testing.assert_close(moved[0], moved[1], rtol=0.02, atol=0.02)


def test_weights_that_the_last_step_spoils_are_not_saved() -> None:
    """One step per epoch: its loss is from before the weights moved."""
    training = NetworkTraining(network(), Planted().task(dataclasses.replace(LOOP, batch_size=128)))
    take_step = training._take_step

    def take_and_spoil(*arguments: Any) -> None:
        take_step(*arguments)
        training.model[0].weight.data[0] = math.nan

    training._take_step = take_and_spoil  # type: ignore[method-assign]
    saved: list[Any] = []
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: .* or the weights are not finite"):
        training.run(save=saved.append)
    assert not saved


@pytest.mark.parametrize("warmup_epochs", [0, 12])
def test_non_finite_numbers_stop_with_epoch_step_and_checkpoint(warmup_epochs: int) -> None:
    loop = dataclasses.replace(LOOP, learning_rate=1e30, warmup_epochs=warmup_epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingError, match=r"fold 1, epoch 1, step [2-8]: .*Last good checkpoint: none"):
            trained(Planted().task(loop))


def test_last_good_checkpoint_is_named() -> None:
    training = NetworkTraining(network(), Planted().task())

    def spoil(row: Any) -> None:
        if row.epoch == 2:
            training.label_logits_PK[7] = math.nan
            training.epoch = LOOP.warmup_epochs

    with pytest.raises(TrainingError, match=r"epoch 5, step \d: .*after epoch 4 in some/where\.pt"):
        training.run(watch=spoil, last_checkpoint="some/where.pt")


def test_callers_random_state_is_left_alone() -> None:
    task = Planted().task()
    training = NetworkTraining(network(), task)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    training.run()
    assert torch.equal(before, torch.get_rng_state())


def test_schedules_have_one_set_of_names() -> None:
    assert [s.value for s in ConfigSchedule] == [s.value for s in StepSchedule]


# ------------------------------------------------------------------------------------------------------ a GPU


def gpu_training(full: FullConfig = FULL, **changes: Any) -> NetworkTraining:
    cuda, planted = torch.device("cuda"), Planted()
    task = planted.task(
        full=full,
        pixels=HeldPixels(torch.from_numpy(planted.pixels).to(cuda), cuda),
        augmentation=Augmentation(full.augment, [0.5] * 3, [0.25] * 3, cuda),
        device=cuda,
        **changes,
    )
    return NetworkTraining(network().to(cuda, memory_format=torch.channels_last), task)


@pytest.mark.gpu
@pytest.mark.parametrize("schedule", [Schedule.EXACT, Schedule.FAST])
def test_training_on_a_gpu_in_bfloat16_moves_the_wrong_labels(schedule: Schedule) -> None:
    planted = Planted()
    training = gpu_training(dataclasses.replace(FULL, schedule=schedule), autocast_dtype=torch.bfloat16)
    training.run()
    labels = training.label_logits_PK[: planted.rows].argmax(1).cpu().numpy()
    assert training.label_logits_PK.dtype is torch.float32
    assert (labels == planted.true[: planted.rows]).mean() > (planted.given == planted.true[:120]).mean()


@pytest.mark.gpu
@pytest.mark.parametrize("schedule", [Schedule.EXACT, Schedule.FAST])
def test_resumed_on_a_gpu_the_labels_are_those_of_an_undisturbed_run(
    schedule: Schedule, tmp_path: Path
) -> None:
    full = FullConfig(schedule=schedule)  # with shifts and mirror images, and the network's dropout
    whole = gpu_training(full)
    whole.run()
    checkpoints, steps = Checkpoints.open(tmp_path, {}, resume=False), iter(range(10**6))
    with pytest.raises(KeyboardInterrupt):
        gpu_training(full).run(
            save=lambda state: checkpoints.save("fold_0", state), stopping=lambda: next(steps) >= 40
        )
    resumed, state = gpu_training(full), checkpoints.load("fold_0")
    assert state is not None
    assert (state["epoch"], state["step"]) == (4, 5)  # in the middle of the first epoch of MSLG
    resumed.restore(state)
    resumed.run()
    difference = (whole.label_logits_PK.softmax(1) - resumed.label_logits_PK.softmax(1)).abs().max()
    assert float(difference) < GPU_TOLERANCE


# --------------------------------------------------------------------------------------------- from end to end


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet", num_classes=2).state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def clean_command(tiny: TinySet, weights: Path, *more: str) -> list[str]:
    return [
        "clean", str(tiny.images), str(tiny.labels), "--trusted", str(tiny.trusted), "--train", "full",
        "--backbone", "test_efficientnet", "--checkpoint", str(weights), "--image-size", "32",
        "--epochs", "3", "--warmup-epochs", "1", "--batch-size", "16", "--workers", "0", "--device", "cpu",
        "--out", str(tiny.folder / "out"), *more,
    ]  # fmt: skip


def test_command_line_trains_the_full_network(tiny: TinySet, weights: Path) -> None:
    (tiny.images / tiny.names[0]).write_bytes(b"broken")
    result = CliRunner().invoke(app, clean_command(tiny, weights, "--json"))
    assert result.exit_code == 0, result.output
    out = tiny.folder / "out"
    soft_labels = pq.read_table(out / "soft_labels.parquet")
    assert soft_labels.num_rows == len(tiny.names) - 1
    assert pq.read_table(out / "quarantine.parquet")["image"].to_pylist() == [tiny.names[0]]
    assert pq.read_table(out / "history.parquet")["phase"].to_pylist() == ["warm-up", "mslg", "mslg"]
    record = json.loads((out / "run.json").read_text())
    assert (record["config"]["train"], record["config"]["folds"], record["config"]["epochs"]) == (
        "full",
        1,
        3,
    )
    assert record["evidence"]["storage"] == "mapped"
    # frozen features speak beside the trained network, and explain suspects
    assert {"probs", "given", "retrained", "neighbours"} <= set(record["weights"])
    assert (out / "neighbours.parquet").exists()
    assert not (out / "checkpoints").exists()
    # every trusted row has its trusted label; the figures rest on the held-out ones alone
    trusted = soft_labels.filter(soft_labels["trusted_label"].is_valid())
    assert trusted["predicted_label"].to_pylist() == trusted["trusted_label"].to_pylist()
    assert set(trusted["confidence"].to_pylist()) == {1.0}
    held_out = record["evidence"]["held_out_rows"]
    assert 0 < held_out < len(trusted)
    assert record["summary"]["estimates"]["noise_rate"]["rows"] == held_out


def test_full_training_without_trusted_labels_says_what_to_do(tiny: TinySet, weights: Path) -> None:
    arguments = clean_command(tiny, weights)
    at = arguments.index("--trusted")
    result = CliRunner().invoke(app, arguments[:at] + arguments[at + 2 :])
    assert result.exit_code == 2
    assert "there is no trusted label" in result.stderr
    assert "--train head" in result.stderr


def test_help_names_the_defaults_of_the_full_network() -> None:
    text = inspect.getsource(sys.modules["labelfix_cli.clean"])
    for name in ("folds", "epochs", "warmup_epochs", "trusted_batch_size", "learning_rate", "alpha"):
        value = getattr(NetworkConfig, name)
        assert re.search(rf"    {name}: Annotated\[[^\]]*\(full: {value}\)", text), name
    head, full = HeadConfig(), NetworkConfig()
    same = ("batch_size", "momentum", "weight_decay", "beta", "gamma", "init_scale", "reduction")
    assert all(getattr(head, name) == getattr(full, name) for name in same)
