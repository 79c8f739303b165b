"""Sequence-to-sequence tasks: loss, decoding and metrics.

A row may have several reference texts, such as the captions of an image. Its target is the
concatenation of their tokens, each text ended by </s>.

Shapes:
    B   rows of a batch
    G   tokens of the longest target
    K   maximum number of reference texts per row
    N   K * B texts: the first of each row, then the second of each row, ...
    T'  tokens of the longest text, including </s>
    n   target tokens of all texts, without padding
    P   features of the decoder
    V   vocabulary
    Q   hypotheses returned per row (`task.n_best`)
    L   tokens of the longest hypothesis
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.corpus.field_spec import WEIGHT
from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, UNK
from pipeline.models.decoding.beam_search import Hypothesis, beam_search
from pipeline.models.decoding.decoder import Memory
from pipeline.models.decoding.sampling import sample
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.dropout import hash_texts
from pipeline.models.layers.masks import mean_over_steps
from pipeline.settings import Conflict, Sections, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import (
    SEED_STEP,
    Embeds,
    Generates,
    Generation,
    GenerationOptions,
    Scores,
    check_search_options,
)
from pipeline.tasks.base.sample import AttentionMap, ImageData, Sample
from pipeline.tasks.base.settings import SmoothingSettings
from pipeline.tasks.base.target_texts import (
    decoder_inputs,
    score_targets,
    split_texts,
    target_of,
)
from pipeline.tasks.base.task import DatasetInfo, Evaluation, Mistake, Task

NO_TOKEN = -1.0  # padding of a hypothesis in `outputs`
NO_SCORE = float("-inf")  # score of a missing hypothesis in `outputs`
UNKNOWN_WORD = "\N{REPLACEMENT CHARACTER}"
NEVER_GENERATED = (PAD, UNK, BEGIN)
TEXTS, POSITIONS = "texts", "target_positions"  # columns that `prepare_batch` adds


class Seq2SeqTask(Task, Embeds, Scores, Generates):
    """Trained with the cross entropy of each target token given those before it; evaluated on the
    result of beam search.

    Scores are computed on decoded tokens. Byte-level BPE restores the reference, except for the
    changes made by `corpus.replace` and Unicode composition (NFC). If tokens are whole words, an
    unknown word of a reference decodes to a word that no generated word equals.
    """

    class Settings(SmoothingSettings):
        beam_size: int = setting(
            4,
            "number of hypotheses in beam search; 1: greedy",
            ge=1,
            le=100,
            may_change=True,
        )
        n_best: int = setting(1, "number of hypotheses to return", ge=1, may_change=True)
        length_penalty: float = setting(
            0.6,
            "alpha of GNMT's length penalty; larger favors longer texts",
            ge=0,
            may_change=True,
        )
        bleu_tokenizer: Literal["13a", "intl", "char", "zh", "none"] = setting(
            "13a", "sacrebleu's tokenizer for BLEU", may_change=True
        )

    settings: Any
    sum_names = ("loss", "tokens", "nll", "correct", "padded")
    best_metric = "bleu"
    row_metric = "loss"
    libraries = ("sacrebleu", "tokenizers")
    samples_of_inputs = True
    input_field: ClassVar[str]
    """The field that the encoder reads."""
    output_name: ClassVar[str]
    """Name of the generated text in predictions and samples."""
    vocabulary = "tokenizer"
    """Name of the target's vocabulary."""

    def __init__(self, settings: Settings, model: Any, data: DatasetInfo) -> None:
        self.settings, self.model, self.data = settings, model, data

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        corpus, stream, task = config.corpus, config.stream, config.task
        budget = stream.token_budget // stream.accumulation_steps
        if not stream.batch_rows and budget < corpus.max_target_tokens:
            yield Conflict(
                "corpus.max_target_tokens",
                f"is more than the {budget} tokens per batch that stream.token_budget="
                f"{stream.token_budget} leaves",
                "lower it or raise stream.token_budget",
            )
        if task.n_best > task.beam_size:
            yield Conflict(
                "task.n_best",
                f"is more than the number of hypotheses in beam search, task.beam_size="
                f"{task.beam_size}",
                "lower it or raise task.beam_size",
            )

    @abstractmethod
    def max_lengths(self, lengths: Tensor) -> Tensor:
        """Return the maximum tokens to generate [B], with </s>, from the inputs' lengths [B]."""

    @abstractmethod
    def input_details(self, batch: Batch, row: int) -> dict[str, Any]:
        """Return the row's input as texts to display, by name."""

    @abstractmethod
    def attention_inputs(self, batch: Batch, row: int) -> dict[str, Any]:
        """Return the row's attended inputs: the field `read` or `plane` of an `AttentionMap`."""

    def input_image(self, batch: Batch, row: int) -> ImageData | None:
        """Return the row's input if it is an image of pixels."""
        return None

    @abstractmethod
    def text_metrics(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Score generated texts, each against all its references.

        Returns metrics by name, and the signatures of those that have one.
        """

    def prepare_batch(self, batch: Batch) -> Batch:
        """Add the texts [N, T'] of the targets, and the positions [n] of the target tokens among
        the T' * N tokens, in time-major order."""
        texts = split_texts(target_of(batch))
        rows = torch.arange(len(texts)) % len(batch.weights)  # [N]
        is_target = ((texts != PAD) & (batch.weights > 0)[rows, None]).t()  # [T', N]
        positions = is_target.flatten().nonzero()[:, 0]
        return replace(batch, columns={**batch.columns, TEXTS: texts, POSITIONS: positions})

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        columns = batch.columns if TEXTS in batch.columns else self.prepare_batch(batch).columns
        texts, positions = columns[TEXTS], columns[POSITIONS]
        targets = texts.t().flatten()[positions]  # [n]
        scores = model(
            columns[self.input_field], batch.lengths, *decoder_inputs(texts), batch.keys, positions
        )  # [n, V]
        log_p, target_log_p, correct = score_targets(scores, targets)
        tokens = target_log_p.new_full((), len(positions))
        padded = target_log_p.new_full((), texts.numel())
        if WEIGHT in columns:
            weights = batch.weights[positions % len(texts) % len(batch.weights)]  # [n]
            log_p, target_log_p = log_p * weights[:, None], target_log_p * weights
            correct, tokens = correct * weights, weights.sum()
            padded = padded * tokens / max(len(positions), 1)
        nll, smoothing = -target_log_p.sum(), self.settings.label_smoothing
        loss = nll
        if smoothing:
            loss = (1 - smoothing) * nll - smoothing / scores.shape[1] * log_p.sum()
        others = (tokens, nll.detach(), correct.sum(), padded)
        return torch.stack([loss, *(x.to(loss) for x in others)])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """`target_padding` is the padded share of the decoder's steps; the encoder's padding is
        measured by the stream."""
        loss, tokens, nll, correct, padded = sums
        return {
            "loss": loss / tokens,
            "perplexity": _perplexity(nll / tokens),
            "accuracy": correct / tokens,
            "target_padding": 1 - tokens / padded,
        }

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean of the encoder's states of each row [B, P]."""
        memory = self._encode(model, batch)
        return mean_over_steps(memory.states, memory.lengths)

    def log_probabilities(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the log-probability of each row's target given its input, and the number of the
        target's tokens [B, 2]."""
        assert isinstance(model, EncoderDecoder)
        memory = self._encode(model, batch)
        scores = _target_scores(model, memory, target_of(batch), batch.keys)
        return torch.stack([-scores[:, 0], scores[:, 2]], 1)

    def generate(
        self, model: nn.Module, batch: Batch, options: GenerationOptions
    ) -> list[list[Generation]]:
        """Return the best texts that beam search finds or, at a temperature above 0, samples."""
        assert isinstance(model, EncoderDecoder)
        check_search_options(options)
        memory = self._encode(model, batch)
        if options.temperature:
            found = self._sample(model, memory, batch, options)
        else:
            beam_size = options.beam_size or max(self.settings.beam_size, options.n)
            found = self._search(
                model, memory, batch.lengths, beam_size=beam_size, n_best=options.n
            )
        return [[Generation(self._decode(h.tokens), h.score) for h in row] for row in found]

    def _encode(self, model: nn.Module, batch: Batch) -> Memory:
        assert isinstance(model, EncoderDecoder)
        return model.encode(batch.columns[self.input_field], batch.lengths, batch.keys)

    def _sample(
        self, model: EncoderDecoder, memory: Memory, batch: Batch, options: GenerationOptions
    ) -> list[list[Hypothesis]]:
        """Return `options.n` samples of each row, which depend only on the row and the seed."""
        assert options.temperature, "a search"
        inputs = batch.columns[self.input_field]
        lengths = batch.lengths
        if inputs.dim() > 2:  # an image: all of its values
            inputs = inputs.flatten(1)
            lengths = torch.full_like(lengths, inputs.shape[1])
        if inputs.is_floating_point():
            inputs = inputs.float().view(torch.int32)
        keys = hash_texts(inputs.long(), lengths) + (options.seed or 0)
        samples = [
            sample(
                model.step, memory, self.max_lengths(batch.lengths), begin=BEGIN, end=END,
                keys=keys + number * SEED_STEP, temperature=options.temperature,
                suppress_tokens=NEVER_GENERATED, alpha=self.settings.length_penalty,
            )
            for number in range(options.n)
        ]  # fmt: skip
        return [list(hypotheses) for hypotheses in zip(*samples, strict=True)]

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return [B, 2 + Q * (1 + L)].

        First the target's negative log-likelihood and the number of its tokens that are predicted
        correctly given those before them; both 0 without a target. Then the score and the tokens of
        each hypothesis, best first, padded with NO_TOKEN. Rows of weight 0 have no hypotheses.
        """
        assert isinstance(model, EncoderDecoder)
        rows = torch.nonzero(batch.weights > 0).flatten()
        hypotheses: list[list[Hypothesis]] = []
        target_scores = torch.zeros(len(batch.weights), 2, dtype=torch.float64)
        if len(rows):
            inputs, lengths, keys = (
                x[rows] for x in (batch.columns[self.input_field], batch.lengths, batch.keys)
            )
            memory = model.encode(inputs, lengths, keys)
            if "target" in batch.columns:
                scores = _target_scores(model, memory, target_of(batch)[rows], keys)
                target_scores[rows.cpu()] = scores[:, :2].cpu()
            hypotheses = self._search(model, memory, lengths)
        longest = max((len(h.tokens) for row in hypotheses for h in row), default=0)
        generated = torch.full(
            (len(batch.weights), self.settings.n_best, 1 + longest), NO_TOKEN, dtype=torch.float64
        )
        generated[..., 0] = NO_SCORE
        for row, row_hypotheses in zip(rows.tolist(), hypotheses, strict=True):
            for rank, h in enumerate(row_hypotheses):
                generated[row, rank, : 1 + len(h.tokens)] = torch.tensor(
                    [h.score, *h.tokens], dtype=torch.float64
                )
        return torch.cat([target_scores, generated.flatten(1)], 1).to(batch.weights.device)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums [4] and the mistakes.

        The sums are the loss and the numbers of tokens that are predicted correctly given the
        target's tokens before them, of all tokens, and of rows.
        """
        weights = batch.weights.double()
        lengths = (target_of(batch) != PAD).sum(1)
        values = torch.cat([outputs[:, :2], lengths[:, None], torch.ones_like(outputs[:, :1])], 1)
        sums = weights @ values
        mistakes: list[Mistake] = []
        rows = torch.nonzero(batch.weights > 0).flatten().tolist()
        texts = self.texts_to_score(outputs, batch)
        for row, (generated, *references) in zip(rows, texts, strict=True):
            if generated not in references:
                details = {
                    **self.input_details(batch, row),
                    self.output_name: generated,
                    "reference": "\n".join(references),
                }
                loss = (outputs[row, 0] / lengths[row]).item()
                mistakes.append(Mistake(loss, [], details, self.input_image(batch, row)))
        return sums, mistakes

    def row_values(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss per token of each row's target [B]."""
        return outputs[:, 0] / (target_of(batch) != PAD).sum(1).clamp(min=1)

    def texts_to_score(self, outputs: Tensor, batch: Batch) -> list[tuple[str, ...]]:
        valid = batch.weights > 0
        return [
            (hypotheses[0][1] if hypotheses else "", *self._references(target))
            for hypotheses, target in zip(
                self._scored_texts(outputs[valid]), target_of(batch)[valid].tolist(), strict=True
            )
        ]

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        loss, correct, tokens, rows = sums.tolist()
        generated, references = [text for text, *_ in texts], [refs for _, *refs in texts]
        metrics, signatures = self.text_metrics(generated, references) if texts else ({}, {})
        return Evaluation(
            {
                "examples": int(rows),
                "loss": loss / max(tokens, 1),
                "perplexity": _perplexity(loss / max(tokens, 1)),
                "accuracy": correct / max(tokens, 1),
                **metrics,
            },
            signatures=signatures,
        )

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return each document's best text and its score; with `task.n_best` > 1 also the list
        `best` of all returned hypotheses."""
        predictions: list[dict[str, Any]] = []
        for hypotheses in self._scored_texts(outputs):
            best = [{self.output_name: text, "score": round(s, 6)} for s, text in hypotheses]
            if best:
                predictions.append(best[0] | ({"best": best} if self.settings.n_best > 1 else {}))
            else:
                predictions.append({"error": "no text has a finite score"})
        return predictions

    def prediction_types(self) -> dict[str, Any]:
        own = {self.output_name: str, "score": float}
        return own | ({"best": [own]} if self.settings.n_best > 1 else {})

    def samples(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """Return each row's best text with the attention weights of its tokens."""
        assert isinstance(model, EncoderDecoder)
        memory = model.encode(batch.columns[self.input_field], batch.lengths, batch.keys)
        samples = []
        for row, hypotheses in enumerate(self._search(model, memory, batch.lengths)):
            if not hypotheses:  # no score was finite
                continue
            best = hypotheses[0]
            texts = {
                **self.input_details(batch, row),
                self.output_name: self._decode(best.tokens),
            }
            if "target" in batch.columns:
                references = self._references(batch.columns["target"][row].tolist())
                texts["reference"] = "\n".join(references)
            tokens = [self._decode([token]).strip() for token in best.tokens]
            attention = AttentionMap.of(tokens, best.weights, **self.attention_inputs(batch, row))
            samples.append(Sample(texts, self.input_image(batch, row), attention))
        return samples

    def _search(
        self,
        model: EncoderDecoder,
        memory: Memory,
        lengths: Tensor,
        *,
        beam_size: int = 0,
        n_best: int = 0,
    ) -> list[list[Hypothesis]]:
        """Search target texts; 0: the value of the setting."""
        s = self.settings
        return beam_search(
            model.step, memory, self.max_lengths(lengths), begin=BEGIN, end=END,
            suppress_tokens=NEVER_GENERATED, beam_size=beam_size or s.beam_size,
            n_best=n_best or s.n_best, alpha=s.length_penalty,
        )  # fmt: skip

    def _scored_texts(self, outputs: Tensor) -> list[list[tuple[float, str]]]:
        """Return the score and text of each row's hypotheses, best first."""
        rows = outputs[:, 2:].unflatten(1, (self.settings.n_best, -1)).tolist()
        return [
            [(score, self._decode(map(int, ids))) for score, *ids in row if score != NO_SCORE]
            for row in rows
        ]

    def _references(self, target: Sequence[int]) -> list[str]:
        """Decode the texts of a target."""
        ends = [i for i, token in enumerate(target) if token == END]
        starts = [0, *(end + 1 for end in ends)]
        return [self._decode(target[a:b]) for a, b in zip(starts, ends, strict=False)]

    def _decode(self, ids: Iterable[int]) -> str:
        """Decode target tokens, skipping </s> and padding."""
        known: list[list[int]] = [[]]  # runs of tokens between unknown words
        for token in ids:
            if token == UNK:
                known.append([])
            elif token not in (NO_TOKEN, PAD, END):
                known[-1].append(token)
        parts = [self.data.decode(self.vocabulary, tokens) for tokens in known]
        return parts[0] if len(parts) == 1 else f" {UNKNOWN_WORD} ".join(parts).strip()


def reference_streams(references: Sequence[Sequence[str]]) -> list[Any]:
    """Transpose references to sacrebleu's format: the first of each text, the second of each text,
    ...; None where a text has fewer."""
    return [list(stream) for stream in zip_longest(*references)]


def _target_scores(model: EncoderDecoder, memory: Memory, target: Tensor, keys: Tensor) -> Tensor:
    """Return [B, 3] of targets [B, G]: the negative log-likelihood, the number of tokens that are
    predicted correctly given those before them, and the number of tokens, all in float64."""
    texts = split_texts(target)  # [N, T']
    features = model.decoder(*decoder_inputs(texts), keys, memory)  # [T', N, P]
    is_target = (texts != PAD).t()
    _, log_p, correct = score_targets(
        model.decoder.scores(features[is_target]), texts.t()[is_target]
    )
    log_p = log_p.double()
    token_scores = torch.stack([-log_p, correct.double(), torch.ones_like(log_p)], 1)  # [n, 3]
    rows = is_target.nonzero()[:, 1] % len(target)
    return token_scores.new_zeros(len(target), 3).index_add_(0, rows, token_scores)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # a larger exponent overflows a float
