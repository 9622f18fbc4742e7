"""The examples run as they stand."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def command(name: str, *arguments: str, **environment: str) -> dict[str, Any]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    return {
        "args": [sys.executable, str(ROOT / "examples" / name), *arguments],
        "env": os.environ | {"PYTHONPATH": paths, **environment},
        "text": True,
    }


def run(name: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(**command(name, *arguments, **environment), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("script")
    return folder, run("from_a_script.py", str(folder / "demo"))


def test_from_a_script(script: tuple[Path, str]) -> None:
    folder, said = script
    assert "noise rate" in said
    assert "checks passed" in said, said
    assert (folder / "demo" / "relabelled" / "export.json").exists()


def test_queries(script: tuple[Path, str]) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("polars")
    said = run("query_with_duckdb_and_polars.py", str(script[0] / "demo" / "labelfix-out"))
    assert "erin" in said
    assert said.count("(Polars)") == 2


@pytest.mark.slow
def test_soft_labels_beat_given_and_corrected_ones(tmp_path: Path) -> None:
    said = run("soft_label_training.py", str(tmp_path / "training"))
    figures = {
        line.split()[0]: [float(cell) for cell in line.replace("±", " ").split()[1:]]
        for line in said.splitlines()
        if line.split()[0] in ("given", "corrected", "soft") and "-" not in line.split()[1]
    }
    given, corrected, soft = (figures[name] for name in ("given", "corrected", "soft"))
    assert soft[0] > corrected[0] > given[0] + 0.1, said  # accuracy
    assert soft[2] < corrected[2] < given[2], said  # log loss


def test_simulated_annotators() -> None:
    pytest.importorskip("cleanlab")
    pytest.importorskip("crowdkit")
    said = run("simulated_annotators.py", "--draws", "1", "--labels-per-image", "2")
    lines = {line[:36].strip(): line[36:] for line in said.splitlines()}
    assert {"labelfix", "CROWDLAB", "Dawid-Skene", "the truth"} <= lines.keys()
    assert "intervals hold the true accuracy" in said


def test_fiftyone_export(script: tuple[Path, str]) -> None:
    folder = script[0]
    if importlib.util.find_spec("fiftyone") is not None:
        pytest.skip("FiftyOne would open its app")
    said = run("open_in_fiftyone.py", str(folder / "demo" / "labelfix-out"), str(folder / "fiftyone"))
    assert "1797 images, 10 classes" in said


# ----------------------------------------------------------------------------------- the setting of the paper


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of the benchmark data, with a hundred images of coloured noise."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    labels = rng.integers(0, 10, 160)
    images = []
    for label in labels.tolist():
        image = Image.fromarray(rng.integers(0, 128, (32, 32, 3), np.uint8) + np.uint8(12 * label))
        image.save(content := io.BytesIO(), "png")
        images.append(content.getvalue())
    columns = {"split": ["train"] * 96 + ["test"] * 64, "image": images, "label": labels}
    pq.write_table(pa.table(columns), folder / "cifar10.parquet")
    np.save(folder / "student_logits_cifar10.npy", rng.random((96, 10), np.float32))
    return folder


SMALL = ["--images", "96", "--trusted", "32", "--test", "32", "--epochs", "3", "--threads", "1"]


def accuracies(out: Path) -> list[tuple[str, str, float]]:
    content = json.loads((out / "paper_cifar10.json").read_text())
    assert str(out) not in json.dumps(content), "a result says nothing of the machine's folders"
    return [(row["noise"], row["method"], row["test_accuracy"]) for row in content["rows"]]


def test_the_setting_of_the_paper_runs_small(cifar: Path, tmp_path: Path) -> None:
    said = run("paper_cifar10.py", *SMALL, "--out", str(tmp_path), LABELFIX_DATA=str(cifar))
    rows = accuracies(tmp_path)
    assert [row[:2] for row in rows] == [
        (noise, method) for noise in ("uniform", "feature-dependent") for method in ("cross-entropy", "exact")
    ]
    assert said.count("test accuracy") == 4
    history = pq.read_table(tmp_path / "history-uniform-exact-0.parquet")
    assert history["phase"].to_pylist() == ["warm-up", "mslg", "mslg"]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_killed_in_between_the_same_command_goes_on(cifar: Path, tmp_path: Path) -> None:
    more = ["--noises", "uniform", "--epochs", "5"]
    whole, killed = (
        [*SMALL, *more, "--out", str(tmp_path / "whole")],
        [*SMALL, *more, "--out", str(tmp_path / "killed")],
    )
    run("paper_cifar10.py", *whole, LABELFIX_DATA=str(cifar))
    for kept in ("uniform-0-cross-entropy.pt", "uniform-0-exact.pt"):
        with subprocess.Popen(**command("paper_cifar10.py", *killed, LABELFIX_DATA=str(cifar))) as process:
            while not (tmp_path / "killed" / "checkpoints" / kept).exists():
                assert process.poll() is None
            process.kill()
    run("paper_cifar10.py", *killed, LABELFIX_DATA=str(cifar))
    assert accuracies(tmp_path / "killed") == accuracies(tmp_path / "whole")
