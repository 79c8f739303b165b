"""Grouping of inputs that are read lazily."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.errors import HeadraceError


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last may be shorter.

    If an item cannot be read, the items before it are yielded before the HeadraceError is raised.
    """
    chunk: list[Any] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except HeadraceError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
