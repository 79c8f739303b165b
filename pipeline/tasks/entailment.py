"""Classification of two texts, such as a premise and a hypothesis: one label for each pair."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.label import LabelField
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.special_tokens import PAD
from pipeline.models.pair_classifier import PairClassifier
from pipeline.models.settings import Pretrained
from pipeline.settings import Conflict, Sections, same_column, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.task import DatasetInfo
from pipeline.tasks.classification import Classification


class PairColumn:
    """In `Component.uses`, adds the column of the second text."""

    class Settings(CorpusSettings):
        text_pair: str = setting(
            "text_pair", "column of the second text, such as a hypothesis; corpus.text is the first"
        )


class Entailment(Classification):
    """Loss and metrics of `Classification`, for pairs of texts.

    Rows with the same first text are in the same split. Each of the texts is truncated to
    `corpus.max_tokens`.
    """

    uses = (PairClassifier, Pretrained, TextField, PairColumn, LabelField)
    streams_unprepared = False

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from super().conflicts(config)
        yield from same_column(config, "text_pair", "text")
        yield from same_column(config, "text_pair", "label")
        if config.corpus.overflow == "split":
            yield Conflict(
                "corpus.overflow", "would pair parts of the two texts", "set truncate or drop"
            )

    @staticmethod
    def example(corpus: Any) -> str:
        return "A man sleeps.\tA person rests."

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        return (
            FieldSpec("tokens", corpus.text, "text"),
            FieldSpec("pair", corpus.text_pair, "text"),
            FieldSpec("label", corpus.label, "label"),
        )

    def build(self) -> nn.Module:
        return PairClassifier(self.model, self.data.vocabularies["tokenizer"], len(self.labels))

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        """Parse two texts with a tab between them."""
        first, _, second = line.partition("\t")
        return {"tokens": first, "pair": second}

    def line(self, batch: Batch, row: int, data: DatasetInfo) -> str:
        """Return the two texts with a tab between them."""
        text = data.decode("tokenizer", self._text_tokens(batch, row))
        return f"{text}\t{self.details(batch, row)['text_pair']}"

    def details(self, batch: Batch, row: int) -> dict[str, Any]:
        pair = batch.columns["pair"][row]
        return {"text_pair": self.data.decode("tokenizer", pair[pair != PAD].tolist())}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(*_model_inputs(batch))
        return logits.float()

    def embed(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, PairClassifier)
        return model.pool_pair(*_model_inputs(batch)).float()


def _model_inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    pair = batch.columns["pair"]
    pair_lengths = (pair != PAD).sum(1).clamp(min=1)
    return batch.columns["tokens"], batch.lengths, batch.keys, pair, pair_lengths
