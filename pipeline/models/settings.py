"""Keys of the section `model` that all models have, or all with an encoder."""

from typing import Any, Literal

from pipeline.components import make
from pipeline.settings import FilePath, Section, setting


class ModelSettings(Section):
    """The `model` section of a config file, without the keys of components."""

    embedding: int = setting(128, "embedding width of a token or of an image step", ge=1)
    cell: str = setting("lstm", "recurrent cell", kind="cell")
    layers: int = setting(2, "number of stacked recurrent layers", ge=1)
    hidden: int = setting(128, "hidden units per layer and direction", ge=1)
    layer_norm: bool = setting(False, "apply layer normalization to the input of each layer")
    skip: Literal["none", "residual", "highway"] = setting(
        "none", "skip connection around each layer except the first"
    )
    native: bool = setting(
        True,
        "run the loop over tokens in C++ on CPU, if a compiler is available, and in Triton on GPU "
        "(goru)",
    )
    embedding_dropout: float = setting(
        0.0,
        "probability of zeroing the embedding of a token; in a language model, of all its "
        "occurrences in a row",
        ge=0,
        lt=1,
    )
    weight_drop: float = setting(0.0, "probability of zeroing a recurrent weight", ge=0, lt=1)
    zoneout: float = setting(
        0.0, "probability that a hidden unit keeps its state at a token", ge=0, lt=1
    )
    dropout: float = setting(0.0, "locked dropout before, between and after the layers", ge=0, lt=1)

    @property
    def zoneout_probabilities(self) -> tuple[float, float]:
        """Of the hidden state and of the memory cell."""
        return self.zoneout, 0.0


class EncoderSettings(ModelSettings):
    """Keys of models with an encoder."""

    encoder: str = setting("stack", "layers between embedding and output", kind="encoder")
    bidirectional: bool = setting(True, "read the input in both directions")


class TiedSettings(ModelSettings):
    """Keys of models that generate text."""

    tie_embeddings: bool = setting(
        False, "share weights between the embedding and the output layer"
    )


class PretrainedSettings(ModelSettings):
    """Keys of tasks whose embedding and encoder can be those of another run."""

    init_from: FilePath = setting(
        "",
        "run folder, for example of a language model, that provides the tokenizer and the initial "
        "weights of the embedding and the recurrent layers; empty: random weights",
    )


class Pretrained:
    """In `Component.uses`, adds `model.init_from` to a task."""

    Settings = PretrainedSettings


def model_settings(**values: Any) -> EncoderSettings:
    """Return settings of an encoder, with the keys of the components that they choose."""
    return make(EncoderSettings, **values)
