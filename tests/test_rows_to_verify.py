"""`labelfix next`: what to verify next, and the way back through --trusted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import listed_ids
from pyarrow import csv

from labelfix.errors import InputError, OutputError, SettingError
from labelfix.inputs.draw_columns import image_ids
from labelfix.risk_control.rows_to_verify import plan_verification, write_verification

N = 3000


def soft_labels(seed: int = 0, trusted: int = 300) -> pa.Table:
    rng = np.random.default_rng(seed)
    confidence = 1 - 0.5 * rng.random(N) ** 3
    known = np.zeros(N, bool)
    known[rng.permutation(N)[:trusted]] = True
    issue = rng.random(N) < 0.2
    return pa.table(
        {
            "image": [f"{i:04d}.png" for i in range(N)],
            "given_label": ["a"] * N,
            "predicted_label": np.where(issue, "b", "a"),
            "confidence": confidence.astype(np.float32),
            "is_label_issue": issue,
            "trusted_label": pa.array(["a"] * N, mask=~known),
        }
    )


def plan(table: pa.Table, count: int = 100, seed: int = 0):
    return plan_verification(table, count, max_fix_error=0.05, coverage=0.95, seed=seed)


def test_most_rows_are_from_the_most_confident_fixes() -> None:
    table = soft_labels()
    found = plan(table)
    assert found.table.num_rows == 100
    assert 80 <= found.fixes_drawn < 100
    rows = table.filter(pa.compute.is_null(table["trusted_label"]))
    ranked = rows.filter(rows["is_label_issue"]).sort_by([("confidence", "descending")])
    best = set(ranked["image"].to_pylist()[: found.fixes])
    assert sum(name in best for name in found.table["image"].to_pylist()) == found.fixes_drawn


def test_the_fixes_aimed_at_are_several_times_those_that_are_verified() -> None:
    """However sure the best are: verifying most of a small set would leave hardly any fix to promise."""
    table = soft_labels()
    halved = pa.array(0.5 + 0.5 * table["confidence"].to_numpy())
    assert plan(table.set_column(3, "confidence", halved), 60).fixes >= 3 * 56  # of the 60, four are aside
    sure = table.set_column(3, "confidence", pa.array(np.full(N, 0.999, np.float32)))
    assert plan(sure, 60).fixes > 400  # all of them can be promised
    doubtful = table.set_column(3, "confidence", pa.array(np.full(N, 0.6, np.float32)))
    assert plan(doubtful, 60).power == pytest.approx(0.0)


def test_more_rows_to_verify_do_not_make_a_promise_unlikely() -> None:
    """Three times as many fixes as are drawn may be more than can be promised; fewer are aimed at then."""
    rng = np.random.default_rng(0)
    issue = np.arange(40_000) < 3000
    table = pa.table(
        {
            "image": [f"{i}" for i in range(40_000)],
            "given_label": ["a"] * 40_000,
            "predicted_label": np.where(issue, "b", "a"),
            "confidence": (1 - 0.5 * rng.random(40_000) ** 2.5).astype(np.float32),
            "is_label_issue": issue,
            "trusted_label": pa.nulls(40_000, pa.string()),
        }
    )
    found = [plan(table, count) for count in range(100, 620, 20)]
    assert min(planned.power for planned in found) > 0.5
    assert 1.5 * 600 < found[-1].fixes < 3 * 600
    hopeless = plan(table, 2000)  # hardly any fix would be left to promise
    assert (hopeless.fixes, hopeless.power < 0.05) == (3000, True)


def test_nothing_is_drawn_twice_and_nothing_that_is_trusted() -> None:
    table = soft_labels()
    drawn = plan(table, 500).table["image"].to_pylist()
    known = set(table.filter(table["trusted_label"].is_valid())["image"].to_pylist())
    assert len(set(drawn)) == 500
    assert not known & set(drawn)


def test_the_table_says_which_fixes_could_have_been_drawn() -> None:
    """All that were aimed at, with one chance, and trusted images that look the same to a fit without them."""
    table = soft_labels()
    ids = dict(zip(image_ids(table["image"].to_pylist()).tolist(), table["image"].to_pylist(), strict=True))

    def frame(found) -> set[str]:
        return {ids[number] for number in listed_ids(found.table["drawn_from"].to_pylist())}

    found = plan(table)
    aimed = frame(found)
    weights = dict(zip(found.table["image"].to_pylist(), found.table["weight"].to_pylist(), strict=True))
    assert len(aimed) == found.fixes
    assert len(aimed & set(weights)) == found.fixes_drawn
    assert len({weights[name] for name in aimed & set(weights)}) == 1
    rows = table.filter(pa.compute.is_in(table["image"], pa.array(sorted(aimed))))
    assert rows["is_label_issue"].to_pylist() == [True] * len(aimed)
    known = pa.table(
        {
            "image": ["0.png", "1.png", "2.png"],
            "given_label": ["a", "a", "b"],
            "predicted_label": ["b", "b", "b"],
            "confidence": pa.array([pa.compute.min(rows["confidence"]).as_py(), 0.5, 1.0], pa.float32()),
            "sample": pa.array([1, 0, 0], pa.int32()),
        }
    )
    ids |= dict(
        zip(image_ids(["0.png", "1.png", "2.png"]).tolist(), ["0.png", "1.png", "2.png"], strict=True)
    )
    more = plan_verification(table, 100, held_out=known, max_fix_error=0.05, coverage=0.95, seed=0)
    assert frame(more) == aimed | {"0.png"}
    # of trusted images at a tie nobody could say whether they would have been aimed at
    ties = pa.array(np.where(np.arange(N) % 3 > 0, np.float32(1.0), np.float32(0.6)))
    tied = plan_verification(
        table.set_column(3, "confidence", ties),
        100,
        held_out=known,
        max_fix_error=0.05,
        coverage=0.95,
        seed=0,
    )
    assert len(frame(tied)) == tied.fixes


def test_weights_are_inverse_inclusion_probabilities() -> None:
    """Over many draws, the weights add up to the number of rows that could have been drawn."""
    table = soft_labels()
    totals = [plan(table, 200, seed).table["weight"].to_numpy().sum() for seed in range(60)]
    assert np.mean(totals) == pytest.approx(N - 300, rel=4 * np.std(totals) / np.mean(totals) / 60**0.5)


def test_draws_repeat_with_the_seed_and_follow_the_images() -> None:
    table = soft_labels()
    same = plan(table.take(np.random.default_rng(1).permutation(N)))
    assert set(plan(table).table["image"].to_pylist()) == set(same.table["image"].to_pylist())
    assert plan(table, seed=1).table != plan(table).table
    # where more fixes are surest than are aimed at, it is not their place in the table that decides
    ties = pa.array(np.where(np.arange(N) % 3 > 0, np.float32(1.0), np.float32(0.6)))
    table = table.set_column(3, "confidence", ties)
    surest = pa.compute.and_(table["is_label_issue"], pa.compute.is_null(table["trusted_label"]))
    surest = pa.compute.sum(pa.compute.and_(surest, pa.compute.equal(ties, 1.0))).as_py()
    assert 0 < plan(table).fixes < surest
    same = plan(table.take(np.random.default_rng(1).permutation(N)))
    assert set(plan(table).table["image"].to_pylist()) == set(same.table["image"].to_pylist())


def test_more_rows_than_there_are_draws_all() -> None:
    found = plan(soft_labels(trusted=N - 20), 100)
    assert found.table.num_rows == 20
    np.testing.assert_allclose(found.table["weight"].to_numpy(), 1.0)


def test_without_label_issues_rows_are_drawn_by_doubt_and_at_random() -> None:
    table = soft_labels()
    nothing = table.set_column(4, "is_label_issue", pa.array(np.zeros(N, bool)))
    found = plan(nothing)
    assert (found.table.num_rows, found.fixes, found.fixes_drawn) == (100, 0, 0)


def test_bad_requests_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing left to verify"):
        plan(soft_labels(trusted=N))
    with pytest.raises(SettingError, match="at least 1"):
        plan(soft_labels(), 0)
    (tmp_path / "next.csv").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        write_verification(plan(soft_labels()), tmp_path / "next.csv", force=False)
    assert (tmp_path / "next.csv").read_text() == "mine"
    with pytest.raises(OutputError, match=r"\.csv"):
        write_verification(plan(soft_labels()), tmp_path / "next.xlsx", force=False)


def test_the_table_has_the_columns_that_clean_reads(tmp_path: Path) -> None:
    write_verification(plan(soft_labels()), tmp_path / "next.csv", force=False)
    table = csv.read_csv(tmp_path / "next.csv")
    assert table.column_names == [
        "image", "trusted_label", "given_label", "suggestion", "confidence", "weight", "drawn_from",
    ]  # fmt: skip
    assert table["trusted_label"].null_count == 100
    assert list(tmp_path.iterdir()) == [tmp_path / "next.csv"]
