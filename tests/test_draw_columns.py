"""The fixes that verified rows were drawn from: into a column of the table, and back through --trusted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import listed_ids

from labelfix.errors import InputError
from labelfix.inputs import read_label_table
from labelfix.inputs.draw_columns import frame_cells, image_ids, parse_cell

NAMES = ["a.png", "folder/b c.png", "ü;,\"'.jpg", "123456789012", "1e5"]


@pytest.mark.parametrize("rows", [[], ["a.png"], ["1e5", "x.png"], [*NAMES, "x.png", "y.png"]])
def test_what_is_written_is_read(rows: list[str]) -> None:
    rows = rows or [f"{i}.jpg" for i in range(9)]
    cells = frame_cells(image_ids(NAMES), image_ids(rows), "")
    assert len(cells) == len(rows)
    assert len({parse_cell(cell)[0] for cell in cells}) == 1
    assert sorted(listed_ids(cells)) == sorted(image_ids(NAMES).tolist())


def test_every_draw_has_a_name_of_its_own() -> None:
    ids = image_ids(NAMES)
    made = ((ids, "seed 0"), (ids, "seed 1"), (ids[:4], "seed 0"), (ids[:0], "seed 0"), (ids, "seed 0"))
    draws = [parse_cell(frame_cells(frame, ids[:2], settings)[0])[0] for frame, settings in made]
    assert len(set(draws)) == 4
    assert draws[0] == draws[-1]


def test_every_row_lists_itself_and_as_many_others() -> None:
    """So rows that are left of a table list themselves, and a random part of the fixes that nobody drew."""
    frame, rows = image_ids(map(str, range(800))), image_ids(map(str, range(600, 820)))
    cells = frame_cells(frame, rows, "")
    for number, cell in zip(rows.tolist(), cells, strict=True):
        ids = listed_ids([cell])
        assert (number in ids) == (number in frame)
        assert 2 <= len(ids) - (number in ids) <= 3


def test_no_spreadsheet_takes_a_cell_for_a_number_or_a_date() -> None:
    ids = image_ids(map(str, range(5000)))
    words = " ".join(frame_cells(ids, ids, "")).replace(":", "").split()
    assert all(word.isalpha() and len(word) == 12 for word in words)
    assert len(set(words)) == 5001


@pytest.mark.parametrize(
    "cell", ["", "yes", "12", "aaaaaaaaaaaa", "aaaaaaaaaaaa: abc", "aaaaaaaaaaaz: aaaaaaaaaaaa"]
)
def test_what_is_no_such_cell_is_found(cell: str) -> None:
    assert parse_cell(cell) is None


def tables(
    cells: list[str | None], labels: list[str | None], **more: list[float]
) -> tuple[pa.Table, pa.Table]:
    given = pa.table({"image": [f"{i}.png" for i in range(6)], "label": list("ababab")})
    drawn = pa.table(
        {"image": ["1.png", "4.png", "5.png"], "trusted_label": labels, "drawn_from": cells, **more}
    )
    return given, drawn


ROWS = ["1.png", "4.png", "5.png"]
FRAME = frame_cells(image_ids(["5.png", "1.png", "2.png", "gone.png"]), image_ids(ROWS), "seed 0")


def test_a_frame_is_read_from_all_rows_that_have_a_label_or_not() -> None:
    given, drawn = tables(FRAME, ["a", None, None], weight=[2.0, 2.0, 9.0])
    plain = pa.table({"image": ["0.png"], "label": ["a"]})
    table = read_label_table(given, [plain, drawn])
    assert list(table.sampling_frames) == [1] == [table.trusted_sample[1]]
    np.testing.assert_array_equal(table.sampling_frames[1], [False, True, True, False, False, True])
    left = table.only(np.array([True, True, False, True, True, True]))
    np.testing.assert_array_equal(left.sampling_frames[1], [False, True, False, False, True])
    backwards = read_label_table(given.take([5, 4, 3, 2, 1, 0]), [plain, drawn])
    np.testing.assert_array_equal(backwards.sampling_frames[1][::-1], table.sampling_frames[1])


def test_draws_are_told_apart_however_they_are_spread_over_tables() -> None:
    """One table in two parts, and two tables in one."""
    other = frame_cells(image_ids(["3.png"]), image_ids(ROWS), "seed 1")
    given, drawn = tables(FRAME, ["b", "a", "b"], weight=[2.0, 2.0, 9.0])
    parts = read_label_table(given, [drawn.slice(0, 1), drawn.slice(1)])
    np.testing.assert_array_equal(parts.trusted_sample[[1, 4, 5]], 1)
    np.testing.assert_array_equal(parts.sampling_frames[1], [False, True, True, False, False, True])
    _, mixed = tables([FRAME[0], other[1], FRAME[2]], ["b", "a", "b"], weight=[2.0, 2.0, 9.0])
    mixed = read_label_table(given, mixed)
    assert mixed.trusted_sample[[1, 4, 5]].tolist() == [1, 2, 1]
    assert mixed.sampling_frames[2].tolist() == [False] * 6  # the one row that listed it is not there


def test_an_empty_frame_is_a_frame() -> None:
    """Where there was nothing to aim at, the sampled rows represent no fix but their own."""
    given, drawn = tables(frame_cells(image_ids([]), image_ids(ROWS), ""), ["b", "a", "b"], weight=[2.0] * 3)
    frames = read_label_table(given, drawn).sampling_frames
    assert {draw: frame.any() for draw, frame in frames.items()} == {1: False}


def test_a_frame_without_weights_is_a_fault() -> None:
    """The chosen rows would count as random ones."""
    given, drawn = tables(FRAME, ["b", "a", "b"])
    with pytest.raises(InputError, match="has a column 'drawn_from' and no 'weight'"):
        read_label_table(given, drawn)


def test_a_frame_has_its_own_weights_whatever_others_call_theirs() -> None:
    given, drawn = tables(FRAME, ["b", "a", "b"], weight=[2.0, 2.0, 9.0])
    mine = pa.table({"image": ["0.png", "3.png"], "label": ["a", "b"], "odds": [3.0, 4.0]})
    table = read_label_table(given, [mine, drawn], trusted_weights="odds")
    assert table.trusted_weight.tolist() == [3, 2, 1, 4, 2, 9]
    assert table.trusted_sample.tolist() == [1, 2, 0, 1, 2, 2]
    with pytest.raises(InputError, match="no trusted table has a column 'chance'"):
        read_label_table(given, [mine, drawn], trusted_weights="chance")


def test_names_that_have_changed_are_told_of() -> None:
    given, drawn = tables(FRAME, ["b", "a", "b"], weight=[2.0, 2.0, 9.0])
    renamed = [f"./{name}" for name in given["image"].to_pylist()]
    table = read_label_table(given.set_column(0, "image", pa.array(renamed)), drawn)
    assert not table.sampling_frames[1].any()
    assert any("4 images listed in columns drawn_from" in warning for warning in table.warnings)
    assert len(table.pairs) == 3  # the labels themselves are found
    table = read_label_table(given, drawn)
    assert any("1 image listed in columns drawn_from" in warning for warning in table.warnings)  # gone.png


@pytest.mark.parametrize("cell", ["12345", ""])
def test_a_spoilt_cell_is_named(tmp_path: Path, cell: str) -> None:
    given, _ = tables(FRAME, ["a"] * 3)
    lines = [f"{i}.png,a,2,{cell}" for i, cell in zip((1, 4, 5), [FRAME[0], cell, FRAME[2]], strict=True)]
    (tmp_path / "next.csv").write_text("\n".join(["image,trusted_label,weight,drawn_from", *lines]))
    with pytest.raises(
        InputError, match=r"next\.csv, line 3: the drawn_from is not what labelfix next wrote"
    ):
        read_label_table(given, tmp_path / "next.csv")
