"""Imports go downwards only, and the command line's help stays fast."""

import ast
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labelfix

ROOT = Path(__file__).parent.parent
# Every package and module with its number, in the order of the data flow: it imports from lower numbers alone.
NUMBERS = {
    "labelfix": 0,
    "labelfix.errors": 0,
    "labelfix.settings": 1,
    "labelfix.system": 2,
    "labelfix.inputs": 3,
    "labelfix.mslg": 3,
    "labelfix.images": 4,
    "labelfix.training": 5,
    "labelfix.stacking": 6,
    "labelfix.cross_fitting": 7,
    "labelfix.risk_control": 8,
    "labelfix.verdicts": 9,
    "labelfix.runs": 10,
    "labelfix.audit": 11,
    "labelfix.check": 11,
    "labelfix.drawing": 11,
    "labelfix.export": 11,
    "labelfix.report": 11,
    "labelfix.torch_dataset": 11,
    "labelfix.pipeline": 12,
    "labelfix.demo": 13,
    "labelfix.benchmark": 14,
    "labelfix_cli": 15,
}
# They read finished runs; what a stage computes reaches them through the run directory or as plain arrays.
READERS = ("labelfix.audit", "labelfix.check", "labelfix.export", "labelfix.report")
COMPUTING = ("labelfix.training", "labelfix.cross_fitting", "labelfix.risk_control", "labelfix.mslg")
LONGEST_FILE = 350
HEAVY = ("torch", "pyarrow", "scipy", "sklearn", "numpy", "timm", "PIL")


def module_files() -> dict[str, Path]:
    files = {}
    for base in (ROOT, ROOT / "cli"):
        for path in sorted(base.glob("labelfix*/**/*.py")):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            files[name.removesuffix(".__init__")] = path
    return files


def package_of(module: str) -> str:
    """Return the entry of `NUMBERS` that a module belongs to; empty where it has none."""
    parts = module.split(".")
    named = parts[0] if parts[0] == "labelfix_cli" else ".".join(parts[:2])
    return named if named in NUMBERS else ""


def imports_of(path: Path) -> set[str]:
    """Return our own modules that a file imports anywhere but under TYPE_CHECKING."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    hidden = {id(inner) for node in skipped for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("labelfix")}


@pytest.mark.parametrize(("module", "path"), module_files().items())
def test_imports_go_downwards(module: str, path: Path) -> None:
    package = package_of(module)
    assert package, f"{module} has no number: list its package in NUMBERS"
    for imported in imports_of(path):
        target = package_of(imported)
        assert target, f"{module} imports {imported}, which has no number"
        allowed = target == package or NUMBERS[target] < NUMBERS[package]
        assert allowed, f"{module} ({NUMBERS[package]}) imports {imported} ({NUMBERS[target]})"


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    module = tmp_path / "decoding.py"
    module.write_text("def f():\n    from labelfix.training.network import predict\n")
    with pytest.raises(
        AssertionError, match=r"images.decoding \(4\) imports labelfix.training.network \(5\)"
    ):
        test_imports_go_downwards("labelfix.images.decoding", module)


def test_every_number_is_of_something_that_exists() -> None:
    assert {package_of(module) for module in module_files()} == set(NUMBERS)


def test_modules_outside_of_packages_are_few() -> None:
    outside = {path.name for path in (ROOT / "labelfix").glob("*.py")}
    assert outside == {"__init__.py", "errors.py", "pipeline.py", "demo.py", "torch_dataset.py"}


def test_no_function_has_the_name_of_a_package() -> None:
    packages = {path.parent.name for path in (ROOT / "labelfix").glob("*/__init__.py")}
    assert not packages & set(labelfix.__all__)


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_runs_do_without_the_stages(reader: str) -> None:
    for module, path in module_files().items():
        if package_of(module) == reader:
            assert not {name for name in imports_of(path) if package_of(name) in COMPUTING}, module


def test_no_file_is_long_without_a_reason() -> None:
    for module, path in module_files().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= LONGEST_FILE or any("Longer than" in line for line in lines), module


def test_mathematics_imports_only_errors_and_settings() -> None:
    for path in sorted((ROOT / "labelfix" / "mslg").glob("*.py")):
        others = {name for name in imports_of(path) if not name.startswith("labelfix.mslg")}
        assert others <= {"labelfix.errors", "labelfix.settings"}, path


@pytest.mark.parametrize(
    "module",
    [
        "labelfix.verdicts",
        "labelfix.stacking",
        "labelfix.runs.reading",
        "labelfix.inputs",
        "labelfix.risk_control",
    ],
)
def test_lower_layers_do_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from labelfix_cli import main\n"
        "sys.argv = ['labelfix', 'clean', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("LOADED []")


def processor_time(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median processor time of a command, steady on a busy machine, and what the last run gave."""
    times = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times), done


@pytest.mark.parametrize(("arguments", "seconds"), [(["--help"], 0.3), (["clean", "--help"], 0.5)])
def test_help_is_fast(arguments: list[str], seconds: float) -> None:
    command = [sys.executable, "-m", "labelfix_cli", *arguments]
    assert processor_time(lambda: subprocess.run(command, check=True, capture_output=True))[0] < seconds


def test_a_wrong_path_is_refused_before_anything_heavy_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "labelfix_cli", "clean", str(tmp_path / "no"), str(tmp_path / "no.csv")]
    seconds, done = processor_time(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )
    assert done.returncode == 2
    assert done.stderr.count("does not exist") == 2
    assert seconds < 0.5


def test_no_print_in_the_library() -> None:
    for name, path in module_files().items():
        if not name.startswith("labelfix.benchmark"):  # prints from a subprocess of its own
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE), name
