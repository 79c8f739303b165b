"""Recurrent language model: embedding, recurrent stack and softmax over the next token.

Shapes: T tokens of a truncated BPTT segment, B rows, N tokens, E embedding width, H hidden units, D
directions, V vocabulary size.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.dropout import LockedDropout, TypeDropout, assign_dropout_sites
from pipeline.models.encoder import Encoder, encoder
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import EncoderSettings, TiedSettings
from pipeline.settings import setting

TOKENS_PER_CHUNK = 1 << 12
"""Number of tokens whose vocabulary scores are computed at a time, to bound memory."""
TAIL_ROWS_MULTIPLE = 128
"""The tokens of each tail cluster of the adaptive softmax are padded to a multiple of this number.
Buffers of ever-changing sizes would fragment memory."""


class LanguageModelOutput(NamedTuple):
    """Losses and recurrent state of one segment."""

    losses: Tensor
    """[T, B], negative log-likelihood of each target, 0 where there is no target."""
    penalty: Tensor
    """Activation regularization, to be added to the sum of the losses."""
    final_state: list[LayerState]
    """Recurrent state of all layers after the segment."""


class LanguageModel(nn.Module):
    """A recurrent language model (Mikolov et al. 2010) with AWD-LSTM's regularization (Merity et
    al. 2018).

    A bidirectional model has an independent stack for each direction; the stacks share embedding
    and softmax (Peters et al. 2018). The first half of a batch's rows goes to the forward stack,
    the second half to the backward stack. Rows of the second half are already reversed, so their
    tokens are in reading order.

    With `tie_embeddings` the embedding also is the output layer (Press and Wolf 2017); a linear
    layer projects states of another width to the embedding's. With `softmax=adaptive` rare tokens,
    those with high ids, are scored in clusters with fewer dimensions (Grave et al. 2017).
    """

    class Settings(TiedSettings, EncoderSettings):
        softmax: Literal["full", "adaptive"] = setting(
            "full",
            "softmax over all tokens, or adaptive with rare tokens in groups of fewer dimensions",
        )
        ar_alpha: float = setting(
            0.0,
            "weight of activation regularization of the top states (AWD-LSTM: 2)",
            ge=0,
        )
        tar_beta: float = setting(
            0.0, "weight of temporal activation regularization (AWD-LSTM: 1)", ge=0
        )

    def __init__(self, settings: Settings, vocab_size: int) -> None:
        super().__init__()
        s = self.settings = settings
        self.embedding = nn.Embedding(vocab_size, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TypeDropout(s.embedding_dropout)
        self.input_dropout = LockedDropout(s.dropout)
        self.stack = encoder(s.embedding, s)
        assert self.stack.has_state, "the encoder keeps no recurrent state between segments"
        self.output_dropout = LockedDropout(s.dropout)
        states = self.stacks[0].outputs
        width = s.embedding if s.tie_embeddings else states
        self.project = nn.Identity() if width == states else nn.Linear(states, width)
        if s.softmax == "adaptive":
            self.scores: nn.Module = AdaptiveSoftmax(width, vocab_size)
        else:
            self.scores = OutputLayer(width, vocab_size, tied=s.tie_embeddings)
        assign_dropout_sites(self)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        lengths: Tensor,
        keys: Tensor,
        initial_state: Sequence[LayerState] = (),
    ) -> LanguageModelOutput:
        """Return the losses of a segment and the state after it.

        tokens and targets [B, T], where target 0 means none; lengths [B] in 1..T; dropout keys [B];
        the recurrent state of all layers before the segment, zeros if empty.
        """
        states, final_state = self.states(tokens, lengths, keys, initial_state)
        dropped = self.output_dropout(states, keys)
        targets = targets.t()  # [T, B]
        losses = self._losses(self.project(dropped).flatten(0, 1), targets.flatten())
        s = self.settings
        penalty = losses.new_zeros(())
        has_target = targets > 0
        if self.training and s.ar_alpha:
            squares = dropped.float().square().mean(-1) * has_target  # [T, B]
            penalty = penalty + s.ar_alpha * squares.sum()
        if self.training and s.tar_beta:
            squares = (states[1:] - states[:-1]).float().square().mean(-1) * has_target[1:]
            penalty = penalty + s.tar_beta * squares.sum()
        return LanguageModelOutput(losses.view_as(targets) * has_target, penalty, final_state)

    def states(
        self,
        tokens: Tensor,
        lengths: Tensor,
        keys: Tensor,
        initial_state: Sequence[LayerState] = (),
    ) -> tuple[Tensor, list[LayerState]]:
        """Return the top states [T, B, H] and the final state of all layers.

        tokens [B, T]; lengths [B]; dropout keys [B]; the initial state of all layers, zeros if
        empty.
        """
        x = self.token_dropout(self.embedding(tokens.t()), tokens.t(), keys)  # [T, B, E]
        x = self.input_dropout(x, keys)
        outputs: list[tuple[Tensor, list[LayerState]]] = []
        row_ranges = _split_rows(x.shape[1], len(self.stacks))
        for stack, rows in zip(self.stacks, row_ranges, strict=True):
            state = [LayerState(*(part[:, rows] for part in layer)) for layer in initial_state]
            outputs.append(stack(x[:, rows], lengths[rows], keys[rows], state))
        if len(outputs) == 1:
            return outputs[0]
        states, final_states = zip(*outputs, strict=True)
        layers = zip(*final_states, strict=True)  # for each layer, its state in all directions
        return torch.cat(states, 1), [
            LayerState(*(torch.cat(parts, 1) for parts in zip(*layer, strict=True)))
            for layer in layers
        ]

    def text_losses(self, tokens: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """Return the negative log-likelihoods [T, B] of targets, read in the first direction from a
        state of zeros.

        tokens and targets [B, T], where target 0 means none; lengths [B].
        """
        states, _ = self.stacks[0](self.embedding(tokens.t()), lengths, torch.zeros_like(lengths))
        targets = targets.t()
        losses = self._losses(self.project(states).flatten(0, 1), targets.flatten())
        return losses.view_as(targets) * (targets > 0)

    @property
    def stacks(self) -> list[Encoder]:
        """The encoder of each direction."""
        if isinstance(self.stack, IndependentDirections):
            return list(self.stack.stacks)  # type: ignore[arg-type]
        return [self.stack]

    def log_probs(self, states: Tensor) -> Tensor:
        """Top states [..., H] -> log-probabilities of the next token [..., V]."""
        x = self.project(states)
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(self.scores, AdaptiveSoftmax):
                flat = x.flatten(0, -2).to(self.embedding.weight.dtype)
                return self.scores.log_prob(flat).view(*x.shape[:-1], -1)
            return self._logits(x.to(self.embedding.weight.dtype)).log_softmax(-1)

    def _losses(self, x: Tensor, targets: Tensor) -> Tensor:
        """x [N, E], targets [N] -> negative log-likelihoods [N].

        All is computed in full precision, except for the matrix products, which follow autocast.
        """
        chunks = zip(x.split(TOKENS_PER_CHUNK), targets.split(TOKENS_PER_CHUNK), strict=True)
        if isinstance(self.scores, AdaptiveSoftmax):
            return torch.cat([self.scores.losses(*chunk) for chunk in chunks])
        return torch.cat(
            [
                _cross_entropy(self._logits(inputs), chunk_targets)
                for inputs, chunk_targets in chunks
            ]
        )

    def _logits(self, x: Tensor) -> Tensor:
        """[..., E] -> scores before the softmax [..., V]."""
        logits: Tensor = self.scores(x, self.embedding.weight)
        return logits


def _split_rows(rows: int, stacks: int) -> list[slice]:
    """Split the rows of a batch evenly between the stacks."""
    rows_per_stack = rows // stacks
    return [slice(i * rows_per_stack, (i + 1) * rows_per_stack) for i in range(stacks)]


class AdaptiveSoftmax(nn.AdaptiveLogSoftmaxWithLoss):
    """PyTorch's adaptive softmax with cutoffs at 1/16 and 1/4 of the vocabulary.

    `losses` replaces PyTorch's `forward`, which computes products and softmax in the same precision
    and skips clusters without a target, whose gradients DDP would then wait for.
    """

    def __init__(self, inputs: int, vocab_size: int) -> None:
        super().__init__(inputs, vocab_size, [max(vocab_size // 16, 1), max(vocab_size // 4, 2)])

    def losses(self, x: Tensor, targets: Tensor) -> Tensor:
        """x [N, E], targets [N] -> negative log-likelihoods [N]. Synchronizes with a GPU."""
        head_size = self.cutoffs[0]
        # Cluster 0 is the head, cluster i + 1 is tail i.
        clusters = torch.bucketize(targets, targets.new_tensor(self.cutoffs[:-1]), right=True)
        head_targets = torch.where(clusters > 0, head_size + clusters - 1, targets)
        losses = _cross_entropy(self.head(x), head_targets)
        for i, tail in enumerate(self.tail):
            rows = torch.nonzero(clusters == i + 1)[:, 0]
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            padding = -len(rows) % TAIL_ROWS_MULTIPLE
            padded_rows = functional.pad(rows, (0, padding))  # with row 0
            tail_targets = (targets[padded_rows] - low).clamp(min=0, max=high - low - 1)
            tail_losses = _cross_entropy(tail(x[padded_rows]), tail_targets)[: len(rows)]
            losses = losses.index_add(0, rows, tail_losses)
        return losses


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """logits [N, V], targets [N] -> [N], computed in at least float32."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return functional.cross_entropy(logits.to(dtype), targets, reduction="none")


class OutputLayer(nn.Module):
    """A linear layer over the vocabulary; if `tied`, it uses the embedding's weights."""

    def __init__(self, inputs: int, vocab_size: int, *, tied: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, inputs))
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x [..., E], embedding weights [V, E] -> logits [..., V]."""
        return functional.linear(x, embedding if self.weight is None else self.weight, self.bias)
