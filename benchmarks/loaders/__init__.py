"""The contenders of `benchmarks/loader.py`, a module each: its `convert` and its `Loader`."""

HEADRACE = "headrace"
ARRAYS = "arrays"
OTHERS = ("webdataset", "mosaicml", "litdata", "huggingface")
SYSTEMS = (HEADRACE, *OTHERS, ARRAYS)
