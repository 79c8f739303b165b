"""Rules for tasks whose input is an image."""

from collections.abc import Iterator

from pipeline.corpus.settings import MAX_ROW_TOKENS
from pipeline.settings import Conflict, Sections


def image_conflicts(config: Sections, steps: int) -> Iterator[Conflict]:
    """Yield conflicts with images of this number of steps, 0 if their size is not set."""
    corpus = config.corpus
    if not steps:
        yield Conflict(
            "corpus.image_size",
            f"is empty, but the number of steps of an image depends on it "
            f"(task.name={config.task.name})",
            "set height and width in pixels, such as [28, 28]",
        )
    elif steps > corpus.max_tokens:
        fits = steps <= MAX_ROW_TOKENS
        smaller = "set a smaller corpus.image_size or another corpus.step"
        yield Conflict(
            "corpus.max_tokens",
            f"an image has {steps} steps (corpus.image_size={corpus.image_size}"
            f"{_step(corpus)}) and is not truncated",
            f"set {steps}" if fits else smaller,
        )


def _step(corpus: object) -> str:
    step = getattr(corpus, "step", "")
    return f", corpus.step={step}" if step else ""
