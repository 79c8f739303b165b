"""Fields that are arrays of figures, out of a file of their own: images, and features of them."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipeline.corpus.fields import image_features, images
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind
from pipeline.corpus.readers import folders
from pipeline.corpus.skip_reason import SkipReason


class ImageField(FieldKind):
    """An array of figures: the bytes of a file, or its path, or both as Hugging Face's `datasets`
    writes them, {"bytes": ..., "path": ...}, of which the bytes count if there are any. A string is
    a path inside `corpus.root`, from `corpus.image_root` on; a Path is one that a person gave."""

    magic: ClassVar[tuple[bytes, ...]]
    """What a file begins with."""
    broken: ClassVar[SkipReason]
    """Why there is no row if a file holds something else."""

    def data(self, value: Any) -> bytes:
        """Of the figures, so that the same images are held out whatever a step of them is."""
        return bytes(value.tobytes())

    def check(self, value: Any) -> Any:
        data = self._content(value)
        if isinstance(data, SkipReason):
            return data
        found = self.decode(data)
        return self.broken if found is None else found

    @abstractmethod
    def decode(self, data: bytes) -> NDArray[Any] | None:
        """The figures that a file holds; None if it is broken."""

    def _content(self, value: Any) -> bytes | SkipReason:
        """The bytes of a file, given them or where they are."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, (str, Path)):
            return value if isinstance(value, bytes) else self.broken
        path = Path(value)
        if isinstance(value, str):
            root = os.path.abspath(self.settings.root)  # noqa: PTH100  a link may lead anywhere
            inside = os.path.join(root, self.settings.image_root, value.strip())  # noqa: PTH118
            path = Path(os.path.normpath(inside))
            if not path.is_relative_to(root):
                return SkipReason.NO_FILE
        data = folders.read_file(path)
        if data is None:
            return SkipReason.NO_FILE
        return data if data.startswith(self.magic) else self.broken


class StepsField(ImageField):
    """An image: a PNG or a JPEG, or an image of an idx file."""

    magic = images.MAGIC
    broken = SkipReason.NO_IMAGE

    def decode(self, data: bytes) -> NDArray[Any] | None:
        return images.decode(data, self.settings)

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [Cells([images.steps(pixels, self.settings)]) for pixels in values]


class PixelRowsField(StepsField):
    """The same, as its rows of pixels."""

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [Cells([pixels.reshape(len(pixels), -1)]) for pixels in values]


class FeaturesField(ImageField):
    """What another network said of an image: a .npy file of [S, F] finite numbers, of [H, W, F],
    whose regions come row by row, or of [F]."""

    magic = (image_features.MAGIC,)
    broken = SkipReason.NO_FEATURES

    def decode(self, data: bytes) -> NDArray[Any] | None:
        return image_features.decode(data, self.field.width)

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        most = self.settings.max_tokens
        return [Cells([x] if len(x) <= most else [], len(x) > most) for x in values]
