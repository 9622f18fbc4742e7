"""The audit of annotators."""

from labelfix.audit.annotators import Audit, annotator_tables, audit_annotators, audit_run, weighs_annotators

__all__ = ["Audit", "annotator_tables", "audit_annotators", "audit_run", "weighs_annotators"]
