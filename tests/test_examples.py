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


def test_fiftyone_export(script: tuple[Path, str]) -> None:
    folder = script[0]
    if importlib.util.find_spec("fiftyone") is not None:
        pytest.skip("FiftyOne would open its app")
    said = run("open_in_fiftyone.py", str(folder / "demo" / "labelfix-out"), str(folder / "fiftyone"))
    assert "1797 images, 10 classes" in said
