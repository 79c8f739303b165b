"""Loops over the tokens for recurrent layers: in C++ on a CPU, in Triton on a GPU."""

from pipeline.kernels.build import library
from pipeline.kernels.loops import described, runs, scan
from pipeline.kernels.tensors import Weights, Zones

__all__ = ["Weights", "Zones", "described", "library", "runs", "scan"]
