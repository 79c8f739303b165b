"""Loops over the tokens in C++, for recurrent layers on a CPU."""

from pipeline.kernels.build import library
from pipeline.kernels.loops import Weights, Zones, scan

__all__ = ["Weights", "Zones", "library", "scan"]
