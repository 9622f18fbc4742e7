"""A random sample of the images of a label table: `labelfix sample`.

N rows, n drawn ones.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import labelfix
from labelfix.drawing.verification import Verification, check_count, listed_table, write_draw
from labelfix.errors import InputError
from labelfix.images.folder import ImageFolder
from labelfix.inputs import lexical_keys, read_label_table
from labelfix.inputs.draws import Draw, Purpose, draws_of, next_number
from labelfix.settings import MissingImages, Spellings
from labelfix.system.folds import hash_keys

__all__ = ["draw_sample", "sample"]

# Of larger samples the record has the drawn rows only.
MOST_LISTED = 1_000_000


def sample(
    source: str | os.PathLike[str],
    labels: Any,
    count: int,
    out: str | os.PathLike[str] | None = None,
    *,
    trusted: Any = None,
    reviewed: Any = None,
    by_class: bool = False,
    show_given: bool = False,
    missing: MissingImages | str = MissingImages.STOP,
    spellings: Spellings | str = Spellings.STOP,
    seed: int = 0,
    force: bool = False,
) -> Verification:
    """Draw the images whose labels are to be verified first; write them to the CSV file `out`, if one is named.

    Parameters
    ----------
    source, labels
        As in `labelfix.clean`.
    count
        How many images.
    trusted, reviewed
        Labels that were verified before: these images are not drawn again.
    by_class
        Draw as many of every given label as there are, up to the same number, for estimates per class. What is
        promised rests on samples without this.
    show_given
        Write given labels into the table as well: a person who sees them agrees with them more often.
    missing, spellings
        As in `labelfix.clean`.

    Raises
    ------
    LabelfixError
        When an input has a fault, nothing is left to verify, or `out` cannot be written.
    """
    check_count(count)
    source = Path(source)
    table = read_label_table(
        labels, trusted, reviewed,
        identify=ImageFolder(source).identify if source.is_dir() else lexical_keys,
        skip_missing=MissingImages(missing) is MissingImages.QUARANTINE, spellings=Spellings(spellings),
    )  # fmt: skip
    settings = {
        "seed": seed,
        "number": 1 if out is None else _number(Path(out).parent, table.digest),
        "table_digest": table.digest,
        "excluded": table.images.filter(pa.array(table.is_pair)).to_pylist(),
        "labelfix": labelfix.__version__,
    }
    given = [table.classes[k] for k in table.given.tolist()]
    found = draw_sample(
        table.images.to_pylist(), given, ~table.is_pair, count, by_class=by_class, settings=settings
    )
    if out is not None:
        write_draw(found, out, show_given=show_given, force=force)
    return found


def _number(folder: Path, digest: int) -> int:
    """Return which sample of the same images the next one is, as the records in a folder tell."""
    return next_number(draws_of(digest, [folder] if folder.is_dir() else []), Purpose.SAMPLE)


def draw_sample(
    images: Sequence[str],
    given: Sequence[str],
    eligible: np.ndarray,
    count: int,
    *,
    by_class: bool,
    settings: dict[str, Any],
) -> Verification:
    """Draw a simple random sample, or one with as many rows of every given label, where there are as many.

    Parameters
    ----------
    images, given
        (N,) names and given labels.
    eligible
        (N,) bool: the rows to draw from.
    count
        n; all rows where there are fewer.
    settings
        What else is recorded; has the `seed`.

    Raises
    ------
    InputError
        When there is no row to draw from.
    """
    check_count(count)
    frame = np.flatnonzero(eligible)
    if not len(frame):
        raise InputError("every image has a trusted label; there is nothing left to verify.")
    names = pa.array(images, pa.string()).take(pa.array(frame))
    labels = pa.array(given, pa.string()).take(pa.array(frame))
    shuffled = np.argsort(
        hash_keys((f"sample:{name}" for name in names.to_pylist()), settings["seed"]), kind="stable"
    )
    count = min(count, len(frame))
    chance = np.full(len(frame), count / len(frame))
    if by_class:
        encoded = pc.dictionary_encode(labels)
        shuffled, chance = _even_by_class(encoded.indices.to_numpy(zero_copy_only=False), shuffled, count)
    position = np.full(len(frame), -1, np.int32)
    position[shuffled[:count]] = np.arange(count)
    table = listed_table(names, labels, position, chance)
    if len(frame) > MOST_LISTED:
        table = table.filter(pc.is_valid(table["position"]))
    return Verification(
        draw=Draw(purpose=Purpose.SAMPLE, table=table, settings={**settings, "size": len(frame)})
    )


def _even_by_class(code: np.ndarray, shuffled: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, those of the sample first, and the chance of every row; `code` (N,) is its given label."""
    size = np.bincount(code)
    share, left = np.zeros(len(size), np.int64), count
    by_size = np.argsort(size, kind="stable")  # small classes first: what they lack, others give
    for place, k in enumerate(by_size):
        share[k] = min(size[k], math.ceil(left / (len(size) - place)))
        left -= share[k]
    place_in_class = np.empty(len(code), np.int64)
    for k in range(len(size)):
        rows = shuffled[code[shuffled] == k]
        place_in_class[rows] = np.arange(len(rows))
    drawn = shuffled[place_in_class[shuffled] < share[code[shuffled]]]
    return drawn, (share / size)[code]
