"""Language modeling: predict each next token of unlabeled text (many-to-many, aligned)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.corpus.settings import MAX_ROW_TOKENS
from pipeline.corpus.tokenization.special_tokens import END
from pipeline.errors import ConfigError
from pipeline.models.decoding.continuation import NO_TOKEN, continue_texts
from pipeline.models.dropout import hash_texts, keyed_uniform, site_of
from pipeline.models.encoder import encoder_class, reversed_directions
from pipeline.models.language_model import LanguageModel
from pipeline.models.layers.masks import mean_over_steps
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import Pretrained
from pipeline.settings import Conflict, Sections, setting
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import SEGMENT_INDEX, TARGETS, TOKENS
from pipeline.tasks.base.abilities import (
    SEED_STEP,
    Embeds,
    Generates,
    Generation,
    GenerationOptions,
    Scores,
)
from pipeline.tasks.base.sample import Sample
from pipeline.tasks.base.settings import TaskSettings
from pipeline.tasks.base.task import DatasetInfo, Evaluation, Mistake, Task

STATE_RESET_SITE = site_of("language_modeling.state_reset")
"""Site of the draws that reset recurrent states, as of a dropout."""
MIN_ADAPTIVE_HIDDEN = 64
"""Adaptive softmax scores the rarest tokens in `hidden // 16` dimensions."""
PROMPT_TOKENS = 20
"""Maximum tokens of a sample's prompt."""


class LanguageModeling(Task, Embeds, Scores, Generates):
    """Trained with the negative log-likelihood of each token given those before it.

    Each update starts from the recurrent state at the end of the last one, and gradients stop at
    the boundary (truncated back-propagation through time, Williams and Peng 1990).

    A model that reads backward predicts each token from those after it. With two independent
    directions both are evaluated, and the forward one generates text.

    Shapes:
        B  rows: a lane of this rank in one direction each
        T  tokens of a segment
        L  layers
        H  hidden units
        G  generated tokens
        D  directions
        V  vocabulary
    """

    class Settings(TaskSettings):
        state_reset_prob: float = setting(
            0.02,
            "probability that a training segment starts from a zero state, as evaluation and "
            "prediction do; at 0 the model may forget how to start from zeros",
            ge=0,
            le=1,
        )
        max_new_tokens: int = setting(
            50, "maximum tokens to generate per text", ge=1, may_change=True
        )
        temperature: float = setting(
            0.8,
            "sampling temperature; 0: always take the most likely token",
            ge=0,
            le=1000,
            may_change=True,
        )
        seed: int = setting(0, "sampling seed", ge=0, lt=2**31, may_change=True)

    uses = (LanguageModel, Pretrained, TextField)
    settings: Settings
    sum_names = ("loss", "tokens", "nll")
    best_metric = "perplexity"
    lower_is_better = True
    reported = MappingProxyType({"loss": False, "bits_per_byte": False})
    stateful = True

    def __init__(
        self, settings: Settings, model: LanguageModel.Settings, data: DatasetInfo
    ) -> None:
        self.settings, self.model, self._data = settings, model, data
        self.is_reversed = reversed_directions(model)
        self.vocabulary = data.vocabularies["tokenizer"]
        # Keep the side at which generation continues: the end, or of a backward model the start.
        self.prediction_overrides = {
            "overflow": "truncate",
            "truncation_side": "start" if self.is_reversed[0] else "end",
        }
        byte_lengths = data.token_byte_lengths("tokenizer")
        self._byte_lengths = torch.tensor(byte_lengths, dtype=torch.float64)  # [V]

    @classmethod
    def defaults(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "corpus.overflow": "split",
            "corpus.drop_duplicates": False,
            "stream.batch_rows": 32,
            "model.bidirectional": bool(values["model"].get("independent_directions")),
        }

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        """Yield conflicts with truncated BPTT, which keeps the recurrent state between updates."""
        corpus, stream, model = config.corpus, config.stream, config.model
        if not stream.batch_rows:
            yield Conflict(
                "stream.batch_rows",
                "language modeling divides the text into this number of parallel lanes",
                "set it, for example to 32",
            )
        if stream.accumulation_steps != 1:
            yield Conflict(
                "stream.accumulation_steps",
                "language modeling keeps the recurrent state between updates of one batch each",
                "set 1",
            )
        if stream.mix:
            yield Conflict(
                "stream.mix",
                "language modeling reads one text after the other",
                "add the files to corpus.input",
            )
        if stream.repeat != 1:
            yield Conflict(
                "stream.repeat",
                "an epoch of language modeling is a single pass through the text",
                "set 1",
            )
        if corpus.overflow != "split":
            yield Conflict(
                "corpus.overflow", "language modeling would lose text of long rows", "set split"
            )
        if corpus.drop_duplicates:
            yield Conflict(
                "corpus.drop_duplicates",
                "would remove repeated rows of a running text",
                "set false",
            )
        if corpus.max_tokens == MAX_ROW_TOKENS:
            yield Conflict(
                "corpus.max_tokens",
                f"leaves no room for the end-of-text token in a row of at most {MAX_ROW_TOKENS} "
                f"tokens",
                f"set {MAX_ROW_TOKENS - 1}",
            )
        if model.bidirectional and not getattr(model, "independent_directions", False):
            yield Conflict(
                "model.bidirectional",
                "would show the model the token that it predicts",
                "set false, or model.independent_directions=true for one language model per "
                "direction",
            )
        if not encoder_class(model).has_state:
            key = "model.cell" if model.cell == "grid_lstm" else "model.encoder"
            yield Conflict(key, "keeps no recurrent state between updates", "set another one")
        if model.softmax != "adaptive":
            return
        if corpus.level == "byte":
            yield Conflict(
                "model.softmax",
                "treats tokens with high ids as rare, which single bytes are not",
                "set full",
            )
        if model.hidden < MIN_ADAPTIVE_HIDDEN:
            yield Conflict(
                "model.hidden",
                "adaptive softmax scores rare tokens in a sixteenth of these dimensions",
                f"set {MIN_ADAPTIVE_HIDDEN} or more",
            )
        if model.tie_embeddings:
            yield Conflict(
                "model.tie_embeddings",
                "adaptive softmax has its own output weights",
                "set false, or model.softmax=full",
            )

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
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
        return _loss_and_perplexity(nll, tokens)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of each target [B, T, 1].

        Without targets, return the tokens [B, G, 1] generated for each text, padded with NO_TOKEN.
        """
        assert isinstance(model, LanguageModel)
        if TARGETS not in batch.columns:
            return self._generate(model, batch)[0][..., None].double()
        losses, _ = self._predict(model, batch)
        return losses.t()[..., None].double()

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean of the top states of each row in each direction [B, P]."""
        assert isinstance(model, LanguageModel)
        directions = [
            _reversed_rows(batch.columns["tokens"], batch.lengths) if is_reversed
            else batch.columns["tokens"]
            for is_reversed in self.is_reversed
        ]  # fmt: skip
        lengths = batch.lengths.repeat(len(directions))
        states, _ = model.states(torch.cat(directions), lengths, torch.zeros_like(lengths))
        return torch.cat(mean_over_steps(states, lengths).chunk(len(directions)), -1)

    def log_probabilities(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the log-probability of each row's text after the end of another one [B, 2]; a
        backward model reads from the end of the text."""
        assert isinstance(model, LanguageModel)
        tokens, lengths = self._in_reading_order(batch), batch.lengths
        end = torch.full_like(tokens[:, :1], END)
        targets = torch.cat([tokens, torch.zeros_like(end)], 1)
        targets[torch.arange(len(lengths)), lengths] = END
        losses = model.text_losses(torch.cat([end, tokens], 1), targets, lengths + 1)
        return torch.stack([-losses.double().sum(0), lengths.double() + 1], 1)

    def generate(
        self, model: nn.Module, batch: Batch, options: GenerationOptions
    ) -> list[list[Generation]]:
        assert isinstance(model, LanguageModel)
        if options.beam_size is not None:
            raise ConfigError(
                f"beam_size={options.beam_size}: a language model samples texts; leave it out"
            )
        keys = ("temperature", "seed", "max_new_tokens")
        given = {k: value for k in keys if (value := getattr(options, k)) is not None}
        settings = self.settings.model_copy(update=given)
        if options.n > 1 and not settings.temperature:
            raise ConfigError(
                f"n={options.n}: at temperature 0 all texts are equal; set a higher temperature"
            )
        texts: list[list[Generation]] = [[] for _ in batch.lengths]
        for number in range(options.n):
            seed = settings.seed + number * SEED_STEP
            tokens, scores = self._generate(
                model, batch, settings.model_copy(update={"seed": seed})
            )
            predictions = self.predict(tokens[..., None], [])
            for row, prediction, score in zip(texts, predictions, scores.tolist(), strict=True):
                row.append(Generation(next(iter(prediction.values())), score))
        return texts

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums [4 + 2 D] and no mistakes.

        The sums are the loss and the numbers of tokens, bytes (NaN if a token's are unknown) and
        segments; then the loss of each direction, and each direction's number of tokens.
        """
        targets = batch.columns[TARGETS]
        is_target = targets > 0
        byte_lengths = torch.where(is_target, self._byte_lengths.to(targets.device)[targets], 0)
        totals = [outputs.sum(), is_target.sum(), byte_lengths.sum(), batch.weights.sum()]
        by_direction = [
            *self._sum_by_direction(outputs[..., 0]),
            *self._sum_by_direction(is_target),
        ]
        return torch.stack([value.double() for value in totals + by_direction]), []

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        nll, tokens, text_bytes, segments, *by_direction = sums.tolist()
        metrics: dict[str, float] = {"examples": int(segments), **_loss_and_perplexity(nll, tokens)}
        if not math.isnan(text_bytes):
            metrics["bits_per_byte"] = nll / math.log(2) / max(text_bytes, 1)
        if len(self.is_reversed) > 1:
            directions = ("forward", "backward")
            pairs = zip(by_direction[:2], by_direction[2:], strict=True)
            for name, pair in zip(directions, pairs, strict=True):
                metrics[f"perplexity_{name}"] = _loss_and_perplexity(*pair)["perplexity"]
        return Evaluation(metrics)

    def resampled_rows(self, batch: Batch) -> Sequence[Tensor]:
        """Return the rows of all directions of each segment."""
        return torch.arange(len(batch.weights)).unflatten(0, (len(self.is_reversed), -1)).unbind(1)

    def displayable(self, batch: Batch) -> Tensor:
        """Return a mask [B] of the rows in the direction that generates text."""
        first = len(batch.weights) // len(self.is_reversed)
        return (batch.weights > 0) & (torch.arange(len(batch.weights)) < first)

    def line(self, batch: Batch, row: int, data: DatasetInfo) -> str:
        """Return the first words of a lane; the first word may be a part of one."""
        tokens = batch.columns[TOKENS][row, : min(int(batch.lengths[row]), PROMPT_TOKENS)].tolist()
        text = data.decode("tokenizer", tokens[::-1] if self._generates_backward else tokens)
        return text if row == 0 else text.partition(" ")[2]

    def samples(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """Return a text generated from nothing, and one from the first tokens of each row."""
        rows = zip(batch.columns[TOKENS].tolist(), batch.lengths.tolist(), strict=True)
        prompts = [[END], *(row[: min(length, PROMPT_TOKENS)] for row, length in rows)]
        if self._generates_backward:
            prompts = [prompt[::-1] for prompt in prompts]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
        weights, keys = torch.ones(len(prompts)), torch.zeros_like(lengths)  # dropout is off
        inputs = Batch({"tokens": tokens}, lengths, weights, keys).to(batch.lengths.device)
        samples = []
        predictions = self.predict(self.outputs(model, inputs), [])
        for prompt, generated in zip(prompts, predictions, strict=True):
            given = {"given": self._data.decode("tokenizer", prompt)}
            samples.append(
                Sample(generated | given if self._generates_backward else given | generated)
            )
        return samples

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return each text's `continuation`, or from a backward model its `beginning`."""
        rows = outputs[..., 0].long().tolist()
        generated = [[token for token in row if token != NO_TOKEN] for row in rows]
        if self._generates_backward:
            return [{"beginning": self._data.decode("tokenizer", row[::-1])} for row in generated]
        return [{"continuation": self._data.decode("tokenizer", row)} for row in generated]

    def prediction_types(self) -> dict[str, Any]:
        return {"beginning" if self._generates_backward else "continuation": str}

    @property
    def _generates_backward(self) -> bool:
        """Whether generated tokens precede the prompt, last one first."""
        return self.is_reversed[0]

    def _sum_by_direction(self, values: Tensor) -> list[Tensor]:
        """Sum values [B, T] over the rows of each direction."""
        return [rows.sum() for rows in values.chunk(len(self.is_reversed))]

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
            resets |= (
                keyed_uniform(batch.keys, STATE_RESET_SITE, 1)[:, 0]
                < self.settings.state_reset_prob
            )
        kept = [
            tensor.to(resets.device).masked_fill(resets[:, None], 0.0)[None] for tensor in tensors
        ]
        return [LayerState(h, c) for h, c in zip(kept[::2], kept[1::2], strict=True)]

    def _generate(
        self, model: LanguageModel, batch: Batch, settings: Settings | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens [B, G] that continue each text, and their log-probability [B].

        `settings` replace those of the task.
        """
        s = settings or self.settings
        return continue_texts(
            model,
            self._in_reading_order(batch),
            batch.lengths,
            keys=hash_texts(batch.columns["tokens"], batch.lengths) + s.seed,
            end=END,
            max_new_tokens=s.max_new_tokens,
            temperature=s.temperature,
        )

    def _in_reading_order(self, batch: Batch) -> Tensor:
        """Return the tokens [B, T] in the order in which the first direction reads them."""
        tokens = batch.columns["tokens"]
        return _reversed_rows(tokens, batch.lengths) if self._generates_backward else tokens


def _reversed_rows(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return tokens [B, T] with each row read from its end, for lengths [B]."""
    t = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens.gather(1, torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t))


def _loss_and_perplexity(nll: float, tokens: float) -> dict[str, float]:
    loss = nll / max(tokens, 1)  # without tokens the run stops: all rows were skipped
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
