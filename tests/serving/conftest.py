"""Fixtures: a run of a few steps of each task, trained once per session."""

from tests.inference.conftest import runs

__all__ = ["runs"]
