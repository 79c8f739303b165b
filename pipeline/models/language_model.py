"""Tokens to the likelihood of those that follow: embedding, recurrent stack, softmax.

Legend: T tokens of a stretch, B rows, E embedding, H hidden, D directions, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.dropout import LockedDropout, TypeDropout
from pipeline.models.encoder import encoder
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import LayerState, Stack
from pipeline.models.settings import ModelSettings

AT_ONCE = 1 << 12
"""Tokens that are scored over the vocabulary at once."""
ROWS = 128
"""A group of adaptive softmax is scored for a multiple of so many tokens, some for nothing: of
buffers of ever other sizes memory would be full of gaps."""


class Predicted(NamedTuple):
    """What the model says of a stretch."""

    losses: Tensor
    """[T, B] minus the log-likelihood of each target, 0 where there is none."""
    penalty: Tensor
    """What the regularisers of the states add to the sum of the losses."""
    carried: list[LayerState]
    """The states of all layers after the stretch."""


class LanguageModel(nn.Module):
    """A recurrent language model (Mikolov et al. 2010) with regularisers of AWD-LSTM (Merity et al.
    2018). Of two directions each has a stack of its own; they share embedding and softmax (Peters
    et al. 2018). The rows of a batch are dealt evenly to them: the first half is read forward, and
    those of the second half come in the order that they are read in, from their end.

    With `tie_embeddings` a token is scored by the vector that embeds it (Press and Wolf 2017), and
    states of another width than that go through a linear layer first. With `softmax=adaptive` rare
    tokens, those of high ids, are scored in fewer dimensions and in groups (Grave et al. 2017).
    """

    def __init__(self, settings: ModelSettings, vocabulary: int) -> None:
        super().__init__()
        s = self.settings = settings
        self.embedding = nn.Embedding(vocabulary, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TypeDropout(s.embedding_dropout, site=0)
        self.input_dropout = LockedDropout(s.dropout, site=1)
        stack = encoder(s.embedding, s, site=2)
        assert isinstance(stack, Stack | IndependentDirections), "grid_lstm carries no state"
        self.stack = stack
        self.output_dropout = LockedDropout(s.dropout, site=1000)
        width = s.embedding if s.tie_embeddings else s.hidden
        self.project = nn.Identity() if width == s.hidden else nn.Linear(s.hidden, width)
        if s.softmax == "adaptive":
            self.scores: nn.Module = Adaptive(width, vocabulary)
        else:
            self.scores = Scores(width, vocabulary, tied=s.tie_embeddings)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        lengths: Tensor,
        keys: Tensor,
        before: Sequence[LayerState] = (),
    ) -> Predicted:
        """tokens and targets [B, T] (0: none), lengths [B] in 1..T, keys [B] (of dropout), the
        states before or none for 0."""
        states, carried = self.states(tokens, lengths, keys, before)
        dropped = self.output_dropout(states, keys)
        wanted = targets.t()  # [T, B]
        losses = self._losses(self.project(dropped).flatten(0, 1), wanted.flatten())
        s = self.settings
        penalty = losses.new_zeros(())
        counts = wanted > 0
        if self.training and s.ar_alpha:
            squares = dropped.float().square().mean(-1) * counts  # [T, B]
            penalty = penalty + s.ar_alpha * squares.sum()
        if self.training and s.tar_beta:
            squares = (states[1:] - states[:-1]).float().square().mean(-1) * counts[1:]
            penalty = penalty + s.tar_beta * squares.sum()
        return Predicted(losses.view_as(wanted) * counts, penalty, carried)

    def states(
        self, tokens: Tensor, lengths: Tensor, keys: Tensor, before: Sequence[LayerState] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """tokens [B, T], lengths [B], keys [B], the states before -> the top states [T, B, H], and
        those of all layers after."""
        x = self.token_dropout(self.embedding(tokens.t()), tokens.t(), keys)  # [T, B, E]
        x = self.input_dropout(x, keys)
        read: list[tuple[Tensor, list[LayerState]]] = []
        for stack, rows in zip(self.stacks, _dealt(x.shape[1], len(self.stacks)), strict=True):
            own = [LayerState(*(part[:, rows] for part in state)) for state in before]
            read.append(stack(x[:, rows], lengths[rows], keys[rows], own))
        if len(read) == 1:
            return read[0]
        states, carried = zip(*read, strict=True)
        layers = zip(*carried, strict=True)  # of each layer its states in all directions
        return torch.cat(states, 1), [
            LayerState(*(torch.cat(parts, 1) for parts in zip(*of, strict=True))) for of in layers
        ]

    @property
    def stacks(self) -> list[Stack]:
        """One a direction."""
        return [self.stack] if isinstance(self.stack, Stack) else list(self.stack.stacks)  # type: ignore[arg-type]

    def likelihoods(self, states: Tensor) -> Tensor:
        """Top states [..., H] -> the log-likelihood of each token to follow [..., V]."""
        x = self.project(states)
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(self.scores, Adaptive):
                flat = x.flatten(0, -2).to(self.embedding.weight.dtype)
                return self.scores.log_prob(flat).view(*x.shape[:-1], -1)
            return self._scored(x.to(self.embedding.weight.dtype)).log_softmax(-1)

    def _losses(self, x: Tensor, targets: Tensor) -> Tensor:
        """x [N, E], targets [N] -> minus the log-likelihood of each [N], in full precision but for
        the products, whose precision is that of the autocast."""
        parts = zip(x.split(AT_ONCE), targets.split(AT_ONCE), strict=True)
        if isinstance(self.scores, Adaptive):
            return torch.cat([self.scores.losses(some, of) for some, of in parts])
        return torch.cat([_cross_entropy(self._scored(some), of) for some, of in parts])

    def _scored(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., V], before the softmax."""
        scored: Tensor = self.scores(x, self.embedding.weight)
        return scored


def _dealt(rows: int, stacks: int) -> list[slice]:
    """Which rows each of the stacks reads."""
    of_each = rows // stacks
    return [slice(number * of_each, (number + 1) * of_each) for number in range(stacks)]


class Adaptive(nn.AdaptiveLogSoftmaxWithLoss):
    """torch's adaptive softmax in groups of the likeliest sixteenth of all tokens, three more, and
    the rest. Its own `forward` takes its products and its softmax in one precision, and leaves a
    group without a target out, for whose gradient DDP would wait."""

    def __init__(self, inputs: int, vocabulary: int) -> None:
        super().__init__(inputs, vocabulary, [max(vocabulary // 16, 1), max(vocabulary // 4, 2)])

    def losses(self, x: Tensor, targets: Tensor) -> Tensor:
        """x [N, E], targets [N] -> minus the log-likelihood of each [N]. A GPU is waited for."""
        first = self.cutoffs[0]
        group = torch.bucketize(targets, targets.new_tensor(self.cutoffs[:-1]), right=True)
        losses = _cross_entropy(self.head(x), torch.where(group > 0, first + group - 1, targets))
        for number, tail in enumerate(self.tail):
            rows = torch.nonzero(group == number + 1)[:, 0]
            low = self.cutoffs[number]
            filled = functional.pad(rows, (0, -len(rows) % ROWS))  # with the first token
            within = (targets[filled] - low).clamp(min=0, max=self.cutoffs[number + 1] - low - 1)
            own = _cross_entropy(tail(x[filled]), within)[: len(rows)]
            losses = losses.index_add(0, rows, own)
        return losses


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """scores [N, V], targets [N] -> [N], in at least float32."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return functional.cross_entropy(scores.to(wide), targets, reduction="none")


class Scores(nn.Module):
    """A score of each token, by its own weights, or if `tied` by those that are handed in."""

    def __init__(self, inputs: int, vocabulary: int, *, tied: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocabulary, inputs))
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [..., E], the embedding [V, E] -> [..., V]."""
        return functional.linear(x, embedding if self.weight is None else self.weight, self.bias)
