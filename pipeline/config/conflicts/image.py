"""Rules for tasks whose input is an image."""

from collections.abc import Iterator
from math import prod

from pipeline.config.conflicts.rule import MAX_ROW_TOKENS, Conflict, is_default, unused
from pipeline.config.schema import Config
from pipeline.corpus.fields.images import plane
from pipeline.corpus.settings import TEXT_INPUT_KEYS, TEXT_KEYS, CorpusSettings


def image_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with image input."""
    corpus, task = config.corpus, config.task.name
    for name in TEXT_INPUT_KEYS + (TEXT_KEYS if task == "images" else ()):
        if not is_default(corpus, name):
            yield Conflict(
                f"corpus.{name}",
                f"applies only to texts and would be ignored with task.name={task}",
                "remove it or change task.name",
            )
    if corpus.format in ("conll", "conllu"):
        yield Conflict(
            "corpus.format", f"is a format of tagged words, but the task is {task}", "remove it"
        )
    if corpus.features:
        yield from _feature_conflicts(config)
    else:
        yield from _pixel_conflicts(corpus, task)


def _feature_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield settings of pixels, where images are features that another network computed."""
    for section_name, section, name in (
        ("corpus", config.corpus, "image_size"),
        ("corpus", config.corpus, "channels"),
        ("model", config.model, "convolutions"),
    ):
        if not is_default(section, name):
            yield Conflict(
                f"{section_name}.{name}",
                f"applies to pixels, but images are features "
                f"(corpus.features={config.corpus.features})",
                "remove one of the two",
            )


def _pixel_conflicts(corpus: CorpusSettings, task: str) -> Iterator[Conflict]:
    side, size = corpus.patch, corpus.image_size
    if corpus.step != "patch" and not is_default(corpus, "patch"):
        yield unused("corpus.patch", "corpus.step", ["patch"], corpus.step)
    if not size:
        yield Conflict(
            "corpus.image_size",
            f"is empty, but the number of steps of an image depends on it (task.name={task})",
            "set height and width in pixels, such as [28, 28]",
        )
    elif corpus.step == "patch" and any(pixels % side for pixels in size):
        yield Conflict(
            "corpus.patch",
            f"patches of {side} x {side} pixels do not divide corpus.image_size={size} evenly",
            "set a divisor of height and width",
        )
    elif (steps := prod(plane(corpus))) > corpus.max_tokens:
        fits = steps <= MAX_ROW_TOKENS
        remedy = (
            f"set {steps}" if fits else "set a smaller corpus.image_size or another corpus.step"
        )
        yield Conflict(
            "corpus.max_tokens",
            f"an image has {steps} steps (corpus.image_size={size}, corpus.step={corpus.step}) and "
            f"is not truncated",
            remedy,
        )
