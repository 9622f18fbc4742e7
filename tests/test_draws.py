"""Recorded draws: what is drawn, what a person may do to the table, and which rows a look is made of."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_rows

import labelfix
from labelfix.drawing import draw_fixes, draw_sample, write_draw
from labelfix.errors import InputError, OutputError, SettingError
from labelfix.inputs import read_label_table
from labelfix.inputs.answers import CANNOT_TELL, UNDECIDED
from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE
from labelfix.inputs.draws import Draw, Purpose, draw_path
from labelfix.inputs.label_table import LabelTable, VerifiedAs

NAMES = [f"{n:03d}.png" for n in range(200)]
GIVEN = ["a" if n % 10 else "b" for n in range(200)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "labels.csv", zip(NAMES, GIVEN, strict=True))
    return tmp_path


def sample(folder: Path, count: int = 30, name: str = "to-verify.csv", **options: object) -> Path:
    labelfix.sample(folder / "none.npy", folder / "labels.csv", count, folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def answer(table: Path, labels: list[str | None]) -> pd.DataFrame:
    """Fill a table in from the top, in place."""
    rows = pd.read_csv(table, dtype=str)
    rows["trusted_label"] = [*labels, *[None] * (len(rows) - len(labels))]
    rows.to_csv(table, index=False)
    return rows


def read(folder: Path, table: Path, **options: object) -> LabelTable:
    return read_label_table(folder / "labels.csv", table, **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- drawing


def test_a_sample_is_random_and_follows_the_images_and_not_the_table(folder: Path) -> None:
    first = pd.read_csv(sample(folder, 60))
    assert list(first.columns) == ["image", "trusted_label", "draw"]
    assert first.trusted_label.isna().all()
    order = np.random.default_rng(0).permutation(200)
    write_rows(folder / "labels.csv", ((NAMES[n], GIVEN[n]) for n in order))
    assert pd.read_csv(sample(folder, 60, "again.csv")).image.tolist() == first.image.tolist()
    other = pd.read_csv(sample(folder, 60, "other.csv", seed=1))
    assert set(other.image) != set(first.image)
    # the order does not depend on n
    assert pd.read_csv(sample(folder, 80, "more.csv")).image.tolist()[:60] == first.image.tolist()


def test_every_row_is_drawn_as_often_and_at_every_place() -> None:
    times, firsts = np.zeros(20), np.zeros(20)
    for seed in range(2000):
        drawn = draw_sample(
            NAMES[:20], GIVEN[:20], np.ones(20, bool), 5, by_class=False, settings={"seed": seed}
        ).draw
        times[drawn.drawn] += 1
        firsts[drawn.drawn[0]] += 1
    assert abs(times - 500).max() < 5 * 500**0.5
    assert abs(firsts - 100).max() < 5 * 100**0.5


def test_by_class_draws_as_many_of_each_as_there_are() -> None:
    given = ["x"] * 150 + ["y"] * 45 + ["z"] * 5
    found = draw_sample(NAMES, given, np.ones(200, bool), 60, by_class=True, settings={"seed": 0}).draw
    drawn = np.array(given)[found.drawn]
    assert [(drawn == k).sum() for k in "xyz"] == [27, 28, 5]
    chance = found.table["chance"].to_numpy()
    assert chance[[0, 150, 199]] == pytest.approx([27 / 150, 28 / 45, 1.0])
    assert not found.is_simple_random
    assert len(set(drawn[:20])) == 3  # any first part has rows of every class


def test_verified_images_are_not_drawn_again(folder: Path) -> None:
    known = write_rows(folder / "known.csv", zip(NAMES[:150], GIVEN[:150], strict=True))
    assert set(pd.read_csv(sample(folder, 300, reviewed=known)).image) == set(NAMES[150:])
    with pytest.raises(InputError, match="nothing left to verify"):
        sample(folder, 5, "x.csv", trusted=write_rows(folder / "all.csv", zip(NAMES, GIVEN, strict=True)))
    with pytest.raises(SettingError, match="-n: got 0"):
        sample(folder, 0, "y.csv")


def test_a_record_reads_back_and_a_changed_one_is_refused(folder: Path) -> None:
    path = draw_path(sample(folder))
    draw = Draw.read(path)
    assert draw.purpose is Purpose.SAMPLE
    assert draw.settings["size"] == 200
    assert pd.read_csv(folder / "to-verify.csv").draw.unique().tolist() == [draw.id]
    assert draw.id.isalpha()
    table = pq.read_table(path)
    moved = table.set_column(0, "image", table["image"].take(pa.array(np.roll(np.arange(200), 1))))
    pq.write_table(moved, path)
    with pytest.raises(InputError, match="was changed after it was written"):
        Draw.read(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is not the record of a draw"):
        Draw.read(path)


def test_a_table_is_never_written_over_another_nor_without_its_record(folder: Path) -> None:
    path = sample(folder)
    with pytest.raises(OutputError, match="already exists"):
        sample(folder)
    found = draw_sample(NAMES, GIVEN, np.ones(200, bool), 5, by_class=False, settings={"seed": 0})
    with pytest.raises(OutputError, match=r"ends in \.csv"):
        write_draw(found, folder / "x.parquet")
    shown = pd.read_csv(sample(folder, 5, "shown.csv", show_given=True))
    assert shown.given_label.tolist() == [GIVEN[NAMES.index(name)] for name in shown.image]
    assert path.with_name("to-verify.draw.parquet").exists()


def test_samples_of_the_same_images_are_numbered(folder: Path) -> None:
    numbers = [
        Draw.read(draw_path(sample(folder, 5, f"{n}.csv", seed=n))).settings["number"] for n in range(3)
    ]
    assert numbers == [1, 2, 3]
    write_rows(folder / "labels.csv", zip(NAMES[:100], GIVEN[:100], strict=True))
    assert Draw.read(draw_path(sample(folder, 5, "fewer.csv"))).settings["number"] == 1


# --------------------------------------------------------------------------------------------------- answers


def test_a_look_ends_before_the_first_row_that_is_not_decided(folder: Path) -> None:
    path = sample(folder)
    rows = answer(path, ["a"] * 12 + ["?"] + ["a"] * 4 + [None] + ["b"] * 5)
    table = read(folder, path)
    (draw,) = table.draws
    assert draw.looked == 17
    assert draw.answer[:19].tolist() == [0] * 12 + [CANNOT_TELL] + [0] * 4 + [UNDECIDED, 1]
    assert [table.images[int(r)].as_py() for r in draw.drawn_row] == rows.image.tolist()
    sampled = np.flatnonzero(table.is_pair & (table.trusted_sample == RANDOM_SAMPLE))
    assert {NAMES[row] for row in sampled} == set(rows.image[:12]) | set(rows.image[13:17])
    beyond = np.flatnonzero(table.trusted_sample == HAND_PICKED)
    assert {NAMES[row] for row in beyond} == set(rows.image[18:23])
    assert (table.verified_as[table.is_pair] == VerifiedAs.DRAWN).all()
    said = " ".join(table.warnings)
    assert "5 rows decided after the first one that is not (row 18 of the draw)" in said
    assert "1 row marked '?': in no estimate, and wrong in promises" in said


def test_what_a_spreadsheet_does_to_the_table_changes_nothing(folder: Path) -> None:
    """Sorted, re-encoded, columns moved and added, rows split over two files, undecided rows deleted."""
    path = sample(folder)
    rows = answer(path, ["a"] * 20)
    plain = read(folder, path)
    done = rows[:20].sort_values("image")[["draw", "trusted_label", "image"]].assign(note="x")
    done.iloc[:9].to_csv(path, index=False, sep=";", encoding="utf-8-sig")
    done.iloc[9:].to_csv(folder / "rest.csv", index=False)
    both = read_label_table(folder / "labels.csv", [path, folder / "rest.csv"])
    assert both.draws[0].answer.tolist() == plain.draws[0].answer.tolist()
    np.testing.assert_array_equal(both.trusted_sample, plain.trusted_sample)
    np.testing.assert_array_equal(both.trusted, plain.trusted)


def test_a_record_is_looked_for_beside_the_table_and_where_draws_says(folder: Path) -> None:
    path = sample(folder)
    answer(path, ["a"] * 5)
    away = folder / "away"
    away.mkdir()
    draw_path(path).rename(away / "renamed.draw.parquet")
    with pytest.raises(
        InputError, match=r"to-verify.csv, line 2: there is no record of the draw '[a-p]{10}'.*--draws"
    ):
        read(folder, path)
    assert read(folder, path, draws=[away]).draws[0].looked == 5
    assert read(folder, path, draws=[away / "renamed.draw.parquet"]).draws[0].looked == 5


def test_rows_that_were_not_drawn_are_named_or_hand_picked(folder: Path) -> None:
    path = sample(folder)
    rows = answer(path, ["a"] * 30)
    other = next(name for name in NAMES if name not in set(rows.image))
    strange = pd.concat([rows, pd.DataFrame({"image": [other], "trusted_label": "a", "draw": rows.draw[:1]})])
    strange.to_csv(path, index=False)
    with pytest.raises(InputError, match=rf"line 32: '{other}' was not drawn by .*'hand-picked'"):
        read(folder, path)
    strange.iloc[-1, 2] = "hand-picked"
    strange.to_csv(path, index=False)
    table = read(folder, path)
    row = NAMES.index(other)
    assert (table.trusted_sample[row], table.verified_as[row]) == (HAND_PICKED, VerifiedAs.HAND_PICKED)
    strange.iloc[-1, 2] = None
    strange.to_csv(path, index=False)
    with pytest.raises(InputError, match="line 32: the draw is empty"):
        read(folder, path)


def test_a_reviewed_table_is_hand_picked_whatever_it_says(folder: Path) -> None:
    path = sample(folder)
    answer(path, ["a"] * 30)
    table = read_label_table(folder / "labels.csv", None, path)
    assert not table.draws
    assert (table.verified_as[table.is_pair] == VerifiedAs.HAND_PICKED).all()


def test_weights_of_a_sample_by_class_are_one_by_chance(folder: Path) -> None:
    path = sample(folder, 40, by_class=True)
    answer(path, ["a"] * 40)
    table = read(folder, path)
    weight = table.trusted_weight[table.is_pair]
    given = np.array(GIVEN)[table.is_pair]
    assert weight[given == "a"] == pytest.approx(180 / 20)
    assert weight[given == "b"] == pytest.approx(20 / 20)
    assert (table.trusted_sample[table.is_pair] > RANDOM_SAMPLE).all()


def test_tables_of_the_first_version_are_weights_without_a_list(folder: Path) -> None:
    old = pd.DataFrame(
        {"image": NAMES[:3], "trusted_label": "a", "weight": [2, 2, 9], "drawn_from": "abc: def"}
    )
    old.to_csv(folder / "old.csv", index=False)
    table = read(folder, folder / "old.csv")
    assert not table.draws
    np.testing.assert_allclose(table.trusted_weight[:3], [2, 2, 9])
    assert (table.verified_as[:3] == VerifiedAs.DRAWN).all()
    old.drop(columns="weight").to_csv(folder / "old.csv", index=False)
    with pytest.raises(InputError, match="'drawn_from' and no 'weight'"):
        read(folder, folder / "old.csv")


# ---------------------------------------------------------------------------------------------- lists of fixes


def soft_labels(rows: int = 3000, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "image": [f"{n:05d}" for n in range(rows)],
            "given_label": ["a"] * rows,
            "predicted_label": ["b"] * rows,
            "confidence": rng.beta(8, 0.6, rows),
            "is_label_issue": rng.random(rows) < 0.9,
            "trusted_label": pa.array(["a"] * 50 + [None] * (rows - 50), pa.string()),
        }
    )


def fixes(table: pa.Table, count: int = 200, **options: object) -> Draw:
    options = {"max_error": 0.05, "coverage": 0.95, "level": 0.03, "settings": {"seed": 0}, **options}
    return draw_fixes(table, count, **options).draw  # type: ignore[arg-type]


def test_a_list_is_the_most_confident_fixes_that_nobody_verified() -> None:
    table = soft_labels()
    draw = fixes(table)
    frame = table.to_pandas()
    fixable = frame[frame.is_label_issue & frame.trusted_label.isna()].sort_values(
        "confidence", ascending=False
    )
    assert draw.table["image"].to_pylist() == fixable.image.tolist()[: len(draw.table)]
    assert 400 < len(draw.table) < len(fixable)
    assert draw.settings["sizes"][-1] == draw.settings["size"] == len(draw.table)
    assert len(draw.drawn) == len(set(draw.drawn.tolist())) == 200
    # all parts of the list are drawn from alike
    assert abs(np.mean(draw.drawn) - len(draw.table) / 2) < 4 * len(draw.table) / (12 * 200) ** 0.5


def test_a_list_of_few_fixes_is_all_of_them() -> None:
    few = soft_labels(80)
    draw = fixes(few, 500)
    assert len(draw.drawn) == len(draw.table) < 80
    with pytest.raises(InputError, match="no fix is proposed that nobody verified"):
        fixes(few.filter(pa.compute.is_valid(few["trusted_label"])))
