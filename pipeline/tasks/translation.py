"""Translation: texts to texts of another length (many-to-many, encoder and decoder)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator
from pipeline.stream.batch import Batch
from pipeline.tasks.seq2seq import Seq2SeqTask, streams
from pipeline.tasks.settings import TaskSettings
from pipeline.tasks.task import Contents

MORE = 10  # tokens that a translation may have beside those that its source allows it


class Translation(Seq2SeqTask):
    """Judged by BLEU and chrF, as sacrebleu counts them."""

    reads, writes = "source", "translation"

    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None:
        super().__init__(settings, model, data)
        self.joint = "tokenizer" in data.vocabularies
        self.source, self.vocabulary = _vocabularies(self.joint)

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        source, target = _vocabularies(corpus.shared_vocab)
        return (
            FieldSpec("source", corpus.text, "text", vocabulary=source),
            FieldSpec("target", corpus.target, "target", vocabulary=target),
        )

    def build(self) -> nn.Module:
        source, target = (self.data.vocabularies[name] for name in (self.source, self.vocabulary))
        return Translator(self.model, source, None if self.joint else target)

    def limits(self, lengths: Tensor) -> Tensor:
        return (lengths * self.settings.max_length_ratio).long() + MORE

    def shown(self, batch: Batch, row: int) -> dict[str, Any]:
        source = batch.columns["source"][row, : batch.lengths[row]].tolist()
        return {"source": self.data.decode(self.source, source)}

    def read(self, batch: Batch, row: int) -> dict[str, Any]:
        source = batch.columns["source"][row, : batch.lengths[row]].tolist()
        return {"read": [self.data.decode(self.source, [token]).strip() for token in source]}

    def figures(
        self, written: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        from sacrebleu import BLEU, CHRF

        counts = {"bleu": BLEU(tokenize=self.settings.bleu_tokenizer, force=True), "chrf": CHRF()}
        right = streams(references)
        metrics = {name: count.corpus_score(written, right).score for name, count in counts.items()}
        return metrics, {name: str(count.get_signature()) for name, count in counts.items()}

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"source": line}


def _vocabularies(joint: bool) -> tuple[str, str]:
    """The names of the source's and the target's."""
    return ("tokenizer", "tokenizer") if joint else ("source", "target")
