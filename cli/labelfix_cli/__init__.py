"""The command line of labelfix. Importing it loads neither torch nor pyarrow, scipy or scikit-learn."""

from labelfix_cli.app import app, main

__all__ = ["app", "main"]
