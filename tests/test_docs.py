"""The README and the pages of docs/: commands and Python blocks are executed, links and files exist."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import TinySet, write_rows
from typer.main import get_command
from typer.testing import CliRunner

import labelfix
from labelfix_cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*/**/*.md"))]
TEXT = {page: page.read_text(encoding="utf-8") for page in LINKING}
EVERYTHING = "\n".join(TEXT[page] for page in PAGES)
NOT_OURS = ("git clone", "cd ", "make ", "pip ", "LABELFIX_DATA=", "python -m pytest ", "python examples/")
SMALL_OPTIONS: dict[str, Any] = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}
SMALL = ["--train", "head", "--image-size", "32", "--folds", "3", "--workers", "0"]
MOST_WORDS = 900  # of the README, outside of tables and code
LARGEST_PICTURE = 400_000  # bytes


def blocks(language: str, text: str = EVERYTHING) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return what the pages tell a reader to type, and the commands whose output they quote."""
    lines = [line.strip() for block in blocks("console") for line in block.splitlines()]
    lines += [line.strip() for line in EVERYTHING.splitlines() if line.startswith("    labelfix ")]
    lines += [line[2:] for block in blocks("text") for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line]


def our_commands() -> set[str]:
    """Return the commands to execute: those about the demo's run are executed on another one."""
    return {line.replace("labelfix-demo/", "") for line in commands() if line.startswith("labelfix ")}


def command_names() -> set[str]:
    tree = get_command(app)
    names = set()
    for name, command in tree.commands.items():  # type: ignore[attr-defined]
        names |= {name} | {f"{name} {inner}" for inner in getattr(command, "commands", ())}
    return names


def options() -> set[str]:
    """Return every option of the app."""
    found, todo = set(), [get_command(app)]
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        found |= {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    return found


def prose(text: str) -> str:
    """Return a page without tables, code blocks and the addresses of links."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(\||    ).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "]", text)


def links(page: Path) -> list[tuple[Path, str]]:
    """Return (file, heading) of every link of a page inside the project."""
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", TEXT[page]) if not t.startswith("https://")]
    parts = [target.partition("#") for target in targets]
    return [((page.parent / file).resolve() if file else page, heading) for file, _, heading in parts]


def anchors(text: str) -> set[str]:
    """Return the headings of a page as addresses name them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images labelled by two annotators, the tables, and a run; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("finished")
    tiny = TinySet(folder)
    labels = [tiny.classes[k] for k in tiny.given]
    rows = [(tiny.names[i], label, ("ann", "bo")[i % 2]) for i, label in enumerate(labels)]
    write_rows(tiny.labels, rows, ("image", "label", "annotator"))
    tiny.write("verified.csv", tiny.trusted_rows[:5], tiny.true)
    tiny.write("to-verify.csv", tiny.trusted_rows, tiny.true)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        labelfix.clean("images", "labels.csv", "trusted.csv", **SMALL_OPTIONS)
        labelfix.clean(
            "images", "labels.csv", "trusted.csv", "third-run", max_label_error=0.45, **SMALL_OPTIONS
        )
    return folder


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run and its input, as the working directory."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_something_to_check() -> None:
    assert sum(line.startswith("labelfix clean") for line in our_commands()) >= 2
    assert blocks("python")
    assert len(PAGES) >= 10


@pytest.mark.parametrize("line", sorted(our_commands()))
def test_commands_run(line: str, run_copy: Path) -> None:
    arguments = shlex.split(line)[1:]
    if arguments[0] == "clean":
        arguments += SMALL
        shutil.rmtree("labelfix-out")
        shutil.rmtree("third-run")
        Path("verified.csv").rename("next.csv")
    if arguments[0] == "sample":
        Path("to-verify.csv").unlink()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in ({0, 1} if arguments[0] == "check" else {0}), result.output


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, run_copy: Path) -> None:
    if "labelfix.clean(" in code:
        shutil.rmtree("labelfix-out")
        assert "image_size" in code
    small = re.sub(r"image_size(=|\": )\d+", r"image_size\g<1>32", code)
    exec(compile(small, "docs", "exec"), {})


def test_other_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands():
        if line.startswith("make "):
            assert set(line.split()[1:]) <= targets, line
        else:
            assert line.startswith(("labelfix ", *NOT_OURS)), f"nobody executes {line!r}"


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_and_links_exist(page: Path) -> None:
    for file, heading in links(page):
        assert file.exists(), file
        assert not heading or heading in anchors(TEXT[file]), heading
    for name in re.findall(r"(?<![\w/.-])(?:examples|tests|labelfix)/[\w/]+\.\w+", TEXT[page]):
        assert (ROOT / name).exists(), name


def test_every_command_is_mentioned() -> None:
    for name in command_names() - {"bench"}:
        assert f"labelfix {name}" in EVERYTHING or f"make {name}" in EVERYTHING, name


def test_only_commands_and_options_that_exist_are_mentioned() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py")))
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", EVERYTHING, flags=re.DOTALL | re.M)):
        if name := re.match(r"labelfix (bench [a-z]+|[a-z]+)\b", code):
            assert name[1] in command_names(), code
        if option := re.match(r"--[a-z-]+", code):
            assert option[0] in options() or f'"{option[0]}"' in scripts, code


def test_every_example_is_mentioned() -> None:
    for path in sorted((ROOT / "examples").glob("*.py")):
        if "__main__" in path.read_text(encoding="utf-8"):
            assert path.name in EVERYTHING, path.name


def test_every_file_of_a_run_is_explained(finished: Path) -> None:
    page = TEXT[DOCS / "outputs.md"]
    for path in (finished / "labelfix-out").iterdir():
        assert f"`{path.name}`" in page, path.name


def test_every_package_is_in_the_tree_of_packages() -> None:
    tree = re.findall(r"^ {4,6}([\w/]+(?:\.py)?) {2,}\S", TEXT[ROOT / "CONTRIBUTING.md"], re.MULTILINE)
    packages = [f"{path.parent.name}/" for path in (ROOT / "labelfix").glob("*/__init__.py")]
    modules = [path.name for path in (ROOT / "labelfix").glob("*.py") if path.name != "__init__.py"]
    assert sorted(tree) == sorted([*packages, *modules, "cli/labelfix_cli/"])


def test_no_page_is_an_orphan() -> None:
    index = {file for file, _ in links(DOCS / "README.md")}
    for page in LINKING:
        contents = page.parent / "README.md"
        if page.is_relative_to(DOCS) and page != DOCS / "README.md":
            assert page in index or (page != contents and page in {file for file, _ in links(contents)}), page


def test_words_are_counted_outside_of_tables_and_code() -> None:
    page = "# One\n\nTwo [three](four.md).\n\n    five\n\n| six |\n|---|\n\n```text\nseven\n```\n\n- eight\n"
    assert re.findall(r"[a-zA-Z]+", prose(page)) == ["One", "Two", "three", "eight"]


def test_readme_is_short() -> None:
    assert len(re.findall(r"\S*\w\S*", prose(TEXT[ROOT / "README.md"]))) <= MOST_WORDS


def test_pictures_are_small() -> None:
    for picture in sorted((DOCS / "images").iterdir()):
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name
