"""No command changes anything in an input folder: bytes, times and names before and after each of them."""

import hashlib
from pathlib import Path

from conftest import TinySet, write_rows
from typer.testing import CliRunner

from labelfix.export_settings import TABLES_ONLY, ExportFormat
from labelfix_cli import app

FAST = ["--train", "head", "--image-size", "32", "--folds", "3", "--workers", "0", "--quiet"]


def state_of(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Digest, mode and time of change of every file below a folder, and the time of every folder."""
    state = {}
    for path in sorted(folder.rglob("*")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        state[str(path)] = (digest, path.stat().st_mode, path.stat().st_mtime_ns)
    return state


def test_inputs_stay_as_they_are(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path / "input")
    people = ("ann", "bea", "cyd")
    rows = [
        (n, tiny.classes[k], people[i % 3])
        for i, (n, k) in enumerate(zip(tiny.names, tiny.given, strict=True))
    ]
    write_rows(tiny.labels, rows, ("image", "label", "annotator"))
    out = str(tmp_path / "out")
    clean = ["clean", str(tiny.images), str(tiny.labels), "--trusted", str(tiny.trusted), "--out", out, *FAST]
    commands = [clean, [*clean, "--force"], ["audit", out], ["check", out, "--max-noise", "99%"]]
    for to in ExportFormat:
        ways = [[]] if to in TABLES_ONLY else [[], ["--copy"], ["--symlink"]]
        for policy in ("relabel", "drop", "soft", "review-only"):
            commands += [
                ["export", out, str(tmp_path / "dest"), "--to", to, "--policy", policy, "--force", *way]
                for way in ways
            ]
    before = state_of(tmp_path / "input")
    assert len(before) > 60
    for command in commands:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, (command, result.output)
        assert state_of(tmp_path / "input") == before, command
