"""Rules for tasks whose input is an image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.corpus.readers import folders
from pipeline.corpus.readers.inputs import locate
from pipeline.corpus.readers.materialize import open_rows
from pipeline.corpus.settings import MAX_ROW_TOKENS
from pipeline.errors import InputError
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


def image_path(corpus: Any, suffix: str = ".png") -> str:
    """Return the path of an image of the corpus.

    It is a placeholder with the given suffix if the images are not files of their own, or if the
    input, which training does not need, is not on this machine.
    """
    placeholder = f"image{suffix}"
    try:
        source = locate(corpus.input, corpus.root)[0]
        if source.path is None:
            return placeholder
        if source.path.is_dir():
            return str(folders.first_file(source.path, folders.IMAGE_SUFFIXES) or placeholder)
        with open_rows(corpus, source, [corpus.image]) as rows:
            row = next(iter(rows), None)
    except (InputError, OSError):
        return placeholder
    value = row.values[corpus.image] if row and row.values else None
    if not isinstance(value, str):
        return placeholder
    path = Path(corpus.root, corpus.image_root, value.strip())
    return str(path) if path.is_file() else placeholder


def _step(corpus: object) -> str:
    step = getattr(corpus, "step", "")
    return f", corpus.step={step}" if step else ""
