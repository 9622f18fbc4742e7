"""Grids: which runs in which order, and that nothing runs twice."""

from pathlib import Path

import pytest
from test_benchmark_runs import folder  # noqa: F401

from labelfix.benchmark.grid import GRIDS, Grid, run_cells
from labelfix.benchmark.methods import METHODS
from labelfix.benchmark.results import finished_keys, read_rows
from labelfix.errors import InputError, SettingError

TINY = {"images": 60, "test": 30, "trusted": 40, "held_out": 10, "epochs": 1, "batch_size": 32}


def test_the_paper_grid_begins_with_the_cells_of_mslg_then_cross_entropy() -> None:
    cells = GRIDS["cifar10"].cells()
    assert len(cells) == 88
    assert [c.method for c in cells[:16]] == ["mslg"] * 8 + ["cross_entropy"] * 8
    assert {c.method for c in cells} == set(METHODS)
    assert len({(c.noise, c.ratio) for c in cells[:8]}) == 8
    first = cells[0]
    assert (first.images, first.epochs, first.network, first.learning_rate) == (None, 120, "cifar-8", 0.01)
    assert (first.trusted - first.held_out, first.test, first.trusted_from) == (4000, 5000, "test")
    settings = first.method_settings()
    assert (settings.alpha, settings.beta, settings.reduction) == (0.5, 4000, "mean")  # type: ignore[attr-defined]


def test_seeds_are_outermost() -> None:
    cells = GRIDS["fashion_mnist"].cells()
    assert len(cells) == 66
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    assert len({c.key() for c in cells}) == 66


def test_ablations() -> None:
    grid = Grid(base=TINY, methods=["mslg", "cross_entropy"], noises=[("uniform", 0.4)], seeds=[0],
                trusted=[20, 40], warmup_epochs=[0, 1])  # fmt: skip
    found = [(c.method, c.trusted, c.held_out, c.options.get("warmup_epochs")) for c in grid.cells()]
    assert found == [
        ("mslg", 20, 5, 0), ("mslg", 20, 5, 1), ("mslg", 40, 10, 0), ("mslg", 40, 10, 1),
        ("cross_entropy", 20, 5, None), ("cross_entropy", 40, 10, None),
    ]  # fmt: skip


def test_bad_grids() -> None:
    with pytest.raises(SettingError, match="option of 'mix'"):
        Grid(base=TINY, options={"mix": {}}).cells()
    with pytest.raises(SettingError, match="method: got 'mix'"):
        Grid(base=TINY, methods=["mix"]).cells()


def test_a_grid_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    cells = Grid(
        base=TINY, methods=["cross_entropy", "pencil"], noises=[("uniform", 0.4)], seeds=[0, 1]
    ).cells()
    out = tmp_path / "rows.jsonl"
    seen: list[str] = []

    def stop_after_two(row: dict) -> None:
        seen.append(row["key"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, out, folder=folder, device="cpu", report=stop_after_two)
    assert finished_keys(out) == set(seen)
    assert run_cells(cells, out, folder=folder, device="cpu") == 2
    assert run_cells(cells, out, folder=folder, device="cpu") == 0
    assert [row["key"] for row in read_rows(out)] == [cell.key() for cell in cells]
    assert len(out.read_text().splitlines()) == 4


def test_no_run_starts_after_the_time(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    cells = Grid(base=TINY, methods=["cross_entropy"], seeds=[0]).cells()
    assert run_cells(cells, tmp_path / "rows.jsonl", folder=folder, device="cpu", stop_after=0.0) == 0


def test_runs_side_by_side_are_the_same(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    cells = Grid(
        base=TINY, methods=["cross_entropy", "mslg"], noises=[("uniform", 0.4)], seeds=[0, 1]
    ).cells()
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    run_cells(cells, one, folder=folder, device="cpu", threads=1)
    assert run_cells(cells, two, folder=folder, device="cpu", threads=1, jobs=2) == 4
    alone = {row["key"]: row["history"]["train_loss"] for row in read_rows(one)}
    assert {row["key"]: row["history"]["train_loss"] for row in read_rows(two)} == alone


def test_faults_in_a_process_of_its_own_are_ours_to_read(tmp_path: Path) -> None:
    cells = Grid(base=TINY, methods=["cross_entropy"], seeds=[0]).cells()
    with pytest.raises(InputError, match="holds no Fashion-MNIST"):
        run_cells(cells, tmp_path / "rows.jsonl", folder=tmp_path, device="cpu", jobs=2)
