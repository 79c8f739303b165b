"""Token loops of recurrent layers: C++ on a CPU, Triton on a GPU."""

from pipeline.kernels.build import library
from pipeline.kernels.loops import describe, prepare, scan, should_use
from pipeline.kernels.tensors import Weights, Zones

__all__ = ["Weights", "Zones", "describe", "library", "prepare", "scan", "should_use"]
