"""Words that programs write where there is no value, such as ``nan``."""

from labelfix.inputs.spellings import visible

__all__ = ["is_null_word"]

# The words that `pandas.read_csv` takes for a missing value, and what databases and dates add to them.
NULL_WORDS = frozenset(
    [
        "#N/A",
        "#NA",
        "-NaN",
        "-nan",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
        "NaT",
        "none",
        "nil",
    ]
)
EMPTY_LOOKING = " .-_'\"–—…"


def is_null_word(text: str) -> bool:
    """Return whether a cell with that text looks as if it was meant to be empty."""
    return text in NULL_WORDS or not visible(text).strip(EMPTY_LOOKING)
