"""Benchmarks of labelfix and other methods. No other package of the library imports this one."""
