"""Tasks that end in a text of the model's own: what it learns of, searches for and is judged by.

A row may have several texts that would be right, such as the captions of an image. Its target is
all their tokens in one list, in which </s> ends each.

Legend: B rows of a batch, G tokens of the longest target, K texts of the row that has most, N = K *
B texts (the first of all rows, the second of all rows, ...), T' tokens of the longest text (</s> is
one), n tokens of all texts, V vocabulary; Q texts that a row is told, L tokens of the longest.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, UNK
from pipeline.models.decoding.beam_search import Hypothesis, beam_search
from pipeline.models.decoding.decoder import Memory
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import AttentionMap, ImageData, Sample
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

NO_TOKEN = -1.0  # in the place of a token past the end of a text
NO_SCORE = float("-inf")  # in the place of the score of a text that there is not
UNKNOWN_WORD = "\N{REPLACEMENT CHARACTER}"
NEVER = (PAD, UNK, BEGIN)


class Seq2SeqTask(Task):
    """Cross entropy over each token of the target given those before it; figures of what beam
    search finds.

    A text is judged as its tokens spell it: byte-level BPE gives back what it was given, but for
    what `corpus.replace` and Unicode's composition (NFC) change. Where tokens are whole words, one
    that is not known stands in a reference as a word that nothing equals.
    """

    sums = ("loss", "tokens", "nll", "correct", "padded")
    best = "bleu"
    libraries = ("sacrebleu", "tokenizers")
    reads: ClassVar[str]
    """The field that is read."""
    writes: ClassVar[str]
    """What a person calls the text that is written."""
    vocabulary = "tokenizer"
    """That of the target."""

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.settings, self.model, self.data = settings, model, data

    @abstractmethod
    def limits(self, lengths: Tensor) -> Tensor:
        """Lengths [B] of what is read -> how many tokens a text of it may have [B], </s> too."""

    @abstractmethod
    def shown(self, batch: Batch, row: int) -> dict[str, Any]:
        """What a person wants to see of what was read."""

    @abstractmethod
    def read(self, batch: Batch, row: int) -> dict[str, Any]:
        """Of `AttentionMap`, what says where the decoder looked."""

    def picture(self, batch: Batch, row: int) -> ImageData | None:
        """What was read, if it is an image."""
        return None

    @abstractmethod
    def figures(
        self, written: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics of texts, each beside all that would be right, and the signatures of some."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        target = _texts(_target(batch))  # [N, T']
        rows = torch.arange(len(target), device=target.device) % len(batch.weights)  # [N]
        wanted = ((target != PAD) & (batch.weights > 0)[rows, None]).t()  # [T', N]
        answers = target.t()[wanted]  # [n]
        read = batch.columns[self.reads]
        scores = model(read, batch.lengths, *_fed(target), batch.keys, wanted)  # [n, V]
        log_p, of_answers, correct = _judged(scores, answers)
        nll, share = -of_answers.sum(), self.settings.label_smoothing
        loss = (1 - share) * nll - share / scores.shape[1] * log_p.sum() if share else nll
        told = (wanted.sum(), nll.detach(), correct.sum(), loss.new_full((), target.numel()))
        return torch.stack([loss, *(x.to(loss) for x in told)])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """`target_padding` is the share of the decoder's steps that are padding; the stream counts
        what is read."""
        loss, tokens, nll, correct, padded = sums
        return {
            "loss": loss / tokens,
            "perplexity": _perplexity(nll / tokens),
            "accuracy": correct / tokens,
            "target_padding": 1 - tokens / padded,
        }

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, 2 + Q * (1 + L)]: of the target, where it is known, minus the log-probability and
        the tokens that are the likeliest where they stand; then of each text that was found, the
        best first, its score and its tokens, NO_TOKEN past their end. Rows of weight 0 have none."""
        assert isinstance(model, EncoderDecoder)
        rows = torch.nonzero(batch.weights > 0).flatten()
        found: list[list[Hypothesis]] = []
        told = torch.zeros(len(batch.weights), 2, dtype=torch.float64)
        if len(rows):
            read, lengths, keys = (
                x[rows] for x in (batch.columns[self.reads], batch.lengths, batch.keys)
            )
            memory = model.encode(read, lengths, keys)
            if "target" in batch.columns:
                target = _texts(_target(batch)[rows])  # [N, T']
                features = model.decoder(*_fed(target), keys, memory)  # [T', N, P]
                wanted = (target != PAD).t()
                _, log_p, correct = _judged(
                    model.decoder.scores(features[wanted]), target.t()[wanted]
                )
                figures = torch.stack([-log_p.double(), correct.double()], 1)  # [n, 2]
                summed = figures.new_zeros(len(rows), 2).index_add_(
                    0, wanted.nonzero()[:, 1] % len(rows), figures
                )
                told[rows.cpu()] = summed.cpu()
            found = self._search(model, memory, lengths)
        longest = max((len(h.tokens) for of_row in found for h in of_row), default=0)
        written = torch.full(
            (len(told), self.settings.n_best, 1 + longest), NO_TOKEN, dtype=told.dtype
        )
        written[..., 0] = NO_SCORE
        for row, of_row in zip(rows.tolist(), found, strict=True):
            for k, h in enumerate(of_row):
                written[row, k, : 1 + len(h.tokens)] = torch.tensor(
                    [h.score, *h.tokens], dtype=told.dtype
                )
        return torch.cat([told, written.flatten(1)], 1).to(batch.weights.device)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [4]: the loss and the right tokens, if what stands before is the target;
        how many tokens and rows there are."""
        weights = batch.weights.double()
        lengths = (_target(batch) != PAD).sum(1)
        figures = torch.cat([outputs[:, :2], lengths[:, None], torch.ones_like(outputs[:, :1])], 1)
        tally = weights @ figures
        mistakes: list[Mistake] = []
        rows = torch.nonzero(batch.weights > 0).flatten().tolist()
        for row, (written, *references) in zip(rows, self.texts(outputs, batch), strict=True):
            if written not in references:
                shown = {
                    **self.shown(batch, row),
                    self.writes: written,
                    "reference": "\n".join(references),
                }
                loss = (outputs[row, 0] / lengths[row]).item()
                mistakes.append(Mistake(loss, [], shown, self.picture(batch, row)))
        return tally, mistakes

    def texts(self, outputs: Tensor, batch: Batch) -> list[tuple[str, ...]]:
        whole = batch.weights > 0
        return [
            (found[0][1] if found else "", *self._each(target))
            for found, target in zip(
                self._found(outputs[whole]), _target(batch)[whole].tolist(), strict=True
            )
        ]

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        loss, correct, tokens, rows = tally.tolist()
        written, references = [w for w, *_ in texts], [r for _, *r in texts]
        metrics, signatures = self.figures(written, references) if texts else ({}, {})
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
        """The best text; if more are asked for, all of them."""
        found = []
        for texts in self._found(outputs):
            told = [{self.writes: text, "score": round(score, 6)} for score, text in texts]
            if told:
                found.append(told[0] | ({"best": told} if self.settings.n_best > 1 else {}))
            else:  # no score was finite
                found.append({"error": "the model makes no number of it"})
        return found

    def show(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """The best text of each row, and what of it was looked at for each token."""
        assert isinstance(model, EncoderDecoder)
        memory = model.encode(batch.columns[self.reads], batch.lengths, batch.keys)
        samples = []
        for row, of_row in enumerate(self._search(model, memory, batch.lengths)):
            if not of_row:  # as its scores were not finite
                continue
            best, references = of_row[0], self._each(batch.columns["target"][row].tolist())
            texts = {
                **self.shown(batch, row),
                self.writes: self._text(best.tokens),
                "reference": "\n".join(references),
            }
            written = [self._text([token]).strip() for token in best.tokens]
            attention = AttentionMap.of(written, best.weights, **self.read(batch, row))
            samples.append(Sample(texts, self.picture(batch, row), attention))
        return samples

    def _search(
        self, model: EncoderDecoder, memory: Memory, lengths: Tensor
    ) -> list[list[Hypothesis]]:
        s = self.settings
        return beam_search(
            model.step, memory, self.limits(lengths), begin=BEGIN, end=END, suppress_tokens=NEVER,
            beam_size=s.beam_size, n_best=s.n_best, alpha=s.length_penalty,
        )  # fmt: skip

    def _found(self, outputs: Tensor) -> list[list[tuple[float, str]]]:
        """The score and the text of each hypothesis of some rows."""
        written = outputs[:, 2:].unflatten(1, (self.settings.n_best, -1)).tolist()
        return [
            [(score, self._text(map(int, ids))) for score, *ids in of_row if score != NO_SCORE]
            for of_row in written
        ]

    def _each(self, target: Sequence[int]) -> list[str]:
        """The texts of a target."""
        ends = [place for place, token in enumerate(target) if token == END]
        starts = [0, *(end + 1 for end in ends)]
        return [self._text(target[a:b]) for a, b in zip(starts, ends, strict=False)]

    def _text(self, ids: Iterable[int]) -> str:
        """Of target tokens and what fills them up."""
        known: list[list[int]] = [[]]
        for token in ids:
            if token == UNK:
                known.append([])
            elif token not in (NO_TOKEN, PAD, END):
                known[-1].append(token)
        parts = [self.data.decode(self.vocabulary, some) for some in known]
        return parts[0] if len(parts) == 1 else f" {UNKNOWN_WORD} ".join(parts).strip()


def streams(references: Sequence[Sequence[str]]) -> list[Any]:
    """The references of each text -> the first of all, the second of all, ..., as sacrebleu takes
    them; None where a text has fewer."""
    return [list(stream) for stream in zip_longest(*references)]


def _target(batch: Batch) -> Tensor:
    """[B, G], a column at least, even where all rows only fill up the shape."""
    target = batch.columns["target"]
    return target if target.shape[1] else functional.pad(target, (0, 1), value=PAD)


def _texts(target: Tensor) -> Tensor:
    """The texts [N, T'] of targets [B, G]; a row that has fewer than others has empty ones."""
    known, ends = target != PAD, target == END
    number = ends.cumsum(1) - ends.long()  # [B, G] which of the row's texts a token is of
    place = torch.arange(target.shape[1], device=target.device).expand_as(target)
    start = functional.pad(torch.where(ends, place + 1, 0), (1, 0))[:, :-1].cummax(1).values
    place = place - start  # [B, G] in that text
    count, longest = (int(x[known].max()) + 1 if known.any() else 1 for x in (number, place))
    texts = target.new_full((count, len(target), longest), PAD)  # [K, B, T']
    texts[number[known], known.nonzero()[:, 0], place[known]] = target[known]
    return texts.flatten(0, 1)


def _fed(target: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder reads for texts [N, T']: the token before each, <s> before the first, and
    how many there are."""
    return functional.pad(target[:, :-1], (1, 0), value=BEGIN), (target != PAD).sum(1).clamp(min=1)


def _judged(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [n, V] of what the answers [n] ought to be -> the log-probabilities [n, V], those of
    the answers [n], and whether none is greater [n], which is far quicker to say than which one."""
    log_p = scores.log_softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32))
    of_answers = log_p.gather(1, answers[:, None])[:, 0]
    return log_p, of_answers, of_answers.detach() >= log_p.detach().amax(1)


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # beyond that no float is large enough
