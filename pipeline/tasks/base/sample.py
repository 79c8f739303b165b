"""Samples to display: a document and the model's prediction, as plain data.

Drawing is left to `pipeline.tracking`. The names of the fields are keys of the reports in the run
folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Base64Bytes, TypeAdapter
from torch import Tensor


@dataclass(frozen=True)
class TextSpan:
    """One or more words of a text."""

    text: str
    label: str = ""
    """The span's label, empty if it has none."""
    wrong: bool = False
    """Whether the other version of the text, true or predicted, lacks this labeled span."""


MAX_SIDE_PIXELS = 128
"""Maximum height and width of a displayed image. Of a larger one only every n-th pixel is kept."""


@dataclass(frozen=True)
class ImageData:
    """An 8-bit image."""

    shape: tuple[int, int, int]
    """Height, width and channels (1 or 3)."""
    data: Base64Bytes
    """Bytes of the pixels, row by row; base64 in JSON."""

    @classmethod
    def of(cls, pixels: Any) -> "ImageData":
        """Convert pixels [H, W, channels], downsampled to at most MAX_SIDE_PIXELS a side."""
        array = np.asarray(pixels, np.uint8)
        step = -(-max(array.shape[:2]) // MAX_SIDE_PIXELS)
        array = array[::step, ::step]
        height, width, channels = array.shape
        return cls((height, width, channels), array.tobytes())


@dataclass(frozen=True)
class AttentionMap:
    """A decoder's attention weights at each of n generated tokens over S inputs."""

    written: list[str]
    """Generated tokens [n]."""
    weights: list[list[float]]
    """Attention weights [n, S]; each row sums to 1."""
    read: list[str] = field(default_factory=list)
    """Input tokens or names of given regions [S]; empty if the input is pixels."""
    plane: tuple[int, int] = (0, 0)
    """Rows and columns of the S regions of pixels; (0, 0) otherwise."""

    @classmethod
    def of(cls, written: Sequence[str], weights: Tensor, **inputs: Any) -> "AttentionMap":
        """Round weights [n, S] to three decimals; `inputs` are the fields `read` and `plane`."""
        rounded = [[round(w, 3) for w in row] for row in weights.float().tolist()]
        return cls(list(written), rounded, **inputs)


@dataclass(frozen=True)
class Sample:
    """One document to display."""

    texts: Mapping[str, str | list[TextSpan]]
    """Texts by name, such as source, reference and translation."""
    picture: ImageData | None = None
    attention: AttentionMap | None = None


SAMPLES = TypeAdapter(list[Sample])
"""Converts samples to JSON and back."""
