"""The fixes that verified rows were drawn from: into a column of the table, and back through --trusted."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from labelfix.dataset import read_label_table
from labelfix.errors import InputError
from labelfix.frames import frame_cells, image_ids, parse_frame

NAMES = ["a.png", "folder/b c.png", "ü;,\"'.jpg", "123456789012", "1e5"]


@pytest.mark.parametrize("rows", [[], ["a.png"], ["1e5", "x.png"], [*NAMES, "x.png", "y.png"]])
def test_what_is_written_is_read(rows: list[str]) -> None:
    rows = rows or [f"{i}.jpg" for i in range(9)]
    cells = frame_cells(image_ids(NAMES), image_ids(rows))
    assert len(cells) == len(rows)
    found, wrong = parse_frame([cell for cell in cells if cell])
    assert found.tolist() == sorted(image_ids(NAMES).tolist())
    assert wrong == []


def test_every_row_lists_itself_and_as_many_others() -> None:
    """So rows that are left of a table list themselves, and a random part of the fixes that nobody drew."""
    frame, rows = image_ids(map(str, range(800))), image_ids(map(str, range(600, 820)))
    cells = frame_cells(frame, rows)
    for number, cell in zip(rows.tolist(), cells, strict=True):
        ids, _ = parse_frame([cell])
        assert (number in ids) == (number in frame)
        assert 2 <= len(ids) - (number in ids) <= 3


def test_no_spreadsheet_takes_a_cell_for_a_number_or_a_date() -> None:
    ids = image_ids(map(str, range(5000)))
    cells = frame_cells(ids, ids)
    assert all(cell.isalpha() and len(cell) == 12 for cell in cells)
    assert len(set(cells)) == 5000


def test_what_is_no_frame_is_found() -> None:
    good = frame_cells(image_ids(NAMES), image_ids(["x", "y"]))
    found, wrong = parse_frame([good[0], "yes", good[1], good[0][:-1], "abcdefghijkz"])
    assert wrong == [1, 3, 4]
    assert len(found) == len(NAMES)


def tables(
    cells: list[str | None], labels: list[str | None], **more: list[float]
) -> tuple[pa.Table, pa.Table]:
    given = pa.table({"image": [f"{i}.png" for i in range(6)], "label": list("ababab")})
    drawn = pa.table(
        {"image": ["1.png", "4.png", "5.png"], "trusted_label": labels, "drawn_from": cells, **more}
    )
    return given, drawn


FRAME = frame_cells(
    image_ids(["5.png", "1.png", "2.png", "gone.png"]), image_ids(["1.png", "4.png", "5.png"])
)


def test_a_frame_is_read_from_all_rows_that_have_a_label_or_not() -> None:
    given, drawn = tables(FRAME, ["a", None, None], weight=[2.0, 2.0, 9.0])
    plain = pa.table({"image": ["0.png"], "label": ["a"]})
    table = read_label_table(given, [plain, drawn])
    assert list(table.frames) == [2] == [table.trusted_sample[1]]
    np.testing.assert_array_equal(table.frames[2], [False, True, True, False, False, True])
    left = table.only(np.array([True, True, False, True, True, True]))
    np.testing.assert_array_equal(left.frames[2], [False, True, False, False, True])
    backwards = read_label_table(given.take([5, 4, 3, 2, 1, 0]), [plain, drawn])
    np.testing.assert_array_equal(backwards.frames[2][::-1], table.frames[2])


def test_without_weights_or_words_there_is_no_frame() -> None:
    given, drawn = tables(FRAME, ["a", "a", "b"])
    assert read_label_table(given, drawn).frames == {}
    given, drawn = tables([None] * 3, ["a", "a", "b"], weight=[2.0, 2.0, 9.0])
    assert read_label_table(given, drawn).frames == {}


def test_names_that_have_changed_leave_no_frame_and_a_warning() -> None:
    given, drawn = tables(FRAME, ["a", "a", "b"], weight=[2.0, 2.0, 9.0])
    renamed = [f"./{name}" for name in given["image"].to_pylist()]
    table = read_label_table(given.set_column(0, "image", pa.array(renamed)), drawn)
    assert table.frames == {}
    assert any("none of the images in its column drawn_from" in warning for warning in table.warnings)
    assert len(table.pairs) == 3  # the labels themselves are found


def test_a_spoilt_cell_is_named(tmp_path: Path) -> None:
    given, _ = tables(FRAME, ["a"] * 3)
    lines = [f"{i}.png,a,2,{cell}" for i, cell in zip((1, 4, 5), [FRAME[0], "12345", FRAME[2]], strict=True)]
    (tmp_path / "next.csv").write_text("\n".join(["image,trusted_label,weight,drawn_from", *lines]))
    with pytest.raises(
        InputError, match=r"next\.csv, line 3: the drawn_from is not what labelfix next wrote"
    ):
        read_label_table(given, tmp_path / "next.csv")
