"""Mutated configs and input files, and the checks of `benchmarks/fuzz.py`."""
