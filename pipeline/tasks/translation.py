"""Translation of a text into another language (many-to-many, encoder-decoder)."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.target import TargetField
from pipeline.corpus.fields.kinds.text import TextField
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.decoding.decoder import Decoder
from pipeline.models.encoder import encoder_class
from pipeline.models.translator import Translator
from pipeline.settings import Conflict, Sections, same_column, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.seq2seq import Seq2SeqTask, reference_streams
from pipeline.tasks.base.task import DatasetInfo

EXTRA_TOKENS = 10
"""Target tokens allowed on top of `task.max_length_ratio` times the source's."""


class Vocabularies:
    """In `Component.uses`, adds the choice between one vocabulary and two."""

    class Settings(CorpusSettings):
        shared_vocab: bool = setting(
            True, "use one vocabulary for both languages instead of one for each"
        )


class Translation(Seq2SeqTask):
    """Evaluated by BLEU and chrF, as computed by sacrebleu."""

    class Settings(Seq2SeqTask.Settings):
        max_length_ratio: float = setting(
            3.0, "maximum target tokens per source token, plus 10", gt=0, may_change=True
        )

    uses = (Translator, Decoder, TextField, TargetField, Vocabularies)
    input_field, output_name = "source", "translation"
    reported = MappingProxyType(
        {"loss": False, "perplexity": False, "accuracy": True, "chrf": True}
    )

    def __init__(self, settings: Settings, model: Translator.Settings, data: DatasetInfo) -> None:
        super().__init__(settings, model, data)
        self.shared_vocab = "tokenizer" in data.vocabularies
        self.source_vocabulary, self.vocabulary = _vocabulary_names(self.shared_vocab)

    @classmethod
    def defaults(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"corpus.lowercase": False, "corpus.overflow": "drop"}

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from super().conflicts(config)
        yield from same_column(config, "target", "text")
        corpus = config.corpus
        if not encoder_class(config.model).has_state:
            yield Conflict(
                "model.encoder",
                "returns no final states, from which the decoder starts",
                "set another encoder",
            )
        if corpus.overflow != "drop":
            yield Conflict(
                "corpus.overflow",
                "would pair a part of the source text with the whole target",
                "set drop",
            )
        if corpus.lowercase:
            yield Conflict(
                "corpus.lowercase",
                "translations would be lowercase, and so would the references of BLEU",
                "set false",
            )
        if corpus.level == "word":
            yield Conflict(
                "corpus.level",
                "references would lose their unknown words, and BLEU would ignore them",
                "set subword",
            )
        if corpus.tokenizer and not corpus.shared_vocab:
            yield Conflict(
                "corpus.shared_vocab",
                f"means one vocabulary per language, but corpus.tokenizer={corpus.tokenizer} is "
                f"one for both",
                "set true or remove corpus.tokenizer",
            )

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
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

    def line(self, batch: Batch, row: int, data: DatasetInfo) -> str:
        return str(self.input_details(batch, row)["source"])

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"source": line}


def _source_tokens(batch: Batch, row: int) -> list[int]:
    return batch.columns["source"][row, : batch.lengths[row]].tolist()


def _vocabulary_names(shared: bool) -> tuple[str, str]:
    """Return the names of the source's and the target's vocabulary."""
    return ("tokenizer", "tokenizer") if shared else ("source", "target")
