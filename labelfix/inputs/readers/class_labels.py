"""Class names that a table keeps in its schema: the ``ClassLabel`` columns of Hugging Face datasets."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["with_class_names"]


def with_class_names(table: pa.Table) -> pa.Table:
    """Return the table with names in place of the numbers of its ``ClassLabel`` columns, null where there is none.

    The schema's metadata hold, under ``huggingface``, ``{"info": {"features": {title: {"_type": "ClassLabel",
    "names": [...]}}}}`` (`datasets.Features`), and -1 stands for no label.
    """
    for title, names in _class_names(table.schema.metadata or {}).items():
        position = table.schema.get_field_index(title)
        if position >= 0 and pa.types.is_integer(table.schema.field(position).type):
            codes = table.column(position).cast(pa.int64())
            is_name = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
            values = pa.array(names, pa.large_string()).take(pc.if_else(is_name, codes, None))
            table = table.set_column(position, title, values)
    return table


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of each ``ClassLabel`` column; nothing where the metadata are not as described there."""
    try:
        features: Any = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            title: [str(name) for name in feature["names"]]
            for title, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
