"""Translation of a text into another language (many-to-many, encoder-decoder)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator
from pipeline.stream.batch import Batch
from pipeline.tasks.seq2seq import Seq2SeqTask, reference_streams
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import DatasetInfo

EXTRA_TOKENS = 10
"""Target tokens allowed on top of `task.max_length_ratio` times the source's."""


class Translation(Seq2SeqTask):
    """Evaluated by BLEU and chrF, as computed by sacrebleu."""

    input_field, output_name = "source", "translation"

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: DatasetInfo) -> None:
        super().__init__(settings, model, data)
        self.shared_vocab = "tokenizer" in data.vocabularies
        self.source_vocabulary, self.vocabulary = _vocabulary_names(self.shared_vocab)

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        source, target = _vocabulary_names(corpus.shared_vocab)
        return (
            FieldSpec("source", corpus.text, "text", vocabulary=source),
            FieldSpec("target", corpus.target, "target", vocabulary=target),
        )

    def build(self) -> nn.Module:
        sizes = self.data.vocabularies
        target_size = None if self.shared_vocab else sizes[self.vocabulary]
        return Translator(self.model, sizes[self.source_vocabulary], target_size)

    def max_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths * self.settings.max_length_ratio).long() + EXTRA_TOKENS

    def input_details(self, batch: Batch, row: int) -> dict[str, Any]:
        return {"source": self.data.decode(self.source_vocabulary, _source_tokens(batch, row))}

    def attention_inputs(self, batch: Batch, row: int) -> dict[str, Any]:
        tokens = _source_tokens(batch, row)
        return {"read": [self.data.decode(self.source_vocabulary, [t]).strip() for t in tokens]}

    def text_metrics(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        from sacrebleu import BLEU, CHRF

        scorers = {"bleu": BLEU(tokenize=self.settings.bleu_tokenizer, force=True), "chrf": CHRF()}
        streams = reference_streams(references)
        metrics = {
            name: scorer.corpus_score(generated, streams).score for name, scorer in scorers.items()
        }
        return metrics, {name: str(scorer.get_signature()) for name, scorer in scorers.items()}

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"source": line}


def _source_tokens(batch: Batch, row: int) -> list[int]:
    return batch.columns["source"][row, : batch.lengths[row]].tolist()


def _vocabulary_names(shared: bool) -> tuple[str, str]:
    """Return the names of the source's and the target's vocabulary."""
    return ("tokenizer", "tokenizer") if shared else ("source", "target")
