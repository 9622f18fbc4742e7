"""``labelfix bench``: measurements that anyone can repeat."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from labelfix_cli.bench_runs import list_, run, table
from labelfix_cli.outcome import ends_cleanly

__all__ = ["bench"]

bench = typer.Typer(
    no_args_is_help=True, help="Compare methods on noisy labels; measure speed and label quality."
)


@bench.callback()
def options() -> None:
    """Compare methods on noisy labels; measure speed and label quality."""


bench.command("list")(list_)
bench.command()(run)
bench.command()(table)


@bench.command()
@ends_cleanly
def speed(
    network: Annotated[
        list[str] | None,
        typer.Option(help="cifar-8 or resnet18; may be given more than once.  [default: both]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Steps of each method that count.")] = 20,
    batch_size: Annotated[int, typer.Option(min=2, help="Rows per step.")] = 128,
    trusted: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Trusted rows per step (fast: 64 at most).  [default: 32 and 128]"),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch.  [default: torch's own]")
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Pass the batch through torch.compile, in all methods but reference."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Milliseconds per step of cross-entropy and of MSLG's schedules, interleaved in one run."""
    import time

    import torch

    from labelfix.benchmark.speed import NETWORKS, cpu_name, measure_speed

    if threads is not None:
        torch.set_num_threads(threads)
    rows = measure_speed(
        network or tuple(NETWORKS),
        rounds=rounds,
        batch_size=batch_size,
        trusted_batch_sizes=trusted or (32, 128),
        device=device,
        dtype=dtype,
        compiled=compiled,
    )
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else cpu_name()
    typer.echo(
        f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {hardware}, {torch.get_num_threads()} threads, "
        f"{dtype}{', compiled' if compiled else ''}, batch {batch_size}, medians (quartiles) over {rounds} steps"
    )
    typer.echo(f"{'network':10}{'method':15}{'trusted':>8}{'ms per step':>26}{'ratio':>8}{'peak MiB':>10}")
    for row in rows:
        spread = f"{row.median_ms:.1f} ({row.low_ms:.1f} to {row.high_ms:.1f})"
        typer.echo(
            f"{row.network:10}{row.method:15}{row.trusted_batch_size:8}{spread:>26}{row.ratio:7.2f}x"
            f"{row.peak_mib:10.0f}"
        )


@bench.command()
@ends_cleanly
def labels(
    rows: Annotated[int, typer.Option(min=100, help="Rows of each data set.")] = 10_000,
    draws: Annotated[int, typer.Option(min=1, help="Paired draws of the trusted rows.")] = 3,
    trusted: Annotated[int, typer.Option(min=10, help="Trusted rows of each draw.")] = 1000,
    only: Annotated[
        list[str] | None, typer.Option(help="Data set by name; may be given more than once.  [default: all]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Results file: draws are added, those it has are skipped."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every draw as a JSON line.")] = False,
) -> None:
    """Verdicts next to cleanlab (on three kinds of probabilities), a probe, forward correction, MSLG and nothing.

    Reads the data sets from the folder that LABELFIX_DATA names. Prints mean and standard error over draws. Every
    draw covers all data sets before the next begins, so that a stopped run is complete with fewer draws.
    """
    from labelfix.benchmark.labels import METHODS, SUITE, compare, read_task
    from labelfix.benchmark.results import append_row, read_rows
    from labelfix.errors import InputError
    from labelfix.runs.manifest import as_json as as_plain
    from labelfix.system.progress import TerminalProgress

    if "LABELFIX_DATA" not in os.environ:
        raise InputError("LABELFIX_DATA: is not set; expected the folder of the benchmark data. Set it.")
    names = list(only or SUITE)
    finished = [
        result
        for result in (read_rows(out) if out is not None and out.exists() else [])
        if (result["rows"], result["trusted"]) == (rows, trusted)
        and result["data"] in names
        and result["draw"] < draws
        and tuple(row["method"] for row in result["methods"])
        == METHODS  # not of a version with other methods
    ]
    finished_draws = {(result["data"], result["draw"]) for result in finished}
    tasks = {}
    for draw, name in [(draw, name) for draw in range(draws) for name in names]:
        if (name, draw) in finished_draws:
            continue
        if name not in tasks:
            tasks[name] = read_task(name, Path(os.environ["LABELFIX_DATA"]), rows, TerminalProgress())
        settings = {"data": name, "draw": draw, "rows": rows, "trusted": trusted}
        key = f"labels {name} {draw} {rows} {trusted}"
        method_rows = [
            {**settings, "method": method, **as_plain(figures)}
            for method, figures in compare(tasks[name], trusted=trusted, draw=draw)
        ]
        if out is not None:
            append_row(out, {"key": key, **settings, "methods": method_rows})
        if as_json:
            for row in method_rows:
                typer.echo(json.dumps(row))
        finished.append({**settings, "methods": method_rows})
    if not as_json:
        for name in names:
            _show_labels(name, [row for r in finished if r["data"] == name for row in r["methods"]])
        _show_average([row for result in finished for row in result["methods"]])


def _show_average(rows: list[dict[str, Any]]) -> None:
    """Print every method's mean over the data sets that have noise, and labelfix next to each cleanlab."""
    from labelfix.benchmark.labels import METHODS, means_over_data

    means = means_over_data(rows)
    if not means:
        return
    num_noisy = len({row["data"] for row in rows if row["AP"] is not None})
    typer.echo(f"\nall {num_noisy} with noise" if num_noisy > 1 else "\nnext to cleanlab")
    columns = ("AP", "F1", "accuracy", "NLL", "ECE")
    typer.echo(f"{'mean over data sets':<28}" + "".join(f"{column:>16}" for column in columns))
    for method in METHODS:
        typer.echo(f"{method:<28}" + "".join(f"{means[method][column]:>16.3f}" for column in columns))
    ours = means["labelfix"]
    for method in (name for name in METHODS if name.startswith("cleanlab")):
        theirs = means[method]
        fewer = 1 - (1 - ours["accuracy"]) / (1 - theirs["accuracy"])
        typer.echo(
            f"labelfix - {method}: AP {ours['AP'] - theirs['AP']:+.3f}, F1 {ours['F1'] - theirs['F1']:+.3f}, "
            f"{fewer:.0%} fewer wrong labels left"
        )


def _show_labels(name: str, rows: list[dict[str, Any]]) -> None:
    from statistics import mean, stdev

    from labelfix.benchmark.labels import FIGURES, METHODS

    draws = len({row["draw"] for row in rows})
    typer.echo(f"\n{name}: {rows[0]['rows']:,} rows, {rows[0]['trusted']:,} trusted, {draws} paired draws")
    typer.echo(f"{'mean ± standard error':<28}" + "".join(f"{column:>16}" for column in FIGURES))
    for method in METHODS:
        cells = []
        for column in FIGURES:
            values = [row[column] for row in rows if row["method"] == method]
            if None in values:  # no label is wrong, so there is nothing to rank
                cells.append("–")
                continue
            error = f" ±{stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{error}")
        typer.echo(f"{method:<28}" + "".join(f"{cell:>16}" for cell in cells))
