"""Measurements: how anyone knows where labelfix stands. Nothing else imports this package."""
