"""Model settings."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.components import make
from pipeline.settings import Section, setting

Channels = Annotated[int, Field(ge=8, multiple_of=8)]
"""Number of convolution channels; group normalization uses groups of 8 (`captioner.py`)."""

ENCODER_TASKS = (
    "classification", "multilabel", "tagging", "translation", "images", "language_modeling",
)  # fmt: skip
"""Tasks with a recurrent encoder; captioning has a recurrent decoder only."""

KEY_TASKS = {
    "bidirectional": ENCODER_TASKS,
    "pooling": ("classification", "multilabel", "images"),
    "permute": ("images",),
    "convolutions": ("captioning",),
    "attention": ("translation", "captioning"),
    "attention_size": ("translation", "captioning"),
    "decoder_layers": ("translation",),
    "bridge": ("translation", "captioning"),
    "tie_embeddings": ("translation", "captioning", "language_modeling"),
    "characters": ("tagging",),
    "crf": ("tagging",),
    "word_vectors": ("tagging",),
    "init_from": ("classification", "multilabel", "tagging", "language_modeling"),
    "independent_directions": ("classification", "multilabel", "tagging", "language_modeling"),
    "reverse": ("classification", "multilabel", "tagging", "language_modeling"),
    "softmax": ("language_modeling",),
    "ar_alpha": ("language_modeling",),
    "tar_beta": ("language_modeling",),
}
"""Settings that apply to some tasks only, each with its tasks."""


class ModelSettings(Section):
    """The `model` section of a config file."""

    embedding: int = setting(128, "embedding width of a token or of an image step", ge=1)
    cell: str = setting("lstm", "recurrent cell", kind="cell")
    layers: int = setting(2, "number of stacked recurrent layers", ge=1)
    hidden: int = setting(128, "hidden units per layer and direction", ge=1)
    bidirectional: bool = setting(True, "read the input in both directions")
    independent_directions: bool = setting(
        False,
        "bidirectional: a separate stack for each direction, instead of layers that read both "
        "directions of the layer below",
    )
    reverse: bool = setting(False, "unidirectional: read from the end to the start")
    init_from: str = setting(
        "",
        "run folder, for example of a language model, that provides the tokenizer and the initial "
        "weights of the embedding and the recurrent layers; empty: random weights",
    )
    layer_norm: bool = setting(False, "apply layer normalization to the input of each layer")
    skip: Literal["none", "residual", "highway"] = setting(
        "none", "skip connection around each layer except the first"
    )
    native: bool = setting(
        True,
        "run the loop over tokens in C++ on CPU, if a compiler is available, and in Triton on GPU "
        "(goru)",
    )
    permute: int = setting(
        0,
        "images: seed of a fixed random order of the steps; 0: keep their order",
        ge=0,
    )
    characters: int = setting(
        32,
        "tagging: hidden units per direction of the layer over each word's characters; 0: no such "
        "layer",
        ge=0,
    )
    crf: bool = setting(
        True, "tagging: score whole tag sequences with a CRF, instead of each tag independently"
    )
    word_vectors: str = setting(
        "",
        "tagging: file of word vectors to initialize the embedding, in the text format of word2vec "
        "or GloVe; their width must equal model.embedding; empty: none",
    )
    convolutions: list[Channels] = setting(
        [64, 128, 256, 512],
        "captioning: channels of each encoder stage; a stage halves rows and columns",
        min_length=1,
    )
    pooling: Literal["max_mean", "last", "attention"] = setting(
        "max_mean",
        "classification, multilabel, images: how the hidden states of a row become one vector",
    )
    attention: Literal["additive", "dot"] = setting(
        "additive",
        "translation, captioning: how attention scores decoder states against encoder states",
    )
    attention_size: int = setting(
        0, "translation, captioning: units of additive attention; 0: same as hidden", ge=0
    )
    decoder_layers: int = setting(
        0, "translation: number of decoder layers; 0: same as the encoder", ge=0
    )
    bridge: bool = setting(
        True,
        "translation, captioning: initialize the decoder from a summary of the source, instead of "
        "zeros",
    )
    tie_embeddings: bool = setting(
        False,
        "translation, captioning, language_modeling: share weights between the embedding and the "
        "output layer",
    )
    softmax: Literal["full", "adaptive"] = setting(
        "full",
        "language_modeling: softmax over all tokens, or adaptive with rare tokens in groups of "
        "fewer dimensions",
    )
    ar_alpha: float = setting(
        0.0,
        "language_modeling: weight of activation regularization of the top states (AWD-LSTM: 2)",
        ge=0,
    )
    tar_beta: float = setting(
        0.0,
        "language_modeling: weight of temporal activation regularization (AWD-LSTM: 1)",
        ge=0,
    )
    embedding_dropout: float = setting(
        0.0,
        "probability of zeroing the embedding of a token; language_modeling: of all its "
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

    @property
    def reversed_directions(self) -> tuple[bool, ...]:
        """For each direction, whether it reads from the end of the text."""
        return (False, True) if self.bidirectional else (self.reverse,)


def model_settings(**values: Any) -> ModelSettings:
    """Return settings of a model, with the keys of the cell that they choose."""
    return make(ModelSettings, **values)
