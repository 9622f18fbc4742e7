"""`labelfix bench labels`: all methods on the same rows, judged on those that nobody verified."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import labelfix.benchmark.labels as labels
from labelfix.benchmark.labels import FIGURES, METHODS, LabelTask, compare, means_over_data
from labelfix.errors import InputError
from labelfix.system.progress import SilentProgress
from labelfix_cli import app

ROWS, CLASSES = 900, 3


def planted(name: str = "planted") -> LabelTask:
    """Three clusters in eight dimensions, a quarter of the labels another class."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, CLASSES, ROWS)
    features = rng.normal(size=(ROWS, 8)) + 3.0 * np.eye(8)[true]
    wrong = rng.random(ROWS) < 0.25
    given = np.where(wrong, (true + rng.integers(1, CLASSES, ROWS)) % CLASSES, true)
    return LabelTask(name=name, features=features.astype(np.float16), given=given, true=true)


@pytest.mark.filterwarnings("ignore")  # cleanlab's
def test_every_method_is_judged_and_repairs_help() -> None:
    found = dict(compare(planted(), trusted=200, draw=0))
    assert tuple(found) == METHODS
    for figures in found.values():
        assert tuple(figures) == FIGURES
        assert 0 <= figures["ECE"] <= 1
    assert found["labels alone"]["accuracy"] == pytest.approx(0.75, abs=0.04)
    assert found["labels alone"]["flagged"] == 0
    assert found["labelfix"]["accuracy"] > 0.95
    assert found["labelfix"]["AP"] > found["labels alone"]["AP"] + 0.5


def test_an_unknown_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'imagenet'"):
        labels.read_task("imagenet", tmp_path, 100, SilentProgress())
    with pytest.raises(InputError, match=r"cifar10\.parquet"):
        labels.read_task("cifar10-uniform-40", tmp_path, 100, SilentProgress())


@pytest.mark.filterwarnings("ignore")
def test_means_are_over_data_sets_with_noise() -> None:
    def row(data: str, method: str, value: float | None) -> dict[str, object]:
        return {"data": data, "method": method} | dict.fromkeys(FIGURES, value or 0.0) | {"AP": value}

    rows = [row("a", "x", 0.2), row("a", "x", 0.4), row("b", "x", 0.9), row("clean", "x", None)]
    assert means_over_data(rows) == {"x": dict.fromkeys(FIGURES, pytest.approx(0.6))}
    assert means_over_data(rows[3:]) == {}


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that the results file has are not computed again, and count in the table."""
    computed = []

    def counted(task: LabelTask, *, trusted: int, draw: int):
        computed.append((task.name, draw))
        clean = {"AP": float("nan")} if task.name == "cifar10-clean-0" else {}
        yield from ((m, dict.fromkeys(FIGURES, 0.5 + 0.25 * (m == "labelfix")) | clean) for m in METHODS)

    monkeypatch.setenv("LABELFIX_DATA", str(tmp_path))
    monkeypatch.setattr(labels, "read_task", lambda name, *_: planted(name))
    monkeypatch.setattr(labels, "compare", counted)
    out = tmp_path / "rows.jsonl"
    command = ["bench", "labels", "--only", "cifar10-clean-0", "--only", "cifar10n-aggre", "--out", str(out)]
    first = CliRunner().invoke(app, [*command, "--draws", "1"])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, [*command, "--draws", "2"])
    assert again.exit_code == 0, again.output
    names = ("cifar10-clean-0", "cifar10n-aggre")
    assert computed == [(name, draw) for draw in range(2) for name in names]
    assert "2 paired draws" in again.stdout
    assert "–" in again.stdout  # no AP where it is not defined
    assert "labelfix - cleanlab: AP +0.250, F1 +0.250, 50% fewer wrong labels left" in again.stdout
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 4
    out.write_text(out.read_text().replace('"cleanlab, C = 1"', '"cleanlab"'))  # methods of another version
    CliRunner().invoke(app, [*command, "--draws", "1"])
    assert computed[4:] == [(name, 0) for name in names]
