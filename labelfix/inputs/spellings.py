"""One class under several spellings, such as ``1`` and ``1.0``, or ``cat`` and ``Cat``: found, counted, merged."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["folded", "merging", "shown", "spelling_groups", "visible"]

QUOTES = ('""', "''", "``", "“”", "„“", "‘’", "‚‘", "«»")


def visible(text: str) -> str:
    """Return `text` without the characters that nobody sees: zero-width ones, and blanks around it."""
    if text.isascii():
        return text.strip()
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf").strip()


def folded(name: str) -> str:
    """Return what all spellings of one class have in common; names of different whole numbers stay different.

    Left out are case, Unicode forms, invisible characters, quotes around the name, the ``.0`` and the leading zeros
    of a whole number, and blanks, underscores and hyphens. Between two digits the last three count as one
    separator (``1-1`` is ``1_1``, not ``11``), and a hyphen before a digit at the start is a minus.
    """
    text = visible(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()))
    while len(text) > 2 and text[0] + text[-1] in QUOTES:
        text = text[1:-1].strip()
    if number := re.fullmatch(r"(-?)0*(\d+)(?:\.0+)?", text):
        return "".join(number.groups())
    return re.sub(r"[\s_-]+", _separator, text) or text or name


def _separator(found: re.Match[str]) -> str:
    """Return what stays of blanks, underscores and hyphens: a minus, or that there is one between two digits."""
    before = found.string[: found.start()][-1:]
    if not re.match(r"\.?\d", found.string[found.end() :]):
        return ""
    if not before:
        return "-" if "-" in found[0] else ""
    return "_" if before.isdigit() else ""


def spelling_groups(names: Iterable[str]) -> list[list[str]]:
    """Return the names that fold to one, as groups of at least two, in the order of `names`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(folded(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def merging(
    names: Sequence[str], given_rows: Mapping[str, int], wanted: Sequence[str] | None
) -> dict[str, str]:
    """Return for every name that is another spelling of a class the name of that class.

    Parameters
    ----------
    names
        All labels, in class order.
    given_rows
        How many given rows each has: the most frequent spelling is the class, of equals the first.
    wanted
        The class list, where there is one: a spelling that it holds is a class, others are taken for the one that
        it holds, if it holds one.
    """
    if wanted is None:
        groups = spelling_groups(names)
        chosen = [max(group, key=lambda name: given_rows.get(name, 0)) for group in groups]
        pairs = [(name, best) for group, best in zip(groups, chosen, strict=True) for name in group]
        return {name: best for name, best in pairs if name != best}
    times, known = Counter(map(folded, wanted)), set(wanted)
    class_of = {folded(name): name for name in wanted if times[folded(name)] == 1}
    return {name: class_of[folded(name)] for name in names if name not in known and folded(name) in class_of}


def shown(name: str) -> str:
    """Return a name in quotes, with what cannot be seen in it as escapes."""
    return repr(name) if unicodedata.is_normalized("NFKC", name) else ascii(name)
