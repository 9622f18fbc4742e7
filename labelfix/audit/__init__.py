"""The audit of annotators."""

from labelfix.audit.annotators import Audit, audit_annotators, audit_run, weighs_annotators

__all__ = ["Audit", "audit_annotators", "audit_run", "weighs_annotators"]
