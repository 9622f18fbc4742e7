"""Imports go downwards only, and the command line's help stays fast."""

import ast
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# One line per layer, lowest first; a module may import from its own layer and below.
LAYERS = (
    {
        "labelfix", "labelfix.check_settings", "labelfix.config", "labelfix.errors", "labelfix.export_settings",
        "labelfix.files", "labelfix.folds", "labelfix.progress",
    },
    {
        "labelfix.annotator_model", "labelfix.annotators", "labelfix.audit", "labelfix.calibration",
        "labelfix.check", "labelfix.comparison", "labelfix.dataset", "labelfix.evidence", "labelfix.export",
        "labelfix.feature_store", "labelfix.finished", "labelfix.fix_error", "labelfix.frames",
        "labelfix.guarantees", "labelfix.images", "labelfix.matrices", "labelfix.neighbours",
        "labelfix.posterior", "labelfix.record", "labelfix.report", "labelfix.roles", "labelfix.rundir",
        "labelfix.sampling", "labelfix.tables", "labelfix.transition", "labelfix.verification",
        "labelfix.verified_fixes",
    },
    {
        "labelfix.augmentation", "labelfix.backbones", "labelfix.checkpoints", "labelfix.discriminant",
        "labelfix.features", "labelfix.mslg", "labelfix.pixels", "labelfix.regression",
        "labelfix.soft_label_dataset", "labelfix.tally", "labelfix.votes",
    },
    {
        "labelfix.demo", "labelfix.full", "labelfix.gathering", "labelfix.head", "labelfix.history",
        "labelfix.pipeline", "labelfix.retraining", "labelfix.training",
    },
    {"labelfix.benchmark"},
    {"labelfix_cli"},
)  # fmt: skip
HEAVY = ("torch", "pyarrow", "scipy", "sklearn", "numpy", "timm", "PIL")


def module_files() -> dict[str, Path]:
    files = {}
    for base in (ROOT, ROOT / "cli"):
        for path in sorted(base.glob("labelfix*/**/*.py")):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            files[name.removesuffix(".__init__")] = path
    return files


def layer_of(module: str) -> int | None:
    """Return the layer of a module, by its longest listed prefix."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        for number, names in enumerate(LAYERS):
            if prefix in names and (end == len(parts) or prefix not in ("labelfix",)):
                return number
    return None


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
    own = layer_of(module)
    assert own is not None, f"{module} has no layer: list it in LAYERS"
    for imported in imports_of(path):
        target = layer_of(imported)
        assert target is not None, f"{module} imports {imported}, which has no layer"
        assert target <= own, f"{module} (layer {own}) imports {imported} (layer {target})"


def test_mathematics_imports_only_errors() -> None:
    for path in sorted((ROOT / "labelfix" / "mslg").glob("*.py")):
        others = {name for name in imports_of(path) if not name.startswith("labelfix.mslg")}
        assert others <= {"labelfix.errors"}, path


@pytest.mark.parametrize("module", ["labelfix.posterior", "labelfix.rundir", "labelfix.dataset"])
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


@pytest.mark.parametrize(("arguments", "seconds"), [(["--help"], 0.3), (["clean", "--help"], 0.5)])
def test_help_is_fast(arguments: list[str], seconds: float) -> None:
    times = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "labelfix_cli", *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: what a person waits for on an idle machine, and steady on a busy one.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(times) < seconds


def test_no_print_in_the_library() -> None:
    for name, path in module_files().items():
        if not name.startswith("labelfix.benchmark"):  # prints from a subprocess of its own
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE), name
