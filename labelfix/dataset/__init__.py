"""From label tables to one validated `LabelTable`: images, classes, given and trusted labels, annotators."""

from labelfix.dataset.classes import read_class_list
from labelfix.dataset.identity import Identify, lexical_keys
from labelfix.dataset.label_table import NO_LABEL, LabelTable
from labelfix.dataset.reading import read_label_table

__all__ = ["NO_LABEL", "Identify", "LabelTable", "lexical_keys", "read_class_list", "read_label_table"]
