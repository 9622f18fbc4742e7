"""``python -m labelfix_cli``."""

from labelfix_cli.app import main

main()
