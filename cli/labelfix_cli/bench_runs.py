"""``labelfix bench list``, ``run`` and ``table``: the methods of the paper in one harness."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from labelfix_cli.outcome import ends_cleanly, when_interrupted

__all__ = ["list_", "run", "table"]

Many = list[str] | None
Data = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data sets.  [default: LABELFIX_DATA]", show_default=False),
]


@ends_cleanly
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False,
) -> None:
    """Name the methods with their settings, the data sets, the noises, the networks and the grids."""
    from dataclasses import asdict

    from labelfix.benchmark.data_sets import DATA_SETS
    from labelfix.benchmark.grid import GRIDS
    from labelfix.benchmark.methods import METHODS
    from labelfix.benchmark.networks import NAMED_NETWORKS
    from labelfix.benchmark.noise import NOISES

    methods = {name: asdict(kind.Settings()) for name, kind in METHODS.items()}
    others = {
        "data sets": list(DATA_SETS),
        "noises": ["none", *NOISES, "real", "aggre", "random1"],
        "networks": list(NAMED_NETWORKS),
        "grids": {name: len(grid.cells()) for name, grid in GRIDS.items()},
    }
    if as_json:
        typer.echo(json.dumps({"methods": methods, **others}, indent=2))
        return
    typer.echo("methods")
    for name, settings in methods.items():
        typer.echo(
            f"  {name:20}" + ", ".join(f"{option}={_short(value)}" for option, value in settings.items())
        )
    typer.echo("data sets   " + ", ".join(DATA_SETS))
    typer.echo("noises      " + ", ".join([*NOISES, "none", "real (as the data set comes)"]))
    typer.echo("            human labels of CIFAR-10N by their names (aggre, random1, …)")
    typer.echo("networks    " + ", ".join(NAMED_NETWORKS) + ", any model of timm")
    typer.echo("grids       " + ", ".join(f"{name} ({len(g.cells())} runs)" for name, g in GRIDS.items()))


@ends_cleanly
def run(
    out: Annotated[Path, typer.Option(help="Results file (JSON lines); what it holds is not run again.")],
    grid: Annotated[
        str, typer.Option(help="Named set of runs, changed by the options below.")
    ] = "fashion_mnist",
    method: Annotated[Many, typer.Option(help="Method; may be repeated.  [default: all of the grid]")] = None,
    noise: Annotated[
        Many, typer.Option(help="Noise as NAME or NAME:PERCENT (uniform:40); may be repeated.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Seed; may be repeated.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set.")] = None,
    network: Annotated[str | None, typer.Option(help="cifar-8, small, or any timm model.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Local weights for a timm model.")] = None,
    side: Annotated[int | None, typer.Option(help="Pixels per side of image files.")] = None,
    images: Annotated[int | None, typer.Option(help="Training images; 0 takes all.")] = None,
    test: Annotated[int | None, typer.Option(help="Images that are measured on; 0 takes all.")] = None,
    trusted: Annotated[
        list[int] | None, typer.Option(help="Trusted images; repeat to compare numbers of them.")
    ] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Of the trusted images, how many choose the epoch alone.")
    ] = None,
    trusted_from: Annotated[str | None, typer.Option(help="train, test or own.")] = None,
    measured_on: Annotated[
        str | None, typer.Option(help="test, or train: unused training images, to choose settings by.")
    ] = None,
    ties: Annotated[str | None, typer.Option(help="random or last: classes with equal scores.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs.")] = None,
    warmup_epochs: Annotated[
        list[int] | None, typer.Option(help="MSLG's warm-up; repeat to compare lengths.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Rows per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="First learning rate.")] = None,
    learning_rate_schedule: Annotated[str | None, typer.Option(help="cosine or step.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, crop or crop-flip.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    option: Annotated[Many, typer.Option(help="METHOD.NAME=VALUE; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch per run.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each in its own process.")] = 1,
    stop_after: Annotated[
        float | None, typer.Option(min=0, help="Minutes after which no run is started.")
    ] = None,
    data_folder: Data = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Run methods on noisy labels and append one row per run; the same command goes on where it stopped."""
    from labelfix.benchmark.grid import run_cells
    from labelfix.benchmark.results import finished_keys

    base = {
        "data": data, "network": network, "checkpoint": checkpoint, "side": side, "images": images, "test": test,
        "held_out": held_out, "trusted_from": trusted_from, "measured_on": measured_on, "ties": ties,
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "learning_rate_schedule": learning_rate_schedule, "augment": augment, "dtype": dtype,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in base.items() if value is not None}
    changes |= {name: None for name in ("images", "test") if changes.get(name) == 0}
    cells = _changed_grid(grid, changes, method, noise, seed, trusted, warmup_epochs, option).cells()
    left = len({cell.key() for cell in cells} - finished_keys(out))
    if not quiet:
        typer.echo(f"{len(cells)} runs, {len(cells) - left} of them in {out} already", err=True)
    with when_interrupted(lambda: f"Finished runs are in {out}: the same command goes on behind them."):
        count = run_cells(
            cells,
            out,
            folder=_folder(data_folder),
            device=device,
            threads=threads,
            jobs=jobs,
            stop_after=stop_after,
            report=(lambda row: None) if quiet else _report,
        )
    if not quiet:
        typer.echo(f"{count} runs added, {left - count} left: {out}", err=True)


@ends_cleanly
def table(
    results: Annotated[list[Path], typer.Argument(help="Results files of labelfix bench run.")],
    by: Annotated[
        str | None, typer.Option(help="trusted or warmup_epochs: compare these instead of noises.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for pictures of test accuracy over epochs (SVG).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures.")] = False,
) -> None:
    """Print results as Markdown, mean and standard deviation over seeds, next to the paper's figures."""
    from labelfix.benchmark.plot import plot_curves
    from labelfix.benchmark.results import read_rows
    from labelfix.benchmark.table import Vary, ablation_text, comparison_text
    from labelfix.errors import InputError, SettingError

    missing = [
        f"{path}: does not exist; expected a file of labelfix bench run."
        for path in results
        if not path.exists()
    ]
    if missing:
        raise InputError(missing)
    if by is not None and by not in list(Vary):
        raise SettingError(f"--by: got {by!r}; expected one of {', '.join(Vary)}.")
    rows = [row for path in results for row in read_rows(path)]
    if not rows:
        raise InputError(
            f"{', '.join(map(str, results))}: no finished run in it. Wait for labelfix bench run."
        )
    typer.echo(ablation_text(rows, Vary(by)) if by else comparison_text(rows))
    if plots is not None:
        for path in plot_curves(rows, plots, force=force):
            typer.echo(f"drawn: {path}", err=True)


def _changed_grid(
    name: str,
    base: dict[str, Any],
    methods: Many,
    noises: Many,
    seeds: list[int] | None,
    trusted: list[int] | None,
    warmup_epochs: list[int] | None,
    options: Many,
) -> Any:
    """Return the named grid with the changes of the command line."""
    from dataclasses import replace

    from labelfix.benchmark.grid import GRIDS
    from labelfix.errors import SettingError

    if name not in GRIDS:
        raise SettingError(f"--grid: got {name!r}; expected one of {', '.join(GRIDS)}.")
    grid = GRIDS[name]
    merged = {method: dict(values) for method, values in grid.options.items()}
    for text in options or ():
        method, option, value = _parse_option(text)
        merged.setdefault(method, {})[option] = value
    changes: dict[str, Any] = {"base": {**grid.base, **base}, "options": merged}
    if trusted is not None and len(trusted) == 1:
        changes["base"]["trusted"] = trusted[0]
    elif trusted is not None:
        changes["trusted"] = trusted
    if methods is not None:
        changes["methods"] = methods
    if noises is not None:
        changes["noises"] = [_parse_noise(text) for text in noises]
    if seeds is not None:
        changes["seeds"] = seeds
    if warmup_epochs is not None:
        changes["warmup_epochs"] = warmup_epochs
    return replace(grid, **changes)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parse_noise(text: str) -> tuple[str, float | None]:
    from labelfix.errors import SettingError

    name, colon, percent = text.partition(":")
    try:
        return name, float(percent) / 100 if colon else None
    except ValueError:
        raise SettingError(
            f"--noise: got {text!r}; expected NAME or NAME:PERCENT, as in uniform:40."
        ) from None


def _parse_option(text: str) -> tuple[str, str, Any]:
    from labelfix.errors import SettingError

    option, equals, value = text.partition("=")
    method, dot, name = option.partition(".")
    if not (equals and dot):
        raise SettingError(f"--option: got {text!r}; expected METHOD.NAME=VALUE, as in mslg.alpha=0.5.")
    try:
        return method, name, json.loads(value)
    except ValueError:
        return method, name, value


def _folder(given: Path | None) -> Path:
    from labelfix.errors import InputError

    if given is None and not os.environ.get("LABELFIX_DATA"):
        raise InputError(
            "--data-folder: not given, and LABELFIX_DATA is not set. Give the folder of the data sets."
        )
    return given or Path(os.environ["LABELFIX_DATA"])


def _report(row: dict[str, Any]) -> None:
    settings = row["settings"]
    ratio = "" if settings["ratio"] is None else f" {100 * settings['ratio']:g} %"
    if row["failed"]:
        outcome = f"failed: {row['failed']}"
    else:
        best = "" if row["best"] is None else f", {row['best']:.2%} in the chosen epoch {row['best_epoch']}"
        labels = "" if row["label_accuracy"] is None else f", labels {row['label_accuracy']:.1%} right"
        outcome = f"test accuracy {row['last']:.2%}{best}{labels}"
    typer.echo(
        f"{settings['method']:19} {settings['data']} {settings['noise']}{ratio} seed {settings['seed']}: "
        f"{outcome}, {row['seconds']:.0f} s",
        err=True,
    )
