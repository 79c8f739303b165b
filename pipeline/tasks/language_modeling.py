"""Language modeling: what comes next, over texts without labels (many-to-many, step by step)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.special_tokens import END
from pipeline.models.dropout import hash_texts, keyed_uniform
from pipeline.models.language_model import LanguageModel
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import SEGMENT_INDEX, TARGETS, TOKENS
from pipeline.tasks.sample import Sample
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

FORGET = 3000
"""Place of the draws by which states are forgotten, behind those of dropout."""
PROMPT = 20  # tokens of a text that is shown being gone on with
NO_TOKEN = -1  # the token past the end of what was written


class LanguageModeling(Task):
    """The likelihood of each token after those before it. The states at the end of an update are
    those that the next begins with, and no gradient goes back past it (truncated back-propagation,
    Williams and Peng 1990).

    A model that reads from the end learns what stands before; of two directions each is judged, and
    the forward one writes.

    Legend: B rows, a lane of this rank in one direction each, T tokens of a stretch, L layers, G
    tokens that are written.
    """

    sums = ("loss", "tokens", "nll")
    best = "perplexity"
    lower_is_better = True
    stateful = True

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.settings, self.model, self._data = settings, model, data
        self.vocabulary = data.vocabularies["tokenizer"]
        # What is gone on with is the end of a text, or its start.
        self.prediction_overrides = {
            "overflow": "truncate",
            "truncation_side": "start" if model.reversed_directions[0] else "end",
        }
        self._bytes = torch.tensor(data.token_byte_lengths("tokenizer"), dtype=torch.float64)  # [V]

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        return (FieldSpec("tokens", corpus.text, "text", append_end=True),)

    def build(self) -> nn.Module:
        return LanguageModel(self.model, self.vocabulary)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        losses, penalty = self._predict(model, batch)
        tokens = (batch.columns[TARGETS] > 0).sum()
        nll = losses.sum()
        return torch.stack([nll + penalty, tokens.to(nll.dtype), nll.detach()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        _, tokens, nll = sums
        return _figures(nll, tokens)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, T, 1] minus the log-likelihood of each target; without targets [B, G, 1], the tokens
        that go on with each text, NO_TOKEN past its end."""
        assert isinstance(model, LanguageModel)
        if TARGETS not in batch.columns:
            return self._write(model, batch)
        losses, _ = self._predict(model, batch)
        return losses.t()[..., None].double()

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [4 + 2 D]: the loss, its tokens, their bytes (NaN if those of one cannot be
        told), the stretches; the loss of each of D directions, their tokens."""
        targets = batch.columns[TARGETS]
        counts = targets > 0
        spelt = torch.where(counts, self._bytes.to(targets.device)[targets], 0).sum()
        told = [outputs.sum(), counts.sum(), spelt, batch.weights.sum()]
        by_direction = [x for half in (outputs[..., 0], counts) for x in self._by_direction(half)]
        return torch.stack([value.double() for value in told + by_direction]), []

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        nll, tokens, spelt, stretches, *by_direction = tally.tolist()
        figures: dict[str, float] = {"examples": int(stretches), **_figures(nll, tokens)}
        if not math.isnan(spelt):
            figures["bits_per_byte"] = nll / math.log(2) / max(spelt, 1)
        if len(self.model.reversed_directions) > 1:
            each = zip(("forward", "backward"), by_direction[:2], by_direction[2:], strict=True)
            for name, own, of in each:
                figures[f"perplexity_{name}"] = _figures(own, of)["perplexity"]
        return Evaluation(figures)

    def showable(self, batch: Batch) -> Tensor:
        """Those of the direction that writes."""
        first = len(batch.weights) // len(self.model.reversed_directions)
        return (batch.weights > 0) & (torch.arange(len(batch.weights)) < first)

    def show(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """What is written from some places on, and from nothing."""
        lanes = zip(batch.columns[TOKENS].tolist(), batch.lengths.tolist(), strict=True)
        read = [[END], *(row[: min(length, PROMPT)] for row, length in lanes)]
        texts = [row[::-1] if self._from_the_end else row for row in read]
        lengths = torch.tensor([len(text) for text in texts])
        tokens = pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
        ones = torch.ones(len(texts))
        given = Batch({"tokens": tokens}, lengths, ones, lengths).to(batch.lengths.device)
        samples = []
        for text, told in zip(texts, self.predict(self.outputs(model, given), []), strict=True):
            shown = {"given": self._data.decode("tokenizer", text)}
            samples.append(Sample(told | shown if self._from_the_end else shown | told))
        return samples

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"tokens": line}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows = outputs[..., 0].long().tolist()
        written = [[token for token in row if token != NO_TOKEN] for row in rows]
        if self._from_the_end:
            return [{"beginning": self._data.decode("tokenizer", row[::-1])} for row in written]
        return [{"continuation": self._data.decode("tokenizer", row)} for row in written]

    @property
    def _from_the_end(self) -> bool:
        """Whether what is written stands before a text."""
        return self.model.reversed_directions[0]

    def _by_direction(self, values: Tensor) -> list[Tensor]:
        """Sums of [B, T] over the rows of each direction."""
        return [half.sum() for half in values.chunk(len(self.model.reversed_directions))]

    def _predict(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the losses [T, B] of a segment and the penalty; update the recurrent state."""
        columns = batch.columns
        before = self._initial_states(model, batch)
        predicted = model(columns[TOKENS], columns[TARGETS], batch.lengths, batch.keys, before)
        assert batch.recurrent_state is not None, "not a batch of a BPTT stream"
        batch.recurrent_state.tensors = [
            tensor.detach()[0] for state in predicted.final_state for tensor in state
        ]
        return predicted.losses, predicted.penalty

    def _initial_states(self, model: nn.Module, batch: Batch) -> list[LayerState]:
        """Return each layer's state at the start of a segment.

        It is zero at the start of an epoch and, in training, with probability
        `task.state_reset_prob`: a model that has only met its own states may be lost in a new text.
        """
        assert batch.recurrent_state is not None, "not a batch of a BPTT stream"
        tensors = batch.recurrent_state.tensors
        if not tensors:
            zero = torch.zeros(
                1, len(batch.lengths), self.model.hidden, device=batch.lengths.device
            )
            return [LayerState(zero, zero)] * self.model.layers
        # The memory cell of a row that only fills up the shape may be not-a-number.
        resets = (batch.columns[SEGMENT_INDEX] == 0) | (batch.weights == 0)  # [B]
        if model.training:
            resets |= keyed_uniform(batch.keys, FORGET, 1)[:, 0] < self.settings.state_reset_prob
        kept = [
            tensor.to(resets.device).masked_fill(resets[:, None], 0.0)[None] for tensor in tensors
        ]
        return [LayerState(h, c) for h, c in zip(kept[::2], kept[1::2], strict=True)]

    def _write(self, model: LanguageModel, batch: Batch) -> Tensor:
        """Draw `task.max_new_tokens` tokens for each text at `task.temperature`, the likeliest at 0. What is
        drawn for a text hangs on it and on `task.seed` alone."""
        keys = hash_texts(batch.columns["tokens"], batch.lengths) + self.settings.seed
        top, carried = self._read(model, batch)
        ended = torch.zeros_like(batch.lengths, dtype=torch.bool)
        written: list[Tensor] = []
        for _ in range(self.settings.max_new_tokens):
            scores = model.log_probs(top).float()  # [B, V]
            scores[:, :END] = -math.inf  # nothing but text and its end
            if self.settings.temperature:  # Gumbel's way to draw by the softmax
                uniform = keyed_uniform(keys, len(written), scores.shape[1]).clamp(1e-9, 1 - 1e-7)
                scores = scores - self.settings.temperature * (-uniform.log()).log()
            token = scores.argmax(-1)
            ended = ended | (token == END)
            written.append(token.masked_fill(ended, NO_TOKEN))
            if bool(ended.all()):
                break
            ones = torch.ones_like(batch.lengths)
            x = model.embedding(token[None])  # [1, B, E]
            states, carried = model.stacks[0](x, ones, batch.keys, carried)
            top = states[0]
        return torch.stack(written, 1)[..., None].double()

    def _read(self, model: LanguageModel, batch: Batch) -> tuple[Tensor, list[LayerState]]:
        """The top states [B, H] and those of all layers at the end of each text. Texts of one
        length are read together, as a layer need not know the memory of a row that is shorter."""
        rows, units, device = len(batch.lengths), self.model.hidden, batch.lengths.device
        top = torch.zeros(rows, units, device=device)
        carried = [
            LayerState(*(torch.zeros(1, rows, units, device=device) for _ in LayerState._fields))
            for _ in range(self.model.layers)
        ]
        for length in batch.lengths.unique().tolist():
            own = (batch.lengths == length).nonzero()[:, 0]
            tokens = batch.columns["tokens"][own, :length]
            x = model.embedding((tokens.flip(1) if self._from_the_end else tokens).t())
            states, after = model.stacks[0](x, batch.lengths[own], batch.keys[own])
            top[own] = states[-1].float()
            for all_rows, some in zip(carried, after, strict=True):
                all_rows.h[:, own], all_rows.c[:, own] = some.h.float(), some.c.float()
        return top, carried


def _figures(nll: float, tokens: float) -> dict[str, float]:
    loss = nll / max(tokens, 1)  # none where all was skipped, which stops the run
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
