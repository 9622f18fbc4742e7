"""Grids of runs: which ones, in which order, and their execution, which skips finished runs.

A grid is the product of methods, noises, seeds and, for ablations, numbers of trusted images and warm-up lengths.
The order is seed by seed, and within a seed MSLG's cells first, then cross-entropy, then the rest: the results of a
grid that was stopped can be compared.
"""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.noise import Ties
from labelfix.benchmark.results import append_row, finished_keys
from labelfix.benchmark.settings import RunSettings, TrustedFrom
from labelfix.errors import SettingError
from labelfix.settings import Augment, LearningRateSchedule

__all__ = ["GRIDS", "Grid", "run_cells"]

FIRST = ("mslg", "cross_entropy")
RATIOS = (0.2, 0.4, 0.6, 0.8)
Noise = tuple[str, float | None]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A product of runs.

    Attributes
    ----------
    base
        The settings that all runs share, as keywords of `RunSettings`.
    methods, noises, seeds
        The factors of the product; a noise is its name and its ratio.
    options
        Settings of methods, by method.
    trusted, warmup_epochs
        For ablations: numbers of trusted images, with the held-out share of `base`, and lengths of the warm-up of
        MSLG, which other methods ignore. Empty: as in `base` and `options`.
    """

    base: Mapping[str, Any]
    methods: Sequence[str] = tuple(METHODS)
    noises: Sequence[Noise] = (("feature_dependent", 0.4), ("uniform", 0.4))
    seeds: Sequence[int] = (0, 1, 2)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trusted: Sequence[int] = ()
    warmup_epochs: Sequence[int] = ()

    def cells(self) -> list[RunSettings]:
        """Return the runs in their order, each once.

        Raises
        ------
        SettingError
            When a value is unknown or out of range, or options are given for a method that is not there.
        """
        unknown = [name for name in self.options if name not in METHODS]
        if unknown:
            raise SettingError(
                f"option of {unknown[0]!r}: no such method; expected one of {', '.join(METHODS)}."
            )
        rank = {name: number for number, name in enumerate(dict.fromkeys([*FIRST, *METHODS]))}
        methods = sorted(self.methods, key=lambda name: rank.get(name, 0))
        cells: dict[str, RunSettings] = {}
        for seed, method, (noise, ratio) in itertools.product(self.seeds, methods, self.noises):
            settings = RunSettings(
                **self.base,
                method=method,
                noise=noise,
                ratio=ratio,
                seed=seed,
                options=dict(self.options.get(method, {})),
            )
            cells |= {cell.key(): cell for cell in self._ablations(settings)}
        return list(cells.values())

    def _ablations(self, settings: RunSettings) -> Iterator[RunSettings]:
        held_out_share = settings.held_out / settings.trusted if settings.trusted else 0.0
        for trusted in self.trusted or [settings.trusted]:
            cell = replace(settings, trusted=trusted, held_out=round(held_out_share * trusted))
            if settings.method != "mslg" or not self.warmup_epochs:
                yield cell
                continue
            for warmup in self.warmup_epochs:
                yield replace(cell, options={**settings.options, "warmup_epochs": warmup})


GRIDS: dict[str, Grid] = {
    # The settings of the paper. Half of the test split measures the accuracy; of the other 5,000 images, 4,000 are
    # trusted and 1,000 choose the epoch. Ties go to the last class, as in the authors' code.
    "cifar10": Grid(
        base={
            "data": "cifar10",
            "network": "cifar-8",
            "images": None,
            "test": 5_000,
            "trusted": 5_000,
            "held_out": 1_000,
            "trusted_from": TrustedFrom.TEST,
            "epochs": 120,
            "learning_rate": 0.01,
            "learning_rate_schedule": LearningRateSchedule.STEP,
            "augment": Augment.CROP_FLIP,
            "ties": Ties.LAST,
        },
        noises=[(noise, ratio) for noise in ("feature_dependent", "uniform") for ratio in RATIOS],
        seeds=(0,),
    ),
    # For a CPU: a small network on a twelfth of Fashion-MNIST. Options differ from the papers' where others were
    # better on unused training images (PENCIL) or save time (MLNT).
    "fashion_mnist": Grid(
        base={"epochs": 20}, options={"pencil": {"label_rate": 3000.0}, "mlnt": {"synthetic_sets": 2}}
    ),
}
"""Grids by name."""


def run_cells(
    cells: Sequence[RunSettings],
    out: Path,
    *,
    folder: Path,
    device: str = "auto",
    threads: int | None = None,
    jobs: int = 1,
    stop_after: float | None = None,
    report: Report = lambda row: None,
) -> int:
    """Run the cells that `out` does not hold yet, append a row for each, and return how many were run.

    Parameters
    ----------
    threads
        Threads of torch in each process; None takes torch's default.
    jobs
        Runs at a time, each in a separate process if above 1; several small runs fill a GPU better than one.
    stop_after
        Minutes after which no run is started.
    report
        Receives every new row.

    Raises
    ------
    LabelfixError
        From a run whose settings or data are at fault; the rows of finished runs stay.
    """
    finished = finished_keys(out)
    waiting = [cell for cell in cells if cell.key() not in finished]
    deadline = time.monotonic() + 60 * stop_after if stop_after is not None else None
    count = 0
    for row in _rows(waiting, (str(folder), device, threads), jobs, deadline):
        append_row(out, row)
        report(row)
        count += 1
    return count


def _rows(
    cells: list[RunSettings], options: tuple[str, str, int | None], jobs: int, deadline: float | None
) -> Iterator[dict[str, Any]]:
    """Yield the row of every finished run; `options` are folder, device and threads of `_run_one`."""

    def may_start() -> bool:
        return deadline is None or time.monotonic() < deadline

    if jobs <= 1:
        for cell in cells:
            if may_start():
                yield _run_one(cell, *options)
        return
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        queue, running = iter(cells), set[Future[dict[str, Any]]]()
        try:
            while True:
                for cell in itertools.islice(queue, jobs - len(running) if may_start() else 0):
                    running.add(pool.submit(_run_one, cell, *options))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_one(cell: RunSettings, folder: str, device: str, threads: int | None) -> dict[str, Any]:
    import torch

    from labelfix.benchmark.runs import execute

    if threads is not None:
        torch.set_num_threads(threads)
    return execute(cell, folder=Path(folder), device=device)
