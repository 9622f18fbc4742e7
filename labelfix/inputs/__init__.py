"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators."""

from labelfix.inputs.classes import read_class_list
from labelfix.inputs.image_names import Identify, lexical_keys
from labelfix.inputs.label_table import NO_LABEL, LabelTable
from labelfix.inputs.reading import as_list, read_label_table

__all__ = [
    "NO_LABEL",
    "Identify",
    "LabelTable",
    "as_list",
    "lexical_keys",
    "read_class_list",
    "read_label_table",
]
