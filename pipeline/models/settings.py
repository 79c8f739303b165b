"""Settings of the model."""

from typing import Literal

from pipeline.settings import Section, setting


class ModelSettings(Section):
    embedding: int = setting(128, "width of the token embedding", ge=1)
    cell: Literal["lstm", "gru"] = setting("lstm", "recurrent cell")
    layers: int = setting(2, "recurrent layers, one on the other", ge=1)
    hidden: int = setting(128, "units of one layer in one direction", ge=1)
    bidirectional: bool = setting(True, "read in both directions")
    pooling: Literal["max_mean", "last", "attention"] = setting(
        "max_mean", "how the states of a row become one vector"
    )
    embedding_dropout: float = setting(0.0, "share of tokens whose embedding is zeroed", ge=0, lt=1)
    dropout: float = setting(0.0, "locked dropout before, between and after the layers", ge=0, lt=1)
