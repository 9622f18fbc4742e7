"""Results next to the paper's: mean and standard deviation over seeds, one table per data set and set-up.

A table holds runs that differ only in method, options of the method, noise, ratio and seed. A method with several
sets of options has a line for each.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.paper import SOURCE, paper_figures

__all__ = [
    "Column",
    "Summary",
    "Vary",
    "ablation_text",
    "comparison_text",
    "setup_of",
    "summarise",
    "variants",
]

Row = dict[str, Any]
Column = tuple[str, float | None]
_VARYING = ("method", "noise", "ratio", "seed", "options")


class Vary(StrEnum):
    """The setting that an ablation varies."""

    TRUSTED = "trusted"
    WARMUP_EPOCHS = "warmup_epochs"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The results of one method under one noise, in percent.

    Attributes
    ----------
    runs, failed
        Finished runs, and runs whose loss was not finite.
    last, best
        Means of the test accuracy after the last epoch, and in the epoch that held-out trusted images chose.
    last_std, best_std
        Standard deviations over the runs (n - 1), NaN with a single run.
    label_accuracy
        Mean share of right labels in the end, NaN where unknown.
    """

    runs: int
    failed: int
    last: float
    last_std: float
    best: float
    best_std: float
    label_accuracy: float


def summarise(rows: Iterable[Row]) -> Summary:
    """Return the summary of runs that differ in their seed."""
    rows = list(rows)
    finished = [row for row in rows if not row["failed"]]
    last, last_std = _mean_and_std([row["last"] for row in finished])
    best, best_std = _mean_and_std([row["best"] for row in finished])
    return Summary(
        runs=len(finished),
        failed=len(rows) - len(finished),
        last=last,
        last_std=last_std,
        best=best,
        best_std=best_std,
        label_accuracy=_mean_and_std([row["label_accuracy"] for row in finished])[0],
    )


def setup_of(row: Row, *, without: Sequence[str] = _VARYING) -> str:
    """Return the settings that a run shares with those of its table, as JSON."""
    return json.dumps({k: v for k, v in row["settings"].items() if k not in without}, sort_keys=True)


def comparison_text(rows: Sequence[Row]) -> str:
    """Return one Markdown table per set-up: methods by noises, with gains over cross-entropy."""
    parts = []
    for setup, group in _grouped(rows, setup_of).items():
        parts += [_caption(json.loads(setup), group), _comparison(group)]
    return "\n\n".join(parts)


def ablation_text(rows: Sequence[Row], vary: Vary) -> str:
    """Return one Markdown table per set-up and noise: methods by the values of the setting that varies."""

    def key(row: Row) -> str:
        without = ("method", "seed", "options", "trusted", "held_out")
        return setup_of(row, without=without if vary is Vary.TRUSTED else _VARYING[:1] + _VARYING[3:])

    if vary is Vary.WARMUP_EPOCHS:  # other runs have no such setting
        rows = [row for row in rows if row["method_settings"].get("warmup_epochs") is not None]
    parts = []
    for setup, group in _grouped(rows, key).items():
        columns = sorted({_varied(row, vary) for row in group})
        lines = [_header(vary, [f"{value:g}" for value in columns])]
        for name, _, method_rows in variants(group, ignored=(vary,)):
            cells = [[row for row in method_rows if _varied(row, vary) == value] for value in columns]
            lines.append(_line(name, [_cell_text(cell) for cell in cells]))
        settings = json.loads(setup)
        title = f"{settings['noise']} {_percent(settings['ratio'])}".strip()
        parts += [f"{_caption(settings, group)} {title}.", "\n".join(lines)]
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------------- the parts


def _comparison(rows: Sequence[Row]) -> str:
    data = rows[0]["settings"]["data"]
    columns: list[Column] = sorted({_column(row) for row in rows}, key=lambda c: (c[0], c[1] or 0.0))
    paper = {(f.method, (f.noise, f.ratio)): f.accuracy for f in paper_figures() if f.data == data}
    with_paper = any(column in {c for _, c in paper} for column in columns)
    names = [f"{noise} {_percent(ratio)}".strip() for noise, ratio in columns]
    lines = [_header("method", names)]
    baseline: list[Row] = []
    for name, method, method_rows in variants(rows):
        cells = []
        for column in columns:
            cell = _cell_text([row for row in method_rows if _column(row) == column])
            cells.append(f"{cell} ({_published(paper.get((method, column)))})" if with_paper else cell)
        lines.append(_line(name, cells))
        baseline = method_rows if method == "cross_entropy" else baseline
    for name, method, method_rows in variants(rows):
        if method == "mslg" and baseline:
            gains = [_gain(method_rows, baseline, paper, column, with_paper) for column in columns]
            lines.append(_line(f"{name} - cross_entropy", gains))
    caption = (
        "Test accuracy in % after the last epoch / in the epoch chosen by held-out trusted images, mean ± std"
    )
    return "\n".join(lines) + f"\n\n{caption}" + (f"; in brackets {SOURCE}." if with_paper else ".")


def _gain(
    rows: Sequence[Row],
    baseline: Sequence[Row],
    paper: dict[tuple[str, Column], float],
    column: Column,
    with_paper: bool,
) -> str:
    """Return the gain of MSLG over cross-entropy in percentage points, paired by seed."""
    ours, theirs = (
        {r["settings"]["seed"]: r["last"] for r in each if _column(r) == column and not r["failed"]}
        for each in (rows, baseline)
    )
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return "–"
    mean, std = _mean_and_std([ours[seed] - theirs[seed] for seed in both])
    text = f"{mean:+.2f}" + ("" if math.isnan(std) else f" ± {std:.2f}")
    published = paper.get(("mslg", column), math.nan) - paper.get(("cross_entropy", column), math.nan)
    return f"{text} ({'–' if math.isnan(published) else f'{published:+.2f}'})" if with_paper else text


def _cell_text(rows: Sequence[Row]) -> str:
    if not rows:
        return "–"
    summary = summarise(rows)
    if not summary.runs:
        return "fail"
    last, best = _with_std(summary.last, summary.last_std), _with_std(summary.best, summary.best_std)
    failed = f", {summary.failed} failed" if summary.failed else ""
    return last + ("" if math.isnan(summary.best) else f" / {best}") + f" (n={summary.runs}{failed})"


def _with_std(mean: float, std: float) -> str:
    return f"{mean:.2f}" + ("" if math.isnan(std) else f" ± {std:.2f}")


def _published(accuracy: float | None) -> str:
    return "–" if accuracy is None else "fail" if math.isnan(accuracy) else f"{accuracy:.2f}"


def _mean_and_std(shares: Sequence[float | None]) -> tuple[float, float]:
    """Return mean and standard deviation in percent of the shares that are not None."""
    values = [100 * share for share in shares if share is not None]
    if not values:
        return math.nan, math.nan
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _grouped(rows: Iterable[Any], key: Any) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _column(row: Row) -> Column:
    return row["settings"]["noise"], row["settings"]["ratio"]


def _varied(row: Row, vary: Vary) -> float:
    if vary is Vary.TRUSTED:
        return row["settings"]["trusted"]
    return row["method_settings"]["warmup_epochs"]


def variants(rows: Sequence[Row], *, ignored: Sequence[str] = ()) -> list[tuple[str, str, list[Row]]]:
    """Return (name, method, rows) for every method with every set of its options, in the order of `METHODS`.

    The name lists the options that differ, where a method occurs with several sets; `ignored` ones do not count.
    """

    def options(row: Row) -> dict[str, Any]:
        return {name: value for name, value in row["method_settings"].items() if name not in ignored}

    named_rows = []
    for method in METHODS:
        method_rows = [row for row in rows if row["settings"]["method"] == method]
        if not method_rows:
            continue
        differing = [
            name
            for name in options(method_rows[0])
            if len({str(row["method_settings"][name]) for row in method_rows}) > 1
        ]
        for group in _grouped(method_rows, lambda row: json.dumps(options(row), sort_keys=True)).values():
            listed = ", ".join(f"{name}={group[0]['method_settings'][name]}" for name in differing)
            named_rows.append((f"{method} ({listed})" if listed else method, method, group))
    return named_rows


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * ratio:g} %"


def _header(first: str, names: Sequence[str]) -> str:
    return _line(first, names) + "\n|" + "---|" * (len(names) + 1)


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | " + " | ".join(cells) + " |"


def _caption(setup: dict[str, Any], rows: Sequence[Row]) -> str:
    hardware = sorted({row["hardware"]["device"] for row in rows})
    versions = sorted({row["versions"]["torch"] for row in rows})
    images = rows[0]["images"]
    return (
        f"{setup['data']}: {images['train']:,} training images, {images['trusted']:,} trusted, "
        f"{images['test']:,} of the {setup['measured_on']} split measured; network {setup['network']}, "
        f"{setup['epochs']} epochs, learning rate {setup['learning_rate']:g} "
        f"({setup['learning_rate_schedule']}); torch {', '.join(versions)}, "
        f"{', '.join(hardware)}."
    )
