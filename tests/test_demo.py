import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from labelfix.demo import ANNOTATOR_ERROR, CONFUSED_WITH, SIDE, run_demo, write_demo_data
from labelfix.errors import OutputError
from labelfix_cli import app


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_images_are_the_scans(tmp_path: Path) -> None:
    truth = write_demo_data(tmp_path / "demo")
    digits = load_digits()
    assert list(truth.values()) == [str(t) for t in digits.target]
    for i in (0, 700, 1796):
        picture = np.asarray(Image.open(tmp_path / "demo" / "images" / f"scan_{i:04d}.png"), float)
        assert picture.shape == (SIDE, SIDE)
        small = picture.reshape(8, SIDE // 8, 8, SIDE // 8).mean((1, 3))
        assert np.corrcoef(small.ravel(), -digits.images[i].ravel())[0, 1] > 0.97


def test_planted_noise_is_what_it_says(tmp_path: Path) -> None:
    truth = write_demo_data(tmp_path / "demo")
    labels = rows(tmp_path / "demo" / "labels.csv")
    assert {r["annotator"] for r in labels} == set(ANNOTATOR_ERROR)
    for name, error in ANNOTATOR_ERROR.items():
        own = [r for r in labels if r["annotator"] == name]
        wrong = np.mean([r["label"] != truth[r["image"]] for r in own])
        assert wrong == pytest.approx(error, abs=3 * np.sqrt(error * (1 - error) / len(own)))
    errors = [r for r in labels if r["label"] != truth[r["image"]]]
    pairs = np.mean([int(r["label"]) == CONFUSED_WITH[int(truth[r["image"]])] for r in errors])
    assert pairs == pytest.approx(0.8 + 0.2 / 9, abs=0.07)
    trusted = rows(tmp_path / "demo" / "trusted.csv")
    assert len(trusted) == 180
    assert all(r["label"] == truth[r["image"]] for r in trusted)


def test_demo_finds_most_planted_errors(tmp_path: Path) -> None:
    outcome = run_demo(tmp_path / "demo")
    assert outcome.noise_after < outcome.noise_before / 3
    assert outcome.precision > 0.8
    assert outcome.recall > 0.8
    assert outcome.rows == 1797 - 180


def test_demo_command(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = CliRunner().invoke(app, ["demo", str(folder)])
    assert first.exit_code == 0, first.output
    assert "precision" in first.stdout
    assert "planted wrong labels" in first.stdout
    assert CliRunner().invoke(app, ["demo", str(folder)]).exit_code == 2
    assert CliRunner().invoke(app, ["demo", str(folder), "--force", "--quiet"]).output == ""


def test_demo_never_touches_a_strangers_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not empty"):
        run_demo(tmp_path, force=True)
    assert (tmp_path / "images" / "mine.png").read_bytes() == b"mine"
