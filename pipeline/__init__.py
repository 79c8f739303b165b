"""Headrace: distributed training of recurrent networks on large text corpora.

    model = pipeline.load("runs/imdb")
    model.predict(["A fine film.", "Dull."])
    run = pipeline.train("my.yaml", **{"train.epochs": 2})

Data goes one way through the package, and imports go one way: corpus (raw files to shards), stream
(shards to batches), tasks and models (batches to losses and metrics), training (the loop),
inference. The map is docs/architecture.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Run, train
    from pipeline.inference.model import Model, load

__version__ = "0.2.0"
__all__ = ["Model", "Run", "load", "train"]

_MODULES = {
    "Model": "pipeline.inference.model",
    "Run": "pipeline.api",
    "load": "pipeline.inference.model",
    "train": "pipeline.api",
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` at its first use: the commands must not wait for all of it."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
