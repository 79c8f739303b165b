"""What a person is shown of a document and of what the model makes of it: plain data, which nothing
here draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Base64Bytes, TypeAdapter
from torch import Tensor


@dataclass(frozen=True)
class TextSpan:
    """Some words of a text."""

    text: str
    label: str = ""
    """What they are marked as, if they are."""
    wrong: bool = False
    """Whether that is so in this version alone, the true or the predicted one."""


MOST_PIXELS = 128
"""Of a side of a picture; of a larger image every second pixel is shown, or every third, ..."""


@dataclass(frozen=True)
class ImageData:
    """An image of bytes."""

    shape: tuple[int, int, int]
    """Rows and columns of pixels, and the channels of each: 1 or 3."""
    data: Base64Bytes
    """Pixel after pixel, row after row; base64 where it is written down."""

    @classmethod
    def of(cls, pixels: Any) -> "ImageData":
        """Of [H, W, K]."""
        array = np.asarray(pixels, np.uint8)
        step = -(-max(array.shape[:2]) // MOST_PIXELS)
        array = array[::step, ::step]
        height, width, channels = array.shape
        return cls((height, width, channels), array.tobytes())


@dataclass(frozen=True)
class AttentionMap:
    """Where a decoder looked while it wrote each of n tokens."""

    written: list[str]
    """[n]"""
    weights: list[list[float]]
    """[n, S], a distribution over what was read for each."""
    read: list[str] = field(default_factory=list)
    """[S] the tokens that were read; none of a picture."""
    plane: tuple[int, int] = (0, 0)
    """Of a picture: the S regions are so many down and across."""

    @classmethod
    def of(cls, written: Sequence[str], weights: Tensor, **read: Any) -> "AttentionMap":
        """Of weights [n, S], to three places."""
        rounded = [[round(w, 3) for w in row] for row in weights.float().tolist()]
        return cls(list(written), rounded, **read)


@dataclass(frozen=True)
class Sample:
    """One document. Its texts have names, such as source, reference and translation."""

    texts: Mapping[str, str | list[TextSpan]]
    picture: ImageData | None = None
    attention: AttentionMap | None = None


SAMPLES = TypeAdapter(list[Sample])
"""To JSON and back."""
