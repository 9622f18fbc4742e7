"""The command line as a person or a script meets it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import TinySet
from typer.testing import CliRunner

import labelfix.pipeline
from labelfix_cli import app

FAST = ["--train", "head", "--image-size", "32", "--folds", "3", "--workers", "0"]


def command(tiny: TinySet, *more: str) -> list[str]:
    return [
        "clean", str(tiny.images), str(tiny.labels), "--trusted", str(tiny.trusted),
        "--out", str(tiny.folder / "out"), "--cache-dir", str(tiny.folder / "cache"), *FAST, *more,
    ]  # fmt: skip


def test_clean_prints_a_summary(tiny: TinySet) -> None:
    result = CliRunner().invoke(app, command(tiny))
    assert result.exit_code == 0, result.output
    for text in ("60", "c0, c1, c2", "noise rate", "suspects", "out/", "Next:"):
        assert text in result.stdout
    assert (tiny.folder / "out" / "run.json").exists()


def test_json_is_the_only_thing_on_stdout(tiny: TinySet) -> None:
    result = CliRunner().invoke(app, command(tiny, "--json"))
    summary = json.loads(result.stdout)
    assert summary["images"] == 60
    assert summary["suspects"] == pq.read_table(tiny.folder / "out" / "suspects.parquet").num_rows


def test_quiet_is_silent(tiny: TinySet) -> None:
    result = CliRunner().invoke(app, command(tiny, "--quiet"))
    assert (result.exit_code, result.output) == (0, "")


def test_no_progress_bar_without_a_terminal(tiny: TinySet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labelfix_cli", *command(tiny)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_existing_run_exits_with_2(tiny: TinySet) -> None:
    assert CliRunner().invoke(app, command(tiny, "--quiet")).exit_code == 0
    result = CliRunner().invoke(app, command(tiny))
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr
    assert "--force" in result.stderr
    assert CliRunner().invoke(app, command(tiny, "--force", "--quiet")).exit_code == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--folds", "1"), "--folds: got 1"),
        (("--backbone", "resnet81"), "Did you mean"),
        (("--reduction", "sum"), "reduction"),
        (("--no-such-option",), "No such option"),
        (("--classes", "c0,c1"), "label 'c2' is not one of the 2 classes"),
    ],
)
def test_bad_usage_exits_with_2(tiny: TinySet, more: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, command(tiny, *more))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert not (tiny.folder / "out" / "run.json").exists()


def test_our_own_fault_exits_with_70(tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelfix.pipeline, "soft_label_table", lambda *a, **k: 1 / 0)
    result = CliRunner().invoke(app, command(tiny))
    assert result.exit_code == 70
    assert "LABELFIX_DEBUG=1" in result.stderr
    assert "Traceback" not in result.output


def test_interrupt_exits_with_130_and_the_next_run_goes_on(tiny: TinySet) -> None:
    """Ctrl-C while worker processes decode: no traceback, no half-written run, and the cache is whole."""
    slow = (
        "import time, labelfix.images.features as f\n"
        "real = f.FrozenNetwork.__call__\n"
        "def wait(self, pixels):\n    print('batch', flush=True); time.sleep(0.3); return real(self, pixels)\n"
        "f.FrozenNetwork.__call__ = wait\n"
        "from labelfix_cli import main; main()"
    )
    arguments = [*command(tiny), "--workers", "2", "--inference-batch", "4"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the signal reaches the workers too, as it does from a terminal
    )
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "batch\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted. The same command starts again; features that were computed are kept." in errors
    assert not list((tiny.folder / "out").glob("*"))
    again = CliRunner().invoke(app, command(tiny, "--quiet"))
    assert again.exit_code == 0
    record = json.loads((tiny.folder / "out" / "run.json").read_text())
    assert record["evidence"]["images_decoded"] < 60


def test_killed_run_leaves_nothing_half_written(tiny: TinySet) -> None:
    """kill -9 at several moments: --out never holds a file that is not whole, and a new run succeeds."""
    for wait in (2.0, 3.5):
        process = subprocess.Popen(
            [sys.executable, "-m", "labelfix_cli", *command(tiny, "--force")], stdout=subprocess.DEVNULL
        )
        time.sleep(wait)
        process.kill()
        process.wait()
        for path in (tiny.folder / "out").glob("*.parquet"):
            assert pq.read_table(path).num_rows >= 0
    assert CliRunner().invoke(app, command(tiny, "--force", "--quiet")).exit_code == 0


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == f"labelfix {labelfix.__version__}"
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "clean" in shown
    assert "demo" in shown


def test_unwritable_out(tiny: TinySet) -> None:
    blocker = tiny.folder / "file"
    blocker.write_text("")
    result = CliRunner().invoke(app, [*command(tiny), "--out", str(blocker / "below")])
    assert result.exit_code == 2
    assert "Choose another --out" in result.stderr


def test_classes_from_a_file(tiny: TinySet) -> None:
    names = Path(tiny.folder / "classes.txt")
    names.write_text("c2\nc1\nc0\n")
    result = CliRunner().invoke(app, command(tiny, "--classes", str(names), "--json"))
    assert json.loads(result.stdout)["classes"] == ["c2", "c1", "c0"]


def test_bench_speed() -> None:
    arguments = [
        "bench",
        "speed",
        "--network",
        "cifar-8",
        "--rounds",
        "2",
        "--batch-size",
        "4",
        "--trusted",
        "2",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["method"] for row in rows] == ["cross_entropy", "reference", "exact", "fast"]
    assert rows[0]["ratio"] == 1
    assert CliRunner().invoke(app, ["bench", "speed", "--network", "lenet"]).exit_code == 2


# ------------------------------------------------------------------------------------------------------- next


def test_clean_next_clean(tiny: TinySet) -> None:
    """The table that next writes, filled in from the top, goes back through --trusted."""
    runner, more = CliRunner(), tiny.folder / "next.csv"
    assert runner.invoke(app, command(tiny, "--quiet")).exit_code == 0
    ask = ["next", str(tiny.folder / "out"), "-n", "5", "--out", str(more)]
    result = runner.invoke(app, ask)
    assert result.exit_code == 0, result.output
    assert "5 images to verify" in result.stdout
    with more.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {tiny.names[i] for i in tiny.trusted_rows}
    assert not known & {row["image"] for row in rows}
    truth = {name: tiny.classes[k] for name, k in zip(tiny.names, tiny.true, strict=True)}
    for row in rows[:3]:  # as far as the person came
        row["trusted_label"] = truth[row["image"]]
    with more.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    again = command(tiny, "--trusted", str(more), "--force", "--json")
    result = runner.invoke(app, again)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["trusted_pairs"] == len(known) + 3
    assert any("2 of 5 rows have no label yet" in warning for warning in summary["warnings"])


def test_sample_clean_next_clean(tmp_path: Path) -> None:
    """The commands of the README, one after the other, with a person who knows the truth."""
    runner, tiny = CliRunner(), TinySet(tmp_path, rows=360, noise=0.4)

    def verify(table: Path) -> None:
        rows = pd.read_csv(table)
        rows["trusted_label"] = [tiny.classes[tiny.true[tiny.names.index(name)]] for name in rows["image"]]
        rows.to_csv(table, index=False)

    first, more = tmp_path / "to-verify.csv", tmp_path / "next.csv"
    result = runner.invoke(app, ["sample", str(tiny.images), str(tiny.labels), "-n", "60", "-o", str(first)])
    assert result.exit_code == 0, result.output
    assert "60 of 360 images to verify" in result.stdout
    assert "--trusted" in result.stdout
    verify(first)
    tiny.trusted = first
    wanted = ("--max-fix-error", "0.15", "--quiet")
    assert runner.invoke(app, command(tiny, *wanted)).exit_code == 0
    ask = ["next", str(tmp_path / "out"), "-n", "60", "--out", str(more), "--show-given"]
    result = runner.invoke(app, ask)
    assert result.exit_code == 0, result.output
    assert "this draw" in result.stdout
    assert "chance" in result.stdout
    assert list(pd.read_csv(more).columns) == ["image", "trusted_label", "draw", "given_label", "suggestion"]
    verify(more)
    result = runner.invoke(app, command(tiny, "--trusted", str(more), "--force", *wanted, "--json"))
    assert result.exit_code == 0, result.output
    (promise,) = json.loads(result.stdout)["promises"]
    assert promise["exact"]
    rows = pq.read_table(tmp_path / "out" / "soft_labels.parquet").to_pandas()
    fixed = rows[rows.trusted_label.isna() & (rows.action == "relabel")]
    assert len(fixed) == promise["unverified"] > 0
    assert rows.verified_as.value_counts().to_dict() == {"drawn": 120}
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["promises"][0]["draw"] == promise["draw"]
    check = ["check", str(tmp_path / "out"), "--max-fix-error", "15%"]
    assert runner.invoke(app, check).exit_code == 0
    assert runner.invoke(app, [*check[:-1], "10%"]).exit_code == 1


def test_next_lists_what_a_promise_of_all_labels_leaves_open(tmp_path: Path) -> None:
    runner, tiny = CliRunner(), TinySet(tmp_path, rows=360, noise=0.4)
    tiny.trusted = tiny.write("trusted.csv", tiny.trusted_rows, tiny.true)
    assert runner.invoke(app, command(tiny, "--max-label-error", "0.05")).exit_code == 0
    ask = [
        "next",
        str(tmp_path / "out"),
        "--for",
        "label-error",
        "--out",
        str(tmp_path / "open.csv"),
        "--json",
    ]
    result = runner.invoke(app, ask)
    assert result.exit_code == 0, result.output
    left = json.loads((tmp_path / "out" / "run.json").read_text())["summary"]["promises"][0]["to_verify"]
    assert json.loads(result.stdout)["rows"] == left
    assert (tmp_path / "open.csv").exists() == (left > 0)
    both = command(tiny, "--max-label-error", "0.05", "--max-fix-error", "0.05", "--force")
    assert runner.invoke(app, both).exit_code == 2


def test_next_wants_a_finished_run_and_keeps_what_is_there(tiny: TinySet) -> None:
    runner, more = CliRunner(), tiny.folder / "next.csv"
    result = runner.invoke(app, ["next", str(tiny.folder), "--out", str(more)])
    assert result.exit_code == 2
    assert "finished run" in result.output
    assert runner.invoke(app, command(tiny, "--quiet")).exit_code == 0
    more.write_text("mine")
    result = runner.invoke(app, ["next", str(tiny.folder / "out"), "--out", str(more)])
    assert (result.exit_code, more.read_text()) == (2, "mine")
