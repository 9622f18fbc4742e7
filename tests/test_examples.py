"""The examples run as they stand."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(name: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "cli")])}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
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
