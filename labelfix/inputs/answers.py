"""What a person answered to the rows of recorded draws.

A row of a draw is answered with a label, with ``?`` (cannot tell), or not yet. A look ends before the first row, in
the order of the draw, that is not answered: rows that are easy to answer are no random sample.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.errors import SHOWN_PROBLEMS
from labelfix.inputs.classes import count_of
from labelfix.inputs.draws import HAND_PICKED_WORD, Draw, Purpose
from labelfix.inputs.encoding import encode
from labelfix.inputs.readers import Problems, RawTable

__all__ = ["CANNOT_TELL", "UNDECIDED", "AnsweredDraw", "answer_warnings", "answered_draws", "without_unsure"]

UNDECIDED, CANNOT_TELL = -1, -2
UNSURE = "?"


@dataclass(frozen=True, kw_only=True)
class AnsweredDraw:
    """A draw with the answers to its rows.

    Attributes
    ----------
    draw
        The record.
    row
        (L,) int32: row numbers of the listed images in the label table, -1 for images that are not in it. Of a
        sample, only those of drawn rows are looked up.
    answer
        (n,) int32 in the order of the draw: label, `UNDECIDED` or `CANNOT_TELL`.
    is_current
        Whether the label table names the same images as when the draw was made, and the images that were verified
        by then, and so were not drawn from, still are.
    excluded
        The numbers of the latter while tables are read.
    """

    draw: Draw
    row: np.ndarray
    answer: np.ndarray
    is_current: bool = True
    excluded: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def drawn_row(self) -> np.ndarray:
        """(n,) row numbers of the drawn images, in the order of the draw."""
        return self.row[self.draw.drawn]

    @property
    def looked(self) -> int:
        """t: how many rows are answered before the first that is not."""
        undecided = np.flatnonzero(self.answer == UNDECIDED)
        return int(undecided[0]) if len(undecided) else len(self.answer)

    def checked(self, verified: np.ndarray) -> "AnsweredDraw":
        """Return the draw held against all `verified` image numbers."""
        return replace(self, is_current=self.is_current and bool(np.isin(self.excluded, verified).all()))

    def renumbered(self, number: np.ndarray) -> "AnsweredDraw":
        """Return the same with row i called `number[i]`, -1 where it is gone."""
        return replace(self, row=np.where(self.row >= 0, number[self.row], -1).astype(np.int32))


def without_unsure(raw: RawTable) -> tuple[RawTable, np.ndarray]:
    """Return a trusted table with ``?`` as empty labels, and which rows had it, (R,) bool."""
    labels = raw.columns["label"]
    unsure = np.asarray(pc.fill_null(pc.equal(labels, UNSURE), False))
    if not unsure.any():
        return raw, unsure
    emptied = pc.if_else(pa.array(unsure), pa.scalar(None, pa.large_string()), labels)
    return replace(raw, columns={**raw.columns, "label": emptied}), unsure


def answered_draws(
    tables: list[RawTable],
    images: list[np.ndarray],
    codes: list[np.ndarray],
    unsure: list[np.ndarray],
    records: Mapping[str, Path],
    number_images: Callable[[list[str]], np.ndarray],
    table_digest: int,
    problems: Problems,
) -> tuple[list[AnsweredDraw], list[np.ndarray]]:
    """Return the draws that trusted tables name, with their answers, and for each table the draw of every row.

    Parameters
    ----------
    tables, images, codes, unsure
        Trusted tables; image number, label and whether it is ``?`` of every row of each.
    records
        Where the records are, by identifier.
    number_images
        Turns names into image numbers.
    table_digest
        Of the images of the label table: `labelfix.system.folds.names_digest`.

    Returns
    -------
    draws, draw_of_row
        Each draw once, and (R,) int32 per table: the position of the row's draw in the list, -1 for none.
    """
    found: dict[str, int] = {}
    draws: list[AnsweredDraw] = []
    draw_of_row: list[np.ndarray] = []
    for raw in tables:
        if "draw" not in raw.columns:
            draw_of_row.append(np.full(raw.num_rows, -1, np.int32))
            continue
        cells = encode(raw.columns["draw"])
        numbers = np.full(len(cells.values) + 1, -1, np.int32)
        for code, name in enumerate(cells.values):
            if name == HAND_PICKED_WORD:
                continue
            if name not in records:
                row = int(np.argmax(cells.codes == code))
                problems.add(
                    f"{raw.at([row])[0]}: there is no record of the draw {name!r}; expected the file"
                    " NAME.draw.parquet that was written with the table beside it. Put it there, or name it or its"
                    " folder with --draws."
                )
                continue
            if name not in found:
                found[name] = len(draws)
                draws.append(_unanswered(Draw.read(records[name]), number_images, table_digest))
            numbers[code] = found[name]
        draw_of_row.append(numbers[cells.codes])
    answers = [_answers(draws, number, tables, images, codes, unsure, draw_of_row, problems)
               for number in range(len(draws))]  # fmt: skip
    return [replace(draw, answer=a) for draw, a in zip(draws, answers, strict=True)], draw_of_row


def answer_warnings(
    tables: list[RawTable], unsure: list[np.ndarray], draws: list[AnsweredDraw]
) -> Iterator[str]:
    """Yield a warning on rows to verify that have no label yet or never will, and on those outside of a look."""
    for raw, cannot_tell in zip(tables, unsure, strict=True):
        doubts = int(cannot_tell.sum())
        if empty := raw.columns["label"].null_count - doubts:
            yield f"{raw.name}: {empty:,} of {raw.num_rows:,} rows have no label yet and are left out."
        if doubts:
            rows = count_of(doubts, "row", "rows")
            yield f"{raw.name}: {rows} marked '?': in no estimate, and wrong in promises."
    for draw in draws:
        beyond = int((draw.answer[draw.looked :] != UNDECIDED).sum())
        if beyond and draw.draw.purpose is not Purpose.LABELS:
            yield (
                f"the draw {draw.draw.id}: {count_of(beyond, 'row', 'rows')} decided after the first one that is"
                f" not (row {draw.looked + 1} of the draw): known labels, but in no estimate and no promise until"
                " that one is decided. '?' means that nobody can tell."
            )
        if not draw.is_current and draw.draw.purpose is Purpose.SAMPLE:
            yield (
                f"the draw {draw.draw.id} was made from other images than those that the label table names now,"
                " less those that are verified in another way. Nothing is promised by it; draw again for that."
            )


def _unanswered(
    draw: Draw, number_images: Callable[[list[str]], np.ndarray], table_digest: int
) -> AnsweredDraw:
    names, row = draw.table["image"], np.full(len(draw.table), -1, np.int32)
    looked_up = draw.drawn if draw.purpose is Purpose.SAMPLE else np.arange(len(names))
    row[looked_up] = number_images(names.take(pa.array(looked_up)).to_pylist())
    is_current = draw.settings.get("table_digest") in (None, table_digest)
    return AnsweredDraw(
        draw=draw,
        row=row,
        answer=np.full(len(draw.drawn), UNDECIDED, np.int32),
        is_current=is_current,
        excluded=number_images(draw.settings.get("excluded", [])),
    )


def _answers(
    draws: list[AnsweredDraw],
    number: int,
    tables: list[RawTable],
    images: list[np.ndarray],
    codes: list[np.ndarray],
    unsure: list[np.ndarray],
    draw_of_row: list[np.ndarray],
    problems: Problems,
) -> np.ndarray:
    """Return the answers to one draw, (n,); report rows that name it and were not drawn."""
    position = {image: place for place, image in enumerate(draws[number].drawn_row.tolist()) if image >= 0}
    answer = draws[number].answer.copy()
    for raw, image, code, cannot_tell, draw in zip(tables, images, codes, unsure, draw_of_row, strict=True):
        rows = np.flatnonzero((draw == number) & (image >= 0))
        place = np.array([position.get(i, -1) for i in image[rows].tolist()], np.int64)
        strange = rows[place < 0]
        problems.add_many(len(strange), lambda raw=raw, strange=strange: _describe_strange(raw, strange))  # type: ignore[misc]
        rows, place = rows[place >= 0], place[place >= 0]
        value = np.where(cannot_tell[rows], CANNOT_TELL, code[rows])
        decided = value != UNDECIDED
        answer[place[decided]] = value[decided]
    return answer


def _describe_strange(raw: RawTable, rows: np.ndarray) -> Iterator[str]:
    for row, place in zip(rows[:SHOWN_PROBLEMS], raw.at(rows[:SHOWN_PROBLEMS]), strict=True):
        name, draw = (raw.columns[column][int(row)].as_py() for column in ("image", "draw"))
        yield (
            f"{place}: {name!r} was not drawn by {draw!r}; expected an image that was. If you chose it, write "
            f"{HAND_PICKED_WORD!r} into its cell."
        )
