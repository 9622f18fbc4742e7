"""Tables and pictures, from rows with known figures."""

from pathlib import Path
from typing import Any

import pytest

from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.paper import paper_figures
from labelfix.benchmark.plot import plot_curves
from labelfix.benchmark.settings import RunSettings
from labelfix.benchmark.table import Vary, ablation_text, comparison_text, summarise
from labelfix.errors import OutputError


def row(method: str, last: float | None, best: float | None = None, **changes: Any) -> dict[str, Any]:
    settings = RunSettings(**{"method": method, "data": "cifar10", **changes})
    return {
        "key": settings.key(),
        "settings": settings.as_json(),
        "method_settings": dict(vars(settings.method_settings())),
        "failed": None if last is not None else "not finite",
        "last": last,
        "best": best,
        "label_accuracy": 0.6,
        "history": {"test_accuracy": [0.1, 0.2, last]},
        "images": {"train": 5000, "trusted": 800, "held_out": 200, "test": 5000},
        "hardware": {"device": "some GPU"},
        "versions": {"torch": "2.9"},
    }


def test_summary() -> None:
    found = summarise(
        [row("mslg", 0.7, 0.71, seed=0), row("mslg", 0.8, 0.79, seed=1), row("mslg", None, seed=2)]
    )
    assert (found.runs, found.failed) == (2, 1)
    assert found.last == pytest.approx(75)
    assert found.last_std == pytest.approx(10 / 2**0.5)
    assert found.best == pytest.approx(75)
    assert found.best_std == pytest.approx(8 / 2**0.5)
    assert found.label_accuracy == pytest.approx(60)


def test_ours_beside_the_papers() -> None:
    rows = [row("mslg", 0.80, 0.81, seed=s) for s in (0, 1)] + [
        row("cross_entropy", 0.71 + 0.02 * s, seed=s) for s in (0, 1)
    ]
    rows += [
        row("pencil", None),
        row("mslg", 0.9, noise="uniform", ratio=0.2),
        row("forward", 0.2, ratio=0.8),
    ]
    text = comparison_text(rows)
    lines = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    }
    assert lines["method"] == ["feature_dependent 40 %", "feature_dependent 80 %", "uniform 20 %"]
    assert lines["mslg"] == ["80.00 ± 0.00 / 81.00 ± 0.00 (n=2) (79.30)", "– (74.87)", "90.00 (n=1) (83.48)"]
    assert lines["cross_entropy"][0] == "72.00 ± 1.41 (n=2) (71.46)"
    assert lines["pencil"] == ["fail (75.08)", "– (fail)", "– (83.34)"]
    assert lines["mslg - cross_entropy"] == ["+8.00 ± 1.41 (+7.84)", "–", "–"]
    assert "arXiv 2007.05836" in text
    assert "some GPU" in text


def test_another_set_up_is_another_table() -> None:
    text = comparison_text(
        [row("mslg", 0.8), row("mslg", 0.7, epochs=3), row("mslg", 0.6, data="fashion_mnist")]
    )
    assert text.count("| method |") == 3
    assert text.count("2007.05836") == 2  # the paper has no Fashion-MNIST


def test_ablations() -> None:
    rows = [row("mslg", 0.5 + m / 10_000, trusted=m, held_out=m // 5) for m in (1000, 250)]
    text = ablation_text(rows, Vary.TRUSTED)
    assert "| trusted | 250 | 1000 |" in text
    assert "| mslg | 52.50 (n=1) | 60.00 (n=1) |" in text
    rows = [row("mslg", 0.5 + w / 100, options={"warmup_epochs": w}) for w in (3, 1)]
    assert "| mslg | 51.00 (n=1) | 53.00 (n=1) |" in ablation_text(rows, Vary.WARMUP_EPOCHS)


def test_sets_of_options_are_not_mixed() -> None:
    rows = [row("mslg", 0.5 + b / 100, seed=s, options={"beta": b}) for b in (10.0, 20.0) for s in (0, 1)]
    text = comparison_text([*rows, row("cross_entropy", 0.55, seed=0)])
    assert "| mslg (beta=10.0) | 60.00 ± 0.00 (n=2) (79.30) |" in text
    assert "| mslg (beta=20.0) | 70.00 ± 0.00 (n=2) (79.30) |" in text
    assert "| mslg (beta=20.0) - cross_entropy | +15.00 (+7.84) |" in text
    assert "cross_entropy" not in ablation_text([row("cross_entropy", 0.5)], Vary.WARMUP_EPOCHS)


def test_pictures(tmp_path: Path) -> None:
    rows = [row(method, 0.5, seed=seed) for method in METHODS for seed in (0, 1)] + [
        row("mslg", 0.4, noise="none")
    ]
    drawn = plot_curves(rows, tmp_path / "plots")
    assert [path.name for path in drawn] == ["cifar10-feature_dependent-40.svg", "cifar10-none.svg"]
    content = drawn[0].read_text()
    assert content.count("<!-- ") > 11
    assert all(f"{method} (n=2)" in content for method in METHODS)
    with pytest.raises(OutputError, match="already there"):
        plot_curves(rows, tmp_path / "plots")
    assert plot_curves(rows, tmp_path / "plots", force=True) == drawn
    assert drawn[0].read_text() == content
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(p.name for p in drawn)


def test_facts_of_the_paper() -> None:
    figures = paper_figures()
    cifar = [f for f in figures if f.data == "cifar10"]
    assert len(cifar) == 8 * 11
    assert {f.method for f in cifar} == set(METHODS)
    assert [
        f.accuracy for f in figures if f.setting == ("clothing1m", "real", None) and f.method == "mslg"
    ] == [76.02]
    assert [f.accuracy for f in cifar if f.setting == ("cifar10", "uniform", 0.4) and f.method == "mslg"] == [
        78.82
    ]
    assert sum(f.accuracy != f.accuracy for f in figures) == 6
