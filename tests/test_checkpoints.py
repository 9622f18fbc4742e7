"""Kills and interruptions: whatever happens to a run, resuming it ends with the labels of an undisturbed one."""

import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from conftest import TinySet
from typer.testing import CliRunner

import labelfix
import labelfix.cross_fitting.predictions
import labelfix.images.pixel_store
import labelfix.pipeline
import labelfix.training.cross_fitted_network
from labelfix.errors import OutputError
from labelfix.settings import NetworkConfig
from labelfix.training.checkpoints import Checkpoints, stop_on_signals
from labelfix.training.cross_fitted_network import _FoldRun
from labelfix.training.network import NetworkTraining
from labelfix_cli import app

OPTIONS = {
    "train": "full", "backbone": "test_efficientnet", "image_size": 32, "epochs": 4, "warmup_epochs": 2,
    "batch_size": 16, "trusted_batch_size": 8, "workers": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Images, tables, weights, and the result of an undisturbed run."""
    folder = tmp_path_factory.mktemp("run")
    tiny = TinySet(folder, rows=48)
    weights = folder / "weights.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet", num_classes=2).state_dict(), weights)
    given = {"source": str(tiny.images), "labels": str(tiny.labels), "trusted": str(tiny.trusted)}
    source = {**given, **OPTIONS, "checkpoint": str(weights)}
    run_in_child(source, folder / "undisturbed")
    return {
        "options": source,
        "out": folder / "undisturbed",
        "result": labels_of(folder / "undisturbed"),
    }


def labels_of(out: Path) -> dict[str, Any]:
    table = pq.read_table(out / "soft_labels.parquet")
    soft = np.stack(table["soft_label"].to_pylist())
    return {
        "image": table["image"].to_pylist(),
        "soft": soft.tobytes(),
        "action": table["action"].to_pylist(),
    }


def run_in_child(
    options: dict[str, Any],
    out: Path,
    *,
    kill_at: int | None = None,
    count_to: Path | None = None,
    **more: Any,
) -> int | None:
    """Run `labelfix.clean` in a process of its own and return its exit code, negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labelfix.training.cross_fitted_network", "labelfix.pipeline"])
    child = context.Process(target=_clean, args=({**options, **more}, out, kill_at, count_to))
    child.start()
    child.join()
    return child.exitcode


def _clean(options: dict[str, Any], out: Path, kill_at: int | None, count_to: Path | None) -> None:
    """Run in the child: dies by SIGKILL at the event numbered `kill_at`: a step, or either side of a write."""
    import labelfix.system.files as files
    from labelfix.training.network import NetworkTraining

    torch.set_num_threads(1)
    events = 0

    def event() -> None:
        nonlocal events
        if events == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        events += 1

    replace, take_step = os.replace, NetworkTraining._take_step

    def counted_replace(*arguments: Any) -> None:
        event()
        replace(*arguments)
        event()

    def counted_step(self: NetworkTraining, *arguments: Any) -> None:
        event()
        take_step(self, *arguments)

    files.os.replace = counted_replace  # every atomic write of the run
    NetworkTraining._take_step = counted_step  # type: ignore[method-assign]
    labelfix.clean(out=out, **options)
    if count_to:
        count_to.write_text(str(events))


# --------------------------------------------------------------------------------------------------- the kills


def test_killed_at_random_points_a_resumed_run_ends_the_same(source: dict[str, Any], tmp_path: Path) -> None:
    run_in_child(source["options"], tmp_path / "counted", count_to=tmp_path / "count")
    events = int((tmp_path / "count").read_text())
    assert events > 20
    draw = random.Random(0)
    for number in range(3):
        out = tmp_path / f"out{number}"
        points = [draw.randrange(events), draw.randrange(events // 2)]  # killed, resumed and killed again
        for point in points:
            assert run_in_child(source["options"], out, kill_at=point, resume=True) in (-signal.SIGKILL, 0)
            if (out / "run.json").exists():  # finished, but perhaps killed before it had tidied up
                with pytest.raises(OutputError, match="already holds a run"):
                    labelfix.clean(out=out, resume=True, **source["options"])
                break
        else:
            assert run_in_child(source["options"], out, resume=True) == 0
        assert labels_of(out) == source["result"], points
        assert not (out / "checkpoints").exists()
        assert not list(out.glob(".*"))


@pytest.mark.slow
def test_killed_at_every_point_a_resumed_run_ends_the_same(source: dict[str, Any], tmp_path: Path) -> None:
    run_in_child(source["options"], tmp_path / "counted", count_to=tmp_path / "count")
    for point in range(int((tmp_path / "count").read_text())):
        out = tmp_path / f"out{point}"
        assert run_in_child(source["options"], out, kill_at=point) == -signal.SIGKILL
        if not (out / "run.json").exists():
            assert run_in_child(source["options"], out, resume=True) == 0
        assert labels_of(out) == source["result"], point


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"folds": 3}, {"pixel_budget": 0.0}, {"trusted_role": "meta-and-train"}])
def test_killed_runs_of_other_kinds_end_the_same(
    source: dict[str, Any], tmp_path: Path, more: dict[str, Any]
) -> None:
    assert run_in_child(source["options"], tmp_path / "whole", count_to=tmp_path / "count", **more) == 0
    events = int((tmp_path / "count").read_text())
    for point in random.Random(1).sample(range(events), 4):
        out = tmp_path / f"out{point}"
        run_in_child(source["options"], out, kill_at=point, **more)
        if not (out / "run.json").exists():
            assert run_in_child(source["options"], out, resume=True, **more) == 0
        assert labels_of(out) == labels_of(tmp_path / "whole"), point


def command(options: dict[str, Any], out: Path, *more: str) -> list[str]:
    settings = {k: v for k, v in options.items() if k not in ("source", "labels", "trusted")}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    tables = [options["source"], options["labels"], "--trusted", options["trusted"]]
    return [sys.executable, "-m", "labelfix_cli", "clean", *tables, "--out", str(out), *flags, *more]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_saves_exits_with_130_and_other_options_are_refused(
    source: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    options, out = {**source["options"], "epochs": 400, "warmup_epochs": 399}, tmp_path / "out"
    with subprocess.Popen(command(options, out), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (out / "checkpoints" / "fold_0.pt").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert re.search(r"Saved (at|after) epoch \d", said)
    assert "--resume" in said
    state = Checkpoints(out).load("fold_0")
    assert state is not None
    assert state["epoch"] < 400
    with pytest.raises(OutputError, match="--epochs was 400, now 4; --warmup-epochs was 399, now 2"):
        labelfix.clean(out=out, resume=True, **source["options"])


def test_stop_between_two_steps_continues_bit_for_bit(source: dict[str, Any], tmp_path: Path) -> None:
    """As after Ctrl-C in the middle of an epoch: the state holds the place and the random states."""
    assert run_in_child_and_stop(source["options"], tmp_path / "out", after=8) == 0
    state = Checkpoints(tmp_path / "out").load("fold_0")
    assert state is not None
    assert state["step"] > 0
    assert run_in_child(source["options"], tmp_path / "out", resume=True) == 0
    assert labels_of(tmp_path / "out") == source["result"]


def run_in_child_and_stop(options: dict[str, Any], out: Path, after: int) -> int | None:
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=_clean_and_stop, args=(options, out, after))
    child.start()
    child.join()
    return child.exitcode


def _clean_and_stop(options: dict[str, Any], out: Path, after: int) -> None:
    from labelfix.training.network import NetworkTraining

    torch.set_num_threads(1)
    take_step, steps = NetworkTraining._take_step, 0

    def signalled_step(self: NetworkTraining, *arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            os.kill(os.getpid(), signal.SIGINT)
        take_step(self, *arguments)

    NetworkTraining._take_step = signalled_step  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt, match="saved at epoch"):
        labelfix.clean(out=out, **options)


def interrupt(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def before(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], None], *, call: int = 1
) -> None:
    """Have `act` called just before the call of `owner.name` with this number."""
    real, calls = getattr(owner, name), itertools.count(1)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == call:
            act()
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, wrapped)


def said_by(options: dict[str, Any], out: Path, *more: str) -> str:
    """Run the command, which is interrupted, and return what it says of that, in one line."""
    result = CliRunner().invoke(app, command(options, out, *more)[3:])
    assert result.exit_code == 130, result.output
    (line,) = [line for line in result.stderr.splitlines() if "interrupted" in line]
    return line.removeprefix("labelfix: interrupted. ")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (2, "no epoch of it is saved yet. "),  # of three steps
        (8, "the last checkpoint was saved after epoch 2. "),
    ],
)
def test_second_interrupt_names_the_last_checkpoint(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, said: str
) -> None:
    before(monkeypatch, NetworkTraining, "_take_step", lambda: interrupt(2), call=step)
    found = said_by(source["options"], tmp_path / "out")
    assert found == f"Training the network: {said}Go on with the same command and --resume."


def test_interrupt_after_the_last_epoch_says_so(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, NetworkTraining, "_end_epoch", interrupt, call=4)
    assert said_by(source["options"], tmp_path / "out").startswith("Saved after epoch 4. Go on")


@pytest.mark.parametrize(
    ("more", "said"),
    [((), "Saved after the training."), (("--folds=2",), "Saved after the training of fold 1.")],
)
def test_interrupt_while_the_network_is_asked_stops_after_it(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], said: str
) -> None:
    before(monkeypatch, labelfix.training.cross_fitted_network, "predict", interrupt)
    assert said_by(source["options"], tmp_path / "out", *more).startswith(said)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("decode_images", "The same command starts again"),  # nothing is there
        ("load_batches", "Nothing is kept yet: start again with the same command and --resume."),
        ("train_folds", "holds decoded images. Go on with the same command and --resume."),
        ("frozen_features", "holds decoded images. Go on with the same command and --resume."),
    ],
)
def test_interrupt_outside_of_the_training_says_how_to_go_on(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, said: str
) -> None:
    owner = labelfix.images.pixel_store if stage == "load_batches" else labelfix.cross_fitting.predictions
    with monkeypatch.context() as patch:
        before(patch, owner, stage, interrupt)
        found = said_by(source["options"], tmp_path / "out")
    assert said in found
    more = ["--resume"] if "--resume" in found else []
    again = CliRunner().invoke(app, command(source["options"], tmp_path / "out", *more)[3:])
    assert again.exit_code == 0, again.output


def test_interrupt_while_the_report_is_written_says_that_the_run_is_there(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, labelfix.pipeline, "write_report", interrupt)
    said = said_by(source["options"], tmp_path / "out")
    assert said == f"{tmp_path / 'out'} holds a finished run, which only --force replaces."


@pytest.mark.parametrize(("warmup_epochs", "fold"), [(2, 0), (2, 1), (0, 0), (4, 1)])
def test_epochs_to_come_by_phase(warmup_epochs: int, fold: int) -> None:
    loop = NetworkConfig(epochs=4, warmup_epochs=warmup_epochs, folds=2)
    task: Any = SimpleNamespace(loop=loop, fold=fold)
    fitted = _FoldRun(task, *[None] * 6)  # type: ignore[arg-type]
    all_epochs = [(f, e) for f in range(2) for e in range(1, 5)]
    for epoch in range(1, 5):
        to_come = [e for f, e in all_epochs if (f, e) > (fold, epoch)]
        warm_up = sum(e <= warmup_epochs for e in to_come)
        assert fitted._epochs_left(epoch) == {"warm-up": warm_up, "mslg": len(to_come) - warm_up}


# ---------------------------------------------------------------------------------------------- run directories


def test_unfinished_run_is_named_and_force_starts_over(source: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_in_child(source["options"], out, kill_at=12) == -signal.SIGKILL
    with pytest.raises(OutputError, match=r"holds an unfinished run\. Go on with it with --resume"):
        labelfix.clean(out=out, **source["options"])
    assert run_in_child({**source["options"], "seed": 3}, out, force=True) == 0
    assert labels_of(out)["soft"] != source["result"]["soft"]
    with pytest.raises(OutputError, match="already holds a run"):
        labelfix.clean(out=out, resume=True, **source["options"])


@pytest.mark.parametrize("force", [False, True])
def test_run_over_a_finished_one_resumes(source: dict[str, Any], tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    shutil.copytree(source["out"], out)
    options = {**source["options"], "seed": 3}
    assert run_in_child(options, out, kill_at=12, force=True) == -signal.SIGKILL
    kept = (out / "checkpoints" / "fold_0.pt").read_bytes()
    assert run_in_child(options, out, kill_at=1, resume=True, force=force) == -signal.SIGKILL
    assert (out / "checkpoints" / "fold_0.pt").read_bytes() == kept
    assert run_in_child(options, out, resume=True, force=force) == 0
    assert labels_of(out)["soft"] != source["result"]["soft"]


def test_resume_refuses_other_input(source: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_in_child(source["options"], out, kill_at=12) == -signal.SIGKILL
    labels = tmp_path / "labels.csv"
    lines = Path(source["options"]["labels"]).read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 1)[0] + (",c1" if lines[1].endswith("c0") else ",c0")
    labels.write_text("\n".join(lines))
    with pytest.raises(OutputError, match="belongs to another run: the labels was"):
        labelfix.clean(out=out, resume=True, **{**source["options"], "labels": labels})


# --------------------------------------------------------------------------------------------------- the files


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    checkpoints = Checkpoints.open(tmp_path, {"a": 1}, resume=False)
    state = {"weights": torch.randn(3, 4), "epoch": 2, "history": [{"loss": float("nan")}], "none": None}
    checkpoints.save("part", state)
    found = checkpoints.load("part")
    assert found is not None
    assert torch.equal(found["weights"], state["weights"])
    assert found["epoch"] == 2
    assert np.isnan(found["history"][0]["loss"])
    assert checkpoints.load("other") is None


def test_failed_write_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints.open(tmp_path, {}, resume=False)
    checkpoints.save("part", {"epoch": 1})

    def full(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="Make room, then go on with --resume"):
        checkpoints.save("part", {"epoch": 2})
    assert checkpoints.load("part") == {"epoch": 1}


def test_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    checkpoints = Checkpoints.open(tmp_path, {}, resume=False)
    checkpoints.path("part").write_bytes(b"\0" * 100)
    with pytest.raises(OutputError, match="cannot be read as a checkpoint"):
        checkpoints.load("part")


def test_opening_without_resume_drops_what_was_there(tmp_path: Path) -> None:
    Checkpoints.open(tmp_path, {"a": 1}, resume=False).save("part", {"epoch": 1})
    again = Checkpoints.open(tmp_path, {"a": 2}, resume=False)
    assert again.load("part") is None
    assert json.loads((tmp_path / "checkpoints" / "identity.json").read_text())["a"] == 2


def test_resume_compares_nested_identities_and_names_differences(tmp_path: Path) -> None:
    Checkpoints.open(tmp_path, {"options": {"--epochs": 3, "--seed": 0}, "images": "x"}, resume=False)
    with pytest.raises(OutputError, match=r'--epochs was 3, now 4; images was "x", now "y"\. Give the same'):
        Checkpoints.open(tmp_path, {"options": {"--epochs": 4, "--seed": 0}, "images": "y"}, resume=True)
    with pytest.raises(OutputError, match="new was null, now 1"):
        Checkpoints.open(
            tmp_path, {"options": {"--epochs": 3, "--seed": 0}, "images": "x", "new": 1}, resume=True
        )


def test_second_signal_is_not_held_back() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
