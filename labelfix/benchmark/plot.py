"""Test accuracy over epochs, one picture per data set, noise and set-up. Needs matplotlib (``labelfix[bench]``)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.benchmark.table import setup_of, variants
from labelfix.errors import InputError, OutputError
from labelfix.system.files import write_new_file

__all__ = ["plot_curves"]

Row = dict[str, Any]


def plot_curves(rows: Sequence[Row], folder: Path, *, force: bool = False) -> list[Path]:
    """Plot mean test accuracies with a band of one standard deviation, as SVG, and return the files.

    Raises
    ------
    InputError
        When matplotlib is not installed.
    OutputError
        When a picture exists and `force` is false, or cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError("plots: matplotlib is not installed. Install labelfix[bench].") from error
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if not row["failed"]:
            groups.setdefault((_name(row), setup_of(row)), []).append(row)
    several_setups = len({setup for _, setup in groups}) > 1
    pictures = {
        folder / f"{name}{'-' + _digest(setup) if several_setups else ''}.svg": group
        for (name, setup), group in groups.items()
    }
    present = [str(path) for path in pictures if path.exists()]
    if present and not force:
        raise OutputError(
            f"{', '.join(present)}: already there. Choose another folder, or replace with --force."
        )
    # a fixed salt and no date: equal results give equal bytes
    with mpl.rc_context({"svg.hashsalt": "labelfix", "font.size": 9}):
        for path, group in pictures.items():
            _plot(group, path, force=force)
    return list(pictures)


def _plot(rows: Sequence[Row], path: Path, *, force: bool) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, method, method_rows) in enumerate(variants(rows)):
        curves = [row["history"]["test_accuracy"] for row in method_rows]
        length = min(map(len, curves))
        values = 100 * np.array([curve[:length] for curve in curves])
        mean, std, epochs = values.mean(0), values.std(0), np.arange(1, length + 1)
        style = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        (line,) = axes.plot(epochs, mean, label=f"{name} (n={len(curves)})", **style)  # type: ignore[arg-type]
        if method == "mslg":
            line.set_linewidth(2.5)
        axes.fill_between(epochs, mean - std, mean + std, alpha=0.12, color=style["color"], linewidth=0)
    first = rows[0]["settings"]
    axes.set(xlabel="epoch", ylabel="test accuracy (%)", title=_name(rows[0]).replace("-", ", "))
    axes.margins(x=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, title=f"{first['network']}")
    FigureCanvasSVG(figure)
    write_new_file(
        path,
        lambda temporary: figure.savefig(temporary, format="svg", metadata={"Date": None}),
        force=force,
    )


def _name(row: Row) -> str:
    settings = row["settings"]
    ratio = "" if settings["ratio"] is None else f"-{100 * settings['ratio']:g}"
    return f"{settings['data']}-{settings['noise']}{ratio}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
