"""A recurrent network that writes a text by what it remembers of another, or of an image.

Legend: T' target tokens of the longest text, S source steps, B rows, E embedding, H hidden units, M
features of a source state, A of its key, P of the read-out, V vocabulary, N texts or hypotheses, K
* B of them, each after the other the first of all rows, the second of all rows, ...
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells import CELLS
from pipeline.models.dropout import LockedDropout, TokenDropout
from pipeline.models.layers.attention import ATTENTIONS
from pipeline.models.layers.recurrent import SKIPS, Layer, LayerState
from pipeline.models.settings import ModelSettings

NEXT_TEXT = 0x5851F42D4C957F2D
"""By how much the keys of a row's texts differ, lest its dropouts leave out the same of each."""


class Memory(NamedTuple):
    """All that a decoder knows of a batch of sources, computed once."""

    states: Tensor
    """[S, B, M]"""
    keys: Tensor
    """[S, B, A], what attention compares its queries with."""
    lengths: Tensor
    """[B] in 1..S, so many states a row."""
    initial: list[LayerState]
    """What each of the decoder's layers begins with."""

    def select(self, rows: Tensor) -> "Memory":
        """Of these rows [B''] only."""
        states, keys = self.states.index_select(1, rows), self.keys.index_select(1, rows)
        return Memory(states, keys, self.lengths[rows], select(self.initial, rows))


def select(state: Sequence[LayerState], rows: Tensor) -> list[LayerState]:
    """What all layers carry, of these rows only, as often as they are named."""
    return [LayerState(*(x.index_select(1, rows) for x in layer)) for layer in state]


class Decoder(nn.Module):
    """The layout of GNMT (Wu et al. 2016) as NVIDIA's implementation has it: the lowest layer reads
    the tokens, attention goes from its states over the source's, and each layer above reads the
    states below beside the context. What attention finds is not fed back into a layer below (no
    input feeding), so that training takes a layer at a time through all tokens.

    The top is read out as tanh(W [state, context] + b) (Luong et al. 2015), and the scores of the
    vocabulary are linear in that; with `tie_embeddings` by the embedding's own weights (Press and
    Wolf 2017). With `bridge` a layer's state before the first token, and LSTM's memory, are
    tanh(W s + b) of a summary s of the source (Bahdanau et al. 2015). `skip` goes past the layers
    from the third on: past the second there is none, as in GNMT. Any cell but grid_lstm does.
    """

    def __init__(
        self, settings: ModelSettings, vocabulary: int, memory: int, summary: int, site: int = 0
    ) -> None:
        """`memory` features a source state, `summary` features of a whole source; its dropouts have
        the places `site` and following."""
        super().__init__()
        s = settings.model_copy(update={"bidirectional": False})
        if s.cell not in CELLS:
            raise ValueError(f"{s.cell}: no cell of a decoder; those are {', '.join(CELLS)}")
        count = s.decoder_layers or s.layers
        self.embedding = nn.Embedding(vocabulary, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout, site)
        self.input_dropout = LockedDropout(s.dropout, site + 1)
        widths = [s.embedding] + [s.hidden + memory] * (count - 1)
        self.layers = nn.ModuleList(Layer(width, s, site + i) for i, width in enumerate(widths))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if s.layer_norm else nn.Identity() for width in widths
        )
        skips = ["none", *[s.skip] * count][: count - 1]
        self.skips = nn.ModuleList(SKIPS[skip](s.hidden) for skip in skips)
        self.attention = ATTENTIONS[s.attention](s.hidden, memory, s.attention_size or s.hidden)
        self.context_dropout = LockedDropout(s.dropout, site + 2)
        self.dropouts = nn.ModuleList(LockedDropout(s.dropout, site + 4 + i) for i in range(count))
        features = s.embedding if s.tie_embeddings else s.hidden
        self.combine = nn.Linear(s.hidden + memory, features)
        self.output_dropout = LockedDropout(s.dropout, site + 3)
        # Tied weights have one name, the embedding's, under which they are saved.
        self.project = None if s.tie_embeddings else nn.Linear(features, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))  # [V]
        self.begin = (count, 2 if s.cell == "lstm" else 1, s.hidden)  # h and, of LSTM, c
        self.bridge = nn.Linear(summary, math.prod(self.begin)) if s.bridge else None

    def remember(self, states: Tensor, lengths: Tensor, summary: Tensor) -> Memory:
        """Source states [S, B, M], lengths [B] in 1..S, a summary of each row [B, F]."""
        if self.bridge is None:
            begin = states.new_zeros(len(lengths), math.prod(self.begin))
        else:
            begin = torch.tanh(self.bridge(summary))
        layers = begin.view(1, len(lengths), *self.begin).unbind(2)  # [1, B, 2 or 1, H] each
        initial = [LayerState(layer[:, :, 0], layer[:, :, -1]) for layer in layers]
        return Memory(states, self.attention.keys(states), lengths, initial)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor, memory: Memory) -> Tensor:
        """tokens [N, T'] of K texts a row from <s> on, lengths [N] in 1..T', keys [B] (of dropout)
        -> what is read out at each of them [T', N, P], of which `scores` are made: of those alone
        that a loss asks for, as V is large. What stands past a length means nothing."""
        rows = len(memory.lengths)
        number = torch.arange(len(tokens), device=tokens.device)
        begin = select(memory.initial, number % rows)
        keys = keys[number % rows] + number // rows * NEXT_TEXT
        return self._run(tokens, lengths, keys, memory, begin)[0]

    def scores(self, features: Tensor) -> Tensor:
        """[..., P] -> [..., V]"""
        weight = self.embedding.weight if self.project is None else self.project.weight
        return functional.linear(features, weight, self.bias)

    def step(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """The last tokens [N], what each hypothesis carries, and the memory of its row -> the
        log-probabilities of its next token [N, V] in at least float32, what it carries now, and the
        weights of the source's states [N, S]. There is no dropout in it: call `eval` before."""
        ones = torch.ones_like(tokens)
        features, weights, state = self._run(tokens[:, None], ones, ones, memory, state)
        scores = self.scores(features[0])
        wide = torch.promote_types(scores.dtype, torch.float32)
        return scores.log_softmax(-1, dtype=wide), state, weights.flatten(0, 1)

    def _run(
        self,
        tokens: Tensor,
        lengths: Tensor,
        keys: Tensor,
        memory: Memory,
        before: Sequence[LayerState],
    ) -> tuple[Tensor, Tensor, list[LayerState]]:
        """tokens [N, T'] -> what is read out [T', N, P], weights [T' * K, B, S], states after."""
        x = self.embedding(tokens.t())  # [T', N, E]
        x = self.norms[0](self.input_dropout(self.token_dropout(x, keys), keys))
        x, after = self.layers[0](x, lengths, keys, before[0])
        carried = [after]
        queries = x.view(-1, len(memory.lengths), x.shape[2])  # hypotheses as if they were steps
        context, weights = self.attention(queries, memory.states, memory.keys, memory.lengths)
        context = self.context_dropout(context.reshape(*x.shape[:2], -1), keys)
        between = self.dropouts[:-1]
        above = zip(self.layers[1:], self.norms[1:], self.skips, between, before[1:], strict=True)
        for layer, norm, skip, dropout, state in above:
            below = dropout(x, keys)
            x, after = layer(norm(torch.cat([below, context], -1)), lengths, keys, state)
            x = skip(below, x)
            carried.append(after)
        top = torch.cat([self.dropouts[-1](x, keys), context], -1)
        return self.output_dropout(torch.tanh(self.combine(top)), keys), weights, carried
