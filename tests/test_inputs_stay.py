"""No command changes anything in an input folder: bytes, times and names before and after each of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import TinySet, write_rows
from test_benchmark_runs import folder  # noqa: F401
from typer.testing import CliRunner

from labelfix.settings.export import TABLES_ONLY, ExportFormat
from labelfix_cli import app

FAST = ["--train", "head", "--image-size", "32", "--folds", "3", "--workers", "0", "--quiet"]
POLICIES = ("relabel", "drop", "soft", "review-only")


def state_of(folder: Path) -> dict[str, tuple[str, int, int]]:  # noqa: F811
    """Digest, mode and time of change of a folder, and of every file and folder below it."""
    state = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        state[str(path)] = (digest, path.stat().st_mode, path.stat().st_mtime_ns)
    return state


def run_all(commands: Iterable[list[str]], kept: Path) -> None:
    before = state_of(kept)
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
        assert state_of(kept) == before, command


@pytest.fixture
def tiny_input(tmp_path: Path) -> TinySet:
    """Images labelled by three people, in a folder that holds nothing else."""
    tiny = TinySet(tmp_path / "input")
    people = ("ann", "bea", "cyd")
    rows = [
        (n, tiny.classes[k], people[i % 3])
        for i, (n, k) in enumerate(zip(tiny.names, tiny.given, strict=True))
    ]
    write_rows(tiny.labels, rows, ("image", "label", "annotator"))
    return tiny


def test_images(tiny_input: TinySet, tmp_path: Path) -> None:
    tiny, out, made = tiny_input, str(tmp_path / "out"), tmp_path / "made"
    made.mkdir()
    clean = ["clean", str(tiny.images), str(tiny.labels), "--trusted", str(tiny.trusted), "--out", out, *FAST]
    commands = [
        clean,
        [*clean, "--force"],
        ["audit", out],
        ["check", out, "--max-noise", "99%", "--baseline", out, "--junit", str(made / "check.xml")],
        ["report", out],
        ["report", out, "--to", str(made / "page.html"), "--images", str(tiny.images)],
        ["next", out, "-n", "5", "--out", str(made / "next.csv")],
    ]
    for to in ExportFormat:
        ways = [[]] if to in TABLES_ONLY else [[], ["--copy"], ["--symlink"]]
        for policy in POLICIES:
            dest = str(made / "dest")
            commands += [
                ["export", out, dest, "--to", to, "--policy", policy, "--force", *way] for way in ways
            ]
    assert len(state_of(tmp_path / "input")) > 60
    run_all(commands, tmp_path / "input")


def test_matrices(tiny_input: TinySet, tmp_path: Path) -> None:
    tiny, out = tiny_input, str(tmp_path / "out")
    matrix = tiny.folder / "probs.npy"
    np.save(matrix, 0.1 + 0.7 * np.eye(3)[tiny.true])
    commands = [
        ["clean", str(matrix), str(tiny.labels), "--trusted", str(tiny.trusted), "--out", out, "--quiet"],
        ["report", out, "--images", str(tiny.images)],
        ["export", out, str(tmp_path / "dest"), "--to", "torch", "--images", str(tiny.images), "--copy"],
    ]
    run_all(commands, tiny.folder)


def test_data_sets_of_the_benchmark(
    folder: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    small = ["--images", "60", "--test", "30", "--trusted", "40", "--held-out", "10", "--epochs", "1"]
    out = str(tmp_path_factory.mktemp("made") / "rows.jsonl")
    command = ["bench", "run", "--out", out, "--data-folder", str(folder), *small]
    run_all([[*command, "--method", "mslg", "--seed", "0", "--device", "cpu", "--quiet"]], folder)
