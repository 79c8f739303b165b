"""Tagging of words: entities, chunks, parts of speech (many-to-many, step by step)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import bio_spans
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.settings import ModelSettings
from pipeline.models.tagger import Tagger
from pipeline.stream.batch import Batch
from pipeline.tasks.metrics import entity_f1
from pipeline.tasks.sample import Sample, TextSpan
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents, Evaluation, Mistake, Task

NO_TAG = 0  # in `outputs`, past the end of a row; there the tags count from 1


class Tagging(Task):
    """The likelihood of a row's tags; where they are BIO or BIOES, F1 over the entities that they
    mark, as seqeval and conlleval count them, else the share of right tags.

    Legend: B rows of a batch, T words of the longest, C tags, L labels of entities.
    """

    sums = ("loss", "words")
    prediction_overrides = MappingProxyType({"overflow": "split"})  # every word is asked for

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        self.settings, self.model = settings, model
        self.vocabulary, self.tags = data.vocabularies["tokenizer"], list(data.names["tags"])
        self.scheme = bio_spans.scheme(self.tags)
        self.labels = bio_spans.labels(self.tags) if self.scheme else []
        self.best = "f1" if self.scheme else "accuracy"

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "words"),
            FieldSpec("characters", corpus.text, "characters", width=corpus.word_bytes),
            FieldSpec("tags", corpus.label, "tags"),
        )

    def build(self) -> nn.Module:
        allowed = torch.from_numpy(bio_spans.allowed(self.tags)) if self.scheme else None
        return Tagger(self.model, self.vocabulary, len(self.tags), allowed)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        losses = model(*_given(batch), batch.columns["tags"]) * batch.weights
        return torch.stack([losses.sum(), (batch.lengths * batch.weights).sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, words = sums
        return {"loss": loss / words}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, T, 2]: the likeliest tag of each word, from 1 on, NO_TAG past the end, and its share of
        the row's loss, where the tags are known."""
        assert isinstance(model, Tagger)
        emissions = model.emissions(*_given(batch))  # [T, B, C]
        tags = model.scorer.decode(emissions, batch.lengths)  # [B, T]
        inside = torch.arange(tags.shape[1], device=tags.device) < batch.lengths[:, None]
        losses = torch.zeros(len(tags), device=tags.device)
        if "tags" in batch.columns:
            losses = model.scorer.nll(emissions, batch.columns["tags"].t(), batch.lengths)
        shares = (losses / batch.lengths)[:, None] * inside
        return torch.stack([(tags + 1).masked_fill(~inside, NO_TAG).double(), shares.double()], -1)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """The tally is [C * C + 3 * L + 2]: the confusion matrix of words (true, predicted); of
        each label how many entities there are, are predicted and are right; the loss and the rows.
        """
        counts = torch.zeros(len(self.tags) ** 2, dtype=torch.float64)
        entities = {label: entity_f1.Counts() for label in self.labels}
        mistakes: list[Mistake] = []
        loss = rows = 0.0
        weights, lengths = batch.weights.tolist(), batch.lengths.tolist()
        truths, outputs = batch.columns["tags"].cpu(), outputs.cpu()
        for i, (weight, length) in enumerate(zip(weights, lengths, strict=True)):
            if not weight:
                continue
            true, predicted = truths[i, :length], outputs[i, :length, 0].long() - 1
            lost = outputs[i, :length, 1].sum().item()
            loss, rows = loss + lost, rows + 1
            counts += torch.bincount(true * len(self.tags) + predicted, minlength=len(counts))
            pair = self._named(true.tolist()), self._named(predicted.tolist())
            if self.scheme:
                for label, found in entity_f1.count([pair]).items():
                    entities[label] += found
            if pair[0] != pair[1]:
                words = _words(batch.columns["characters"][i, :length])
                shown = (self._marked(words, tags) for tags in pair)
                mistakes.append(
                    Mistake(lost, [], dict(zip(("true", "predicted"), shown, strict=True)))
                )
        told = [x for c in entities.values() for x in (c.true, c.predicted, c.correct)]
        rest = torch.tensor([*told, loss, rows], dtype=torch.float64)
        return torch.cat([counts, rest]).to(batch.weights.device), mistakes

    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        size = len(self.tags) ** 2
        table = tally[:size].view(len(self.tags), -1)
        *told, loss, rows = tally[size:].tolist()
        words = table.sum().item()
        metrics = {
            "examples": int(rows),
            "loss": loss / words,
            "accuracy": table.diagonal().sum().item() / words,
        }
        if self.scheme:
            triples = zip(told[::3], told[1::3], told[2::3], strict=True)
            counts = (entity_f1.Counts(*map(int, triple)) for triple in triples)
            scores = entity_f1.f1(dict(zip(self.labels, counts, strict=True)))
            metrics |= {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
        return Evaluation(metrics, table.long().tolist(), self.tags, counted="words")

    def show(self, model: nn.Module, batch: Batch) -> list[Sample]:
        found = self.outputs(model, batch)[..., 0].long() - 1  # [B, T]
        samples = []
        for i, length in enumerate(batch.lengths.tolist()):
            words = _words(batch.columns["characters"][i, :length])
            true, predicted = (
                self._named(tags[i, :length].tolist()) for tags in (batch.columns["tags"], found)
            )
            samples.append(
                Sample(
                    {
                        "true": self._pieces(words, true, predicted),
                        "predicted": self._pieces(words, predicted, true),
                    }
                )
            )
        return samples

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        words = line.split()
        return {"tokens": words, "characters": words}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row, values in zip(outputs[..., 0].long().tolist(), given, strict=True):
            tags = self._named([tag - 1 for tag in row if tag != NO_TAG])
            words = values["tokens"]
            if self.scheme:
                entities = [
                    {"label": s.label, "text": " ".join(words[s.start : s.stop]), **_places(s)}
                    for s in bio_spans.spans(tags)
                ]
                found.append({"spans": entities})
            else:
                found.append({"tags": [list(pair) for pair in zip(words, tags, strict=True)]})
        return found

    def _named(self, tags: Sequence[int]) -> list[str]:
        return [self.tags[tag] for tag in tags]

    def _marked(self, words: Sequence[str], tags: Sequence[str]) -> str:
        """Words as a person reads them: [NP The film] is good, or The/DET film/NOUN."""
        form = "[{0.label} {0.text}]" if self.scheme else "{0.text}/{0.label}"
        pieces = self._pieces(words, tags, tags)
        return " ".join(form.format(piece) if piece.label else piece.text for piece in pieces)

    def _pieces(
        self, words: Sequence[str], tags: Sequence[str], others: Sequence[str]
    ) -> list[TextSpan]:
        """Words marked by their tags, wrong where the other tags of the same words disagree."""
        if not self.scheme:
            pairs = zip(words, tags, others, strict=True)
            return [TextSpan(word, tag, tag != other) for word, tag, other in pairs]
        stop, right = 0, set(bio_spans.spans(others))
        pieces: list[TextSpan] = []
        for span in bio_spans.spans(tags):
            pieces += [TextSpan(word) for word in words[stop : span.start]]
            marked = " ".join(words[span.start : span.stop])
            pieces.append(TextSpan(marked, span.label, span not in right))
            stop = span.stop
        return [*pieces, *(TextSpan(word) for word in words[stop:])]


def _given(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the model reads."""
    columns = batch.columns
    return columns["tokens"], columns["characters"], batch.lengths, batch.keys


def _words(characters: Tensor) -> list[str]:
    """[T, F] -> the words that the bytes spell, as far as they were kept."""
    return [bytes(word).rstrip(b"\0").decode("utf-8", "replace") for word in characters.tolist()]


def _places(span: bio_spans.Span) -> dict[str, int]:
    return {"start": span.start, "stop": span.stop}
