"""``labelfix bench list``, ``run`` and ``table`` from the command line."""

import json
from pathlib import Path

import pytest
from test_benchmark_runs import folder  # noqa: F401
from typer.testing import CliRunner

from labelfix.benchmark.data_sets import DATA_SETS
from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.noise import NOISES
from labelfix.benchmark.results import read_rows
from labelfix_cli import app

SMALL = ["--images", "60", "--test", "30", "--trusted", "40", "--held-out", "10", "--epochs", "1"]
SMALL += ["--batch-size", "32", "--device", "cpu", "--threads", "1"]


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_list_names_everything() -> None:
    shown = invoke("list")
    for name in [*METHODS, *DATA_SETS, *NOISES, "cifar-8"]:
        assert name in shown
    assert list(json.loads(invoke("list", "--json"))["methods"]) == list(METHODS)


def test_run_resume_and_table(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "rows.jsonl"
    run = ["run", "--out", out, "--data-folder", folder, "--method", "mslg", "--noise", "uniform:40", *SMALL]
    assert "1 runs added, 0 left" in invoke(*run, "--seed", 0, "--option", "mslg.beta=10")
    assert read_rows(out)[0]["method_settings"]["beta"] == 10
    both = invoke(*run, "--seed", 0, "--seed", 1, "--option", "mslg.beta=10", "--method", "cross_entropy")
    assert "4 runs, 1 of them" in both
    assert "3 runs added, 0 left" in both
    shown = invoke("table", out, "--plots", tmp_path / "plots")
    assert "| mslg - cross_entropy |" in shown
    assert [p.name for p in (tmp_path / "plots").iterdir()] == ["fashion_mnist-uniform-40.svg"]
    assert "already there" in invoke("table", out, "--plots", tmp_path / "plots", code=2)
    invoke(*run, "--seed", 0, "--trusted", 20, "--quiet")
    assert "| trusted | 20 | 40 |" in invoke("table", out, "--by", "trusted")


def test_the_grid_of_the_paper_runs_small_on_a_cpu(tmp_path: Path, data_folder: Path) -> None:
    small = ["--images", "40", "--test", "20", "--trusted", "30", "--held-out", "10", "--epochs", "1"]
    out = tmp_path / "rows.jsonl"
    invoke(
        "run", "--grid", "cifar10", "--out", out, *small, "--stop-after", "0.02", "--device", "cpu", "--quiet"
    )
    rows = read_rows(out)
    assert rows
    assert [row["settings"]["method"] for row in rows][:8] == ["mslg"] * min(8, len(rows))
    assert rows[0]["settings"]["network"] == "cifar-8"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--out", "x", "--grid", "imagenet"], "--grid: got 'imagenet'"),
        (["run", "--out", "x", "--method", "mixup"], "method: got 'mixup'"),
        (["run", "--out", "x", "--noise", "uniform:lots"], "expected NAME or NAME:PERCENT"),
        (["run", "--out", "x", "--option", "alpha=1"], "expected METHOD.NAME=VALUE"),
        (["run", "--out", "x", "--option", "mslg.alhpa=1"], "option mslg.alhpa"),
        (["table", "none.jsonl"], "none.jsonl: does not exist"),
    ],
)
def test_bad_usage(arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELFIX_DATA", str(tmp_path))
    assert said in invoke(*arguments, code=2)


def test_no_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LABELFIX_DATA", raising=False)
    assert "LABELFIX_DATA is not set" in invoke("run", "--out", tmp_path / "x", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_real_data(method: str, tmp_path: Path, data_folder: Path) -> None:
    """4,000 images of Fashion-MNIST, two epochs, both noises: above chance, nothing infinite."""
    out = tmp_path / "rows.jsonl"
    few = ["--images", "4000", "--test", "1000", "--epochs", "2", "--seed", "0", "--device", "cpu"]
    invoke("run", "--method", method, "--out", out, "--data-folder", data_folder, "--quiet", *few)
    rows = read_rows(out)
    assert [row["settings"]["noise"] for row in rows] == ["feature_dependent", "uniform"]
    for row in rows:
        assert row["failed"] is None
        assert max(row["history"]["test_accuracy"]) > 0.2
        assert row["noise"]["ratio"] == pytest.approx(0.4)
