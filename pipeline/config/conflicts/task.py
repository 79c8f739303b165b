"""Rules for the tasks, except for image input."""

from collections.abc import Iterator

from pipeline.config.conflicts.rule import (
    MAX_ROW_TOKENS,
    Conflict,
    input_column,
    input_key,
    is_default,
    tokens_per_batch,
    unused,
)
from pipeline.config.messages import as_yaml
from pipeline.config.schema import Config
from pipeline.corpus import settings as corpus_settings
from pipeline.models import settings as model_settings
from pipeline.tasks import settings as task_settings

FORMAT_TASKS = {"images": "images", "captions": "captioning"}
"""Values of `corpus.format` that only one task reads."""
MIN_ADAPTIVE_HIDDEN = 64
"""Adaptive softmax scores the rarest tokens in `hidden // 16` dimensions."""


def task_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield the settings that the task would ignore."""
    task, corpus_format = config.task.name, config.corpus.format
    for section_name, section, tasks_by_key in (
        ("corpus", config.corpus, corpus_settings.KEY_TASKS),
        ("model", config.model, model_settings.KEY_TASKS),
        ("task", config.task, task_settings.KEY_TASKS),
    ):
        for name, tasks in tasks_by_key.items():
            if task not in tasks and not is_default(section, name):
                yield unused(f"{section_name}.{name}", "task.name", tasks, task)
    if corpus_format in FORMAT_TASKS and task != FORMAT_TASKS[corpus_format]:
        yield unused("corpus.format", "task.name", [FORMAT_TASKS[corpus_format]], task)


def language_modeling_conflicts(config: Config) -> Iterator[Conflict]:
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
            "corpus.drop_duplicates", "would remove repeated rows of a running text", "set false"
        )
    if corpus.max_tokens == MAX_ROW_TOKENS:
        yield Conflict(
            "corpus.max_tokens",
            f"leaves no room for the end-of-text token in a row of at most {MAX_ROW_TOKENS} tokens",
            f"set {MAX_ROW_TOKENS - 1}",
        )
    if model.bidirectional and not model.independent_directions:
        yield Conflict(
            "model.bidirectional",
            "would show the model the token that it predicts",
            "set false, or model.independent_directions=true for one language model per direction",
        )
    if model.cell == "grid_lstm":
        yield Conflict("model.cell", "keeps no recurrent state between updates", "set another cell")
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


def seq2seq_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with generating a target text."""
    corpus, stream, task = config.corpus, config.stream, config.task
    budget = tokens_per_batch(config)
    if corpus.target == input_column(config):
        yield Conflict(
            "corpus.target",
            f"is the same column as {input_key(config)}",
            "set the column that has the target texts",
        )
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
    if config.model.cell == "grid_lstm":
        yield Conflict("model.cell", "has no decoder", "set another cell")


def translation_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with translating whole texts and comparing them with references."""
    corpus = config.corpus
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
            f"means one vocabulary per language, but corpus.tokenizer={as_yaml(corpus.tokenizer)} "
            f"is one for both",
            "set true or remove corpus.tokenizer",
        )
