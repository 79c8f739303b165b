"""Fixtures: the runs that the tests of `pipeline.inference` train."""

from tests.inference.conftest import runs

__all__ = ["runs"]
