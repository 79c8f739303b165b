"""Attentional recurrent decoder.

Shapes: T' target tokens of the longest text, S source steps, B rows, E embedding width, H hidden
units, M features of a source state, A features of its attention key, P output features, V
vocabulary size, F features of a source's summary, K target texts or hypotheses per row, N = K * B
of them (the first of every row, then the second of every row, ...).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline import components
from pipeline.models.dropout import LockedDropout, TokenDropout, assign_dropout_sites
from pipeline.models.layers.recurrent import SKIPS, Layer, LayerState
from pipeline.models.settings import TiedSettings
from pipeline.settings import Conflict, Sections, setting

TEXT_KEY_OFFSET = 0x5851F42D4C957F2D
"""Difference between the dropout keys of a row's target texts, so that their masks differ."""


class Memory(NamedTuple):
    """The encoded sources of a batch, computed once and read at every decoding step."""

    states: Tensor
    """[S, B, M], source states."""
    attention_keys: Tensor
    """[S, B, A], keys that attention compares with its queries."""
    lengths: Tensor
    """[B] in 1..S, number of source states of each row."""
    initial_state: list[LayerState]
    """Initial state of each decoder layer."""

    def select(self, rows: Tensor) -> "Memory":
        """Return the memory of the given row indices; a row may be repeated."""
        return Memory(
            self.states.index_select(1, rows),
            self.attention_keys.index_select(1, rows),
            self.lengths[rows],
            select_rows(self.initial_state, rows),
        )


def select_rows(state: Sequence[LayerState], rows: Tensor) -> list[LayerState]:
    """Gather the given rows of every layer's state; a row may be repeated."""
    return [LayerState(*(x.index_select(1, rows) for x in layer)) for layer in state]


class Decoder(nn.Module):
    """Recurrent decoder with the layout of GNMT (Wu et al. 2016), as in NVIDIA's implementation.

    The bottom layer reads the tokens, and its states are the queries of attention over the source
    states. Each layer above reads the states below, concatenated with the context. The context is
    not fed back into a layer below (no input feeding), so that training can run one layer at a time
    over all tokens.

    The output features are tanh(W [state, context] + b) of the top layer (Luong et al. 2015), and
    the vocabulary scores are linear in them, with the embedding's weights if `tie_embeddings` is
    set (Press and Wolf 2017). With `bridge`, the initial hidden state of each layer, and an
    LSTM's cell state, are tanh(W s + b) of a summary s of the source (Bahdanau et al. 2015). `skip`
    connections start at the third layer; as in GNMT, the second layer has none. Cells that need an
    encoder of their own are not supported.
    """

    class Settings(TiedSettings):
        attention: str = setting(
            "additive",
            "how attention scores decoder states against encoder states",
            kind="attention",
        )
        bridge: bool = setting(
            True, "initialize the decoder from a summary of the source, instead of zeros"
        )

    def __init__(
        self,
        settings: Settings,
        count: int,
        vocab_size: int,
        memory_size: int,
        summary_size: int,
    ) -> None:
        """`count` is the number of layers, `memory_size` the number of features of a source state,
        `summary_size` that of the summary of a source. Raises ValueError for a cell that needs
        an encoder of its own."""
        super().__init__()
        s = settings
        cell = components.load("cell", s.cell)
        if cell.encoder:
            raise ValueError(f"model.cell={s.cell}: has no decoder; set another cell")
        self.embedding = nn.Embedding(vocab_size, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout)
        self.input_dropout = LockedDropout(s.dropout)
        widths = [s.embedding] + [s.hidden + memory_size] * (count - 1)
        self.layers = nn.ModuleList(Layer(width, s, bidirectional=False) for width in widths)
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if s.layer_norm else nn.Identity() for width in widths
        )
        skips = ["none", *[s.skip] * count][: count - 1]
        self.skips = nn.ModuleList(SKIPS[skip](s.hidden) for skip in skips)
        self.attention = components.load("attention", s.attention)(s.hidden, memory_size, s)
        self.context_dropout = LockedDropout(s.dropout)
        self.dropouts = nn.ModuleList(LockedDropout(s.dropout) for _ in range(count))
        features = s.embedding if s.tie_embeddings else s.hidden
        self.combine = nn.Linear(s.hidden + memory_size, features)
        self.output_dropout = LockedDropout(s.dropout)
        # Tied weights are registered and saved once, as the embedding's.
        self.project = None if s.tie_embeddings else nn.Linear(features, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))  # [V]
        self.state_shape = (count, 1 + cell.has_memory, s.hidden)  # h, and c
        self.bridge = nn.Linear(summary_size, math.prod(self.state_shape)) if s.bridge else None
        assign_dropout_sites(self)

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        """Yield settings that do not work with a decoder."""
        if components.load("cell", config.model.cell).encoder:
            yield Conflict("model.cell", "has no decoder", "set another cell")

    def build_memory(self, states: Tensor, lengths: Tensor, summary: Tensor) -> Memory:
        """Prepare source states for decoding.

        states [S, B, M]; lengths [B] in 1..S; a summary of each row [B, F].
        """
        if self.bridge is None:
            initial = states.new_zeros(len(lengths), math.prod(self.state_shape))
        else:
            initial = torch.tanh(self.bridge(summary))
        layers = initial.view(1, len(lengths), *self.state_shape).unbind(2)  # [1, B, 1 or 2, H]
        initial_state = [LayerState(layer[:, :, 0], layer[:, :, -1]) for layer in layers]
        return Memory(states, self.attention.keys(states), lengths, initial_state)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor, memory: Memory) -> Tensor:
        """Return the output features at each token [T', N, P], the input of `scores`.

        tokens [N, T'] of K texts per row, starting with <s>; lengths [N] in 1..T'; dropout keys
        [B]. Features past a text's length are meaningless. V is large, so pass to `scores` only the
        features that the loss needs.
        """
        rows = len(memory.lengths)
        text_indices = torch.arange(len(tokens), device=tokens.device)  # [N]
        initial_state = select_rows(memory.initial_state, text_indices % rows)
        text_keys = keys[text_indices % rows] + text_indices // rows * TEXT_KEY_OFFSET
        return self._run_layers(tokens, lengths, text_keys, memory, initial_state)[0]

    def scores(self, features: Tensor) -> Tensor:
        """Output features [..., P] -> vocabulary scores [..., V]."""
        weight = self.embedding.weight if self.project is None else self.project.weight
        return functional.linear(features, weight, self.bias)

    def step(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """Decode one token.

        Takes the last token of each hypothesis [N], its recurrent state, and the memory of the
        rows. Returns the log-probabilities of the next token [N, V], in at least float32, the new
        recurrent state, and the attention weights [N, S]. Dropout must be off: call `eval` first.
        """
        lengths = keys = torch.ones_like(tokens)  # keys have no effect: dropout is off
        features, weights, state = self._run_layers(tokens[:, None], lengths, keys, memory, state)
        scores = self.scores(features[0])
        dtype = torch.promote_types(scores.dtype, torch.float32)
        return scores.log_softmax(-1, dtype=dtype), state, weights.flatten(0, 1)

    def _run_layers(
        self,
        tokens: Tensor,
        lengths: Tensor,
        keys: Tensor,
        memory: Memory,
        initial_state: Sequence[LayerState],
    ) -> tuple[Tensor, Tensor, list[LayerState]]:
        """tokens [N, T'], lengths [N], keys [N] -> output features [T', N, P], attention weights
        [T' * K, B, S], final state."""
        x = self.embedding(tokens.t())  # [T', N, E]
        x = self.norms[0](self.input_dropout(self.token_dropout(x, keys), keys))
        x, layer_state = self.layers[0](x, lengths, keys, initial_state[0])
        final_state = [layer_state]
        # To attention, the K texts of a row are further target steps: [T' * K, B, H].
        queries = x.view(-1, len(memory.lengths), x.shape[2])
        context, weights = self.attention(
            queries, memory.states, memory.attention_keys, memory.lengths
        )
        context = self.context_dropout(context.reshape(*x.shape[:2], -1), keys)
        upper_layers = zip(
            self.layers[1:],
            self.norms[1:],
            self.skips,
            self.dropouts[:-1],
            initial_state[1:],
            strict=True,
        )
        for layer, norm, skip, dropout, state in upper_layers:
            below = dropout(x, keys)
            x, layer_state = layer(norm(torch.cat([below, context], -1)), lengths, keys, state)
            x = skip(below, x)
            final_state.append(layer_state)
        top = torch.cat([self.dropouts[-1](x, keys), context], -1)
        return self.output_dropout(torch.tanh(self.combine(top)), keys), weights, final_state
