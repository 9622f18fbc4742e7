"""Every command and every Python block of the README is executed."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from conftest import TinySet
from typer.testing import CliRunner

import labelfix
from labelfix_cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_OURS = ("git clone", "cd ", "make ", "pip ", "LABELFIX_DATA=")
SMALL_OPTIONS: dict[str, Any] = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}
SMALL = ["--train", "head", "--image-size", "32", "--folds", "3", "--workers", "0"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.strip() for block in blocks("console") for line in block.splitlines()]
    lines += [line.strip() for line in README.splitlines() if line.startswith("    labelfix ")]
    return [line for line in lines if line]


def test_there_is_something_to_check() -> None:
    assert sum(line.startswith("labelfix clean") for line in commands()) >= 2
    assert blocks("python")


@pytest.mark.parametrize("line", sorted({c for c in commands() if c.startswith("labelfix ")}))
def test_commands_run(line: str, tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.folder)
    arguments = shlex.split(line)[1:]
    if arguments[0] == "clean":
        arguments += SMALL
        tiny.write("next.csv", tiny.trusted_rows[:5], tiny.true)
    elif "labelfix-out" in arguments:
        labelfix.clean("images", "labels.csv", "trusted.csv", **SMALL_OPTIONS)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, tiny: TinySet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.folder)
    exec(compile(code.replace("image_size=128", "image_size=32"), "README.md", "exec"), {})


def test_other_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands():
        if line.startswith("make "):
            assert set(line.split()[1:]) <= targets, line
        else:
            assert line.startswith(("labelfix ", *NOT_OURS)), f"nobody executes {line!r}"


def test_files_and_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_is_mentioned() -> None:
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert f"labelfix {name}" in README or f"make {name}" in README, name
