"""Tagging: one tag per word, e.g. for entities or parts of speech (many-to-many, aligned)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.kinds.characters import CharactersField
from pipeline.corpus.fields.kinds.tags import TagsField
from pipeline.corpus.fields.kinds.words import WordsField
from pipeline.corpus.fields.text_lists import split_words
from pipeline.models.layers.masks import mean_over_steps
from pipeline.models.settings import Pretrained
from pipeline.models.tagger import Tagger
from pipeline.settings import Conflict, Sections, same_column
from pipeline.stream.batch import Batch
from pipeline.tasks.base import entity_f1
from pipeline.tasks.base.abilities import Embeds
from pipeline.tasks.base.confusion import Confusion
from pipeline.tasks.base.sample import Sample, TextSpan
from pipeline.tasks.base.settings import TaskSettings
from pipeline.tasks.base.task import Baseline, DatasetInfo, Evaluation, Mistake, Task

NO_TAG = 0
"""Padding in `outputs`, where tags are counted from 1."""
UNKNOWN = ""
"""Represents all entity labels that the dataset lacks."""


class Tagging(Task, Embeds):
    """Trained with the negative log-likelihood of a row's tags. If the tags are BIO or BIOES,
    evaluated by F1 over entities, as seqeval and conlleval compute it; else by accuracy over words.

    A tag that the dataset lacks is one that the model misses: its word is wrong, and so is its
    entity, even if the model knows the entity's label. Sentences with such tags have no loss.

    Shapes: B rows of a batch, T words of the longest row, W bytes kept of a word, C tags, L entity
    labels.
    """

    uses = (Tagger, Pretrained, WordsField, CharactersField, TagsField)
    sum_names = ("loss", "words")
    row_metric = "accuracy"
    counts_unknown_labels = True
    prediction_overrides = MappingProxyType({"overflow": "split"})  # so that every word gets a tag

    def __init__(self, settings: TaskSettings, model: Tagger.Settings, data: DatasetInfo) -> None:
        self.settings, self.model = settings, model
        self.vocabulary, self.tags = data.vocabularies["tokenizer"], list(data.names["tags"])
        self.confusion = Confusion(self.tags, data.counts.get("tags", ()))
        self.scheme = bio_spans.scheme(self.tags)
        self.labels = bio_spans.labels(self.tags) if self.scheme else []
        self.best_metric = "f1" if self.scheme else "accuracy"
        entities = ("precision", "recall", "f1") if self.scheme else ()
        self.reported = {"loss": False} | dict.fromkeys(("accuracy", *entities), True)

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from same_column(config, "label", "text")
        if config.model.init_from and config.model.word_vectors:
            yield Conflict(
                "model.word_vectors",
                "model.init_from already provides the embedding",
                "remove one of the two",
            )

    @staticmethod
    def example(corpus: Any) -> str:
        return "'EU rejects German call .'"

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "words"),
            FieldSpec("characters", corpus.text, "characters", width=corpus.word_bytes),
            FieldSpec("tags", corpus.label, "tags"),
        )

    def build(self) -> nn.Module:
        allowed = torch.from_numpy(bio_spans.allowed(self.tags)) if self.scheme else None
        return Tagger(self.model, self.vocabulary, len(self.tags), allowed)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        losses = model(*_model_inputs(batch), batch.columns["tags"]) * batch.weights
        return torch.stack([losses.sum(), (batch.lengths * batch.weights).sum()])

    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        loss, words = sums
        return {"loss": loss / words}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return [B, T, 2]: the best tag of each word, counted from 1 and padded with NO_TAG, and
        the word's share of the row's loss, 0 without true tags or with unknown ones."""
        assert isinstance(model, Tagger)
        emissions = model.emissions(*_model_inputs(batch))  # [T, B, C]
        tags = model.scorer.decode(emissions, batch.lengths)  # [B, T]
        valid = torch.arange(tags.shape[1], device=tags.device) < batch.lengths[:, None]
        losses = torch.zeros(len(tags), device=tags.device)
        if "tags" in batch.columns:
            true = batch.columns["tags"]
            known = true < len(self.tags)
            losses = model.scorer.nll(emissions, (true * known).t(), batch.lengths) * known.all(1)
        shares = (losses / batch.lengths)[:, None] * valid
        return torch.stack([(tags + 1).masked_fill(~valid, NO_TAG).double(), shares.double()], -1)

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean state of each row's words [B, P]."""
        assert isinstance(model, Tagger)
        return mean_over_steps(model.states(*_model_inputs(batch)), batch.lengths)

    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums and the mistakes.

        The sums are those of `Confusion` over words; for each label, and for all unknown ones, the
        numbers of true, predicted and correct entities; the summed loss, the number of rows, and
        the number of words in rows that have a loss.
        """
        none = torch.zeros(0, dtype=torch.int64)
        pairs = [(none, none)]
        entities = {label: entity_f1.Counts() for label in [*self.labels, UNKNOWN]}
        mistakes: list[Mistake] = []
        loss = rows = known_words = 0.0
        weights, lengths = batch.weights.tolist(), batch.lengths.tolist()
        true_tags, outputs = batch.columns["tags"].cpu(), outputs.cpu()
        for i, (weight, length) in enumerate(zip(weights, lengths, strict=True)):
            if not weight:
                continue
            true, predicted = true_tags[i, :length], outputs[i, :length, 0].long() - 1
            row_loss = outputs[i, :length, 1].sum().item()
            if bool(
                (true < len(self.tags)).all()
            ):  # of a split sentence, some segments may have a loss
                loss, known_words = loss + row_loss, known_words + length
            rows += 1
            pairs.append((true, predicted))
            pair = self._tag_names(true.tolist()), self._tag_names(predicted.tolist())
            if self.scheme:
                for label, label_counts in entity_f1.count([pair]).items():
                    entities[label if label in entities else UNKNOWN] += label_counts
            if not torch.equal(true, predicted):
                words = _words(batch.columns["characters"][i, :length])
                formatted = (self._format(words, tags) for tags in pair)
                details = dict(zip(("true", "predicted"), formatted, strict=True))
                mistakes.append(Mistake(row_loss, [], details))
        all_true, all_predicted = (torch.cat(tags) for tags in zip(*pairs, strict=True))
        confusion = self.confusion.sums(all_true, all_predicted, torch.ones(len(all_true)))
        per_label = [x for c in entities.values() for x in (c.true, c.predicted, c.correct)]
        rest = torch.tensor([*per_label, loss, rows, known_words], dtype=torch.float64)
        return torch.cat([confusion, rest]).to(batch.weights.device), mistakes

    def row_values(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the share of each row's words whose tag is correct [B]."""
        true = batch.columns["tags"]
        valid = torch.arange(true.shape[1], device=true.device) < batch.lengths[:, None]
        correct = (outputs[..., 0].long() - 1 == true) & valid
        return correct.sum(1) / batch.lengths

    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        counts = self.confusion.unpack(sums[: self.confusion.size])
        *per_label, loss, rows, known_words = sums[self.confusion.size :].tolist()
        words = (counts.true.sum() + counts.unknown).item()
        metrics = {
            "examples": int(rows),
            "loss": loss / known_words if known_words else math.nan,
            "accuracy": counts.correct.sum().item() / words,
        }
        if self.scheme:
            triples = zip(per_label[::3], per_label[1::3], per_label[2::3], strict=True)
            entities = (entity_f1.Counts(*map(int, triple)) for triple in triples)
            scores = entity_f1.f1(dict(zip([*self.labels, UNKNOWN], entities, strict=True)))
            metrics |= {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
        largest = self.confusion.largest(counts.true)
        share = counts.true[largest].item() / words
        return Evaluation(
            metrics,
            counts.table.long().tolist(),
            self.confusion.labels,
            left_out=self.confusion.left_out,
            confusion_unit="words",
            baseline=Baseline("accuracy", share, repr(self.tags[largest])),
        )

    def samples(self, model: nn.Module, batch: Batch) -> list[Sample]:
        predicted_tags = self.outputs(model, batch)[..., 0].long() - 1  # [B, T]
        samples = []
        for i, length in enumerate(batch.lengths.tolist()):
            words = _words(batch.columns["characters"][i, :length])
            true, predicted = (
                self._tag_names(tags[i, :length].tolist())
                for tags in (batch.columns["tags"], predicted_tags)
            )
            samples.append(
                Sample(
                    {
                        "true": self._text_spans(words, true, predicted),
                        "predicted": self._text_spans(words, predicted, true),
                    }
                )
            )
        return samples

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        words = split_words(line)
        return {"tokens": words, "characters": words}

    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the entities of each document as `spans`; if the tags mark none, return `tags`:
        pairs of a word and its tag."""
        predictions: list[dict[str, Any]] = []
        for row, values in zip(outputs[..., 0].long().tolist(), given, strict=True):
            tags = self._tag_names([tag - 1 for tag in row if tag != NO_TAG])
            words = values["tokens"]
            if self.scheme:
                entities = [
                    {
                        "label": span.label,
                        "text": " ".join(words[span.start : span.stop]),
                        "start": span.start,
                        "stop": span.stop,
                    }
                    for span in bio_spans.spans(tags)
                ]
                predictions.append({"spans": entities})
            else:
                predictions.append({"tags": [list(pair) for pair in zip(words, tags, strict=True)]})
        return predictions

    def prediction_types(self) -> dict[str, Any]:
        if not self.scheme:
            return {"tags": [[str]]}
        return {"spans": [{"label": str, "text": str, "start": int, "stop": int}]}

    def _tag_names(self, tags: Sequence[int]) -> list[str]:
        """Return the names of tags. With entities, O replaces an unknown tag that marks none."""
        size = len(self.tags)
        names = [
            self.tags[tag] if tag < size else self.unknown_names["tags"][tag - size] for tag in tags
        ]
        if not self.scheme:
            return names
        return [name if bio_spans.TAG.fullmatch(name) else "O" for name in names]

    def _format(self, words: Sequence[str], tags: Sequence[str]) -> str:
        """Format tagged words as text: [NP The film] is good, or The/DET film/NOUN."""
        template = "[{0.label} {0.text}]" if self.scheme else "{0.text}/{0.label}"
        spans = self._text_spans(words, tags, tags)
        return " ".join(template.format(span) if span.label else span.text for span in spans)

    def _text_spans(
        self, words: Sequence[str], tags: Sequence[str], other_tags: Sequence[str]
    ) -> list[TextSpan]:
        """Group words into labeled spans by their tags. A span that `other_tags` lack is wrong."""
        if not self.scheme:
            triples = zip(words, tags, other_tags, strict=True)
            return [TextSpan(word, tag, tag != other) for word, tag, other in triples]
        stop, correct = 0, set(bio_spans.spans(other_tags))
        text_spans: list[TextSpan] = []
        for span in bio_spans.spans(tags):
            text_spans += [TextSpan(word) for word in words[stop : span.start]]
            text = " ".join(words[span.start : span.stop])
            text_spans.append(TextSpan(text, span.label, span not in correct))
            stop = span.stop
        return [*text_spans, *(TextSpan(word) for word in words[stop:])]


def _model_inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    columns = batch.columns
    return columns["tokens"], columns["characters"], batch.lengths, batch.keys


def _words(characters: Tensor) -> list[str]:
    """Decode the bytes of words [T, W]. Long words were truncated to W bytes."""
    return [bytes(word).rstrip(b"\0").decode("utf-8", "replace") for word in characters.tolist()]
