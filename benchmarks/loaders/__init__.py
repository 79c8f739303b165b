"""Systems compared by `benchmarks/loader.py`: one module each, with `convert` and a `Loader`."""

HEADRACE = "headrace"
ARRAYS = "arrays"
OTHERS = ("webdataset", "mosaicml", "litdata", "huggingface")
SYSTEMS = (HEADRACE, *OTHERS, ARRAYS)
