"""Lists of inputs that are read one by one."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.errors import HeadraceError


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last may be shorter.

    If an item cannot be read, the list of those before comes first, then the HeadraceError.
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
