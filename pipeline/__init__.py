"""Headrace: distributed training of recurrent networks on large text corpora.

    model = pipeline.load("runs/imdb")
    model.predict(["A fine film.", "Dull."])

Data goes one way through the package, and imports go one way: corpus (raw files to shards), stream
(shards to batches), tasks and models (batches to losses and metrics), train (the loop). The map is
docs/architecture.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.inference.model import Model, load

__version__ = "0.2.0"
__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `Model` at first use: the command line must not wait for torch."""
    if name in __all__:
        from pipeline.inference import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
