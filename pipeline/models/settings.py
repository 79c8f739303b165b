"""Settings of the model."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

Channels = Annotated[int, Field(ge=8, multiple_of=8)]
"""Normalized in groups of 8 (`captioner.py`)."""

KEY_CELLS = {
    "activation": ("elman",),
    "recurrent_init": ("elman",),
    "forget_bias": ("lstm", "grid_lstm"),
    "zoneout_memory": ("lstm", "grid_lstm"),
    "goru_capacity": ("goru",),
    "independent_directions": ("elman", "lstm", "gru", "goru"),
    "reverse": ("elman", "lstm", "gru", "goru"),
    "grid_dimensions": ("grid_lstm",),
    "grid_tied": ("grid_lstm",),
    "grid_priority": ("grid_lstm",),
}
"""Keys that not all cells have."""

IGNORED_BY_IMAGE_GRID = (
    "bidirectional", "grid_priority", "layer_norm", "zoneout", "zoneout_memory", "permute",
)  # fmt: skip
"""Keys that a grid of three dimensions does not heed."""

READERS = (
    "classification", "multilabel", "tagging", "translation", "images", "language_modeling",
)  # fmt: skip
"""Tasks whose layers read a sequence; captioning's only write one."""

KEY_TASKS = {
    "bidirectional": READERS,
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
"""Keys that not all tasks have."""


class ModelSettings(Section):
    embedding: int = setting(128, "width of the token embedding, or of a step of an image", ge=1)
    cell: Literal["elman", "lstm", "gru", "grid_lstm", "goru"] = setting("lstm", "recurrent cell")
    layers: int = setting(2, "recurrent layers, one on the other", ge=1)
    hidden: int = setting(128, "units of one layer in one direction", ge=1)
    bidirectional: bool = setting(True, "read in both directions")
    independent_directions: bool = setting(
        False,
        "bidirectional: each direction is a stack of its own; else a layer sees both of the last",
    )
    reverse: bool = setting(False, "read from the end, if in one direction")
    init_from: str = setting(
        "",
        "folder of a run, such as a language model's, whose tokenizer this one takes and whose "
        "embedding and recurrent layers it begins with; empty: random weights",
    )
    activation: Literal["tanh", "relu"] = setting("tanh", "elman: what bounds its states")
    recurrent_init: Literal["orthogonal", "identity"] = setting(
        "orthogonal", "elman: its recurrent weights at first"
    )
    forget_bias: float = setting(1.0, "lstm, grid_lstm: bias of the forget gate at first")
    goru_capacity: int = setting(
        0,
        "goru: layers of rotations between neighbors, an even number; 0: FFT style, for which "
        "hidden is a power of two",
        ge=0,
    )
    grid_dimensions: int = setting(
        2,
        "grid_lstm: 2 is depth and time, 1 depth alone, which joins no tokens, 3 (images) depth, "
        "rows and columns of an image",
        ge=1,
        le=3,
    )
    grid_tied: bool = setting(False, "grid_lstm: the same weights in all layers")
    grid_priority: bool = setting(
        True, "grid_lstm: depth sees what time has reached at its token, not at the one before"
    )
    layer_norm: bool = setting(False, "normalize what each layer reads")
    skip: Literal["none", "residual", "highway"] = setting(
        "none", "connection past each layer but the first"
    )
    native: bool = setting(
        True,
        "loop over the tokens in C++ on a CPU, if there is a compiler, in Triton on a GPU (goru)",
    )
    permute: int = setting(
        0,
        "images: the steps come in one fixed random order, of which this is the seed; 0: no",
        ge=0,
    )
    characters: int = setting(
        32, "tagging: units a direction of the layer over each word's characters; 0: none", ge=0
    )
    crf: bool = setting(True, "tagging: judge whole sequences of tags, not each for itself")
    word_vectors: str = setting(
        "",
        "tagging: a file of word vectors in word2vec's or GloVe's text format to begin with, as "
        "wide as model.embedding; empty: none",
    )
    convolutions: list[Channels] = setting(
        [64, 128, 256, 512],
        "captioning: channels of each stage of the encoder, which halves rows and columns",
        min_length=1,
    )
    pooling: Literal["max_mean", "last", "attention"] = setting(
        "max_mean", "classification, multilabel, images: how the states of a row become one vector"
    )
    attention: Literal["additive", "dot"] = setting(
        "additive",
        "translation, captioning: how the decoder's states are compared with those of the encoder",
    )
    attention_size: int = setting(
        0,
        "translation, captioning: units that additive attention compares by; 0: as many as hidden",
        ge=0,
    )
    decoder_layers: int = setting(
        0, "translation: layers of the decoder; 0: as many as the encoder's", ge=0
    )
    bridge: bool = setting(
        True,
        "translation, captioning: the decoder begins with a summary of what was read, else with "
        "zeros",
    )
    tie_embeddings: bool = setting(
        False,
        "translation, captioning, language modeling: a token is scored by the weights that embed "
        "it",
    )
    softmax: Literal["full", "adaptive"] = setting(
        "full", "language modeling: over all tokens, or rare ones in groups and fewer dimensions"
    )
    ar_alpha: float = setting(
        0.0, "language modeling: what the squares of the top states cost (AWD-LSTM: 2)", ge=0
    )
    tar_beta: float = setting(
        0.0, "language modeling: what the squares of their changes cost (AWD-LSTM: 1)", ge=0
    )
    embedding_dropout: float = setting(
        0.0,
        "share of tokens whose embedding is zeroed; language_modeling: of words, wherever they "
        "stand in a row",
        ge=0,
        lt=1,
    )
    weight_drop: float = setting(0.0, "share of recurrent weights that is zeroed", ge=0, lt=1)
    zoneout: float = setting(0.0, "share of units that keep their state at a token", ge=0, lt=1)
    zoneout_memory: float = setting(0.0, "lstm, grid_lstm: the same of the memory", ge=0, lt=1)
    dropout: float = setting(0.0, "locked dropout before, between and after the layers", ge=0, lt=1)

    @property
    def reversed_directions(self) -> tuple[bool, ...]:
        """Of each direction whether it reads from the end."""
        return (False, True) if self.bidirectional else (self.reverse,)
