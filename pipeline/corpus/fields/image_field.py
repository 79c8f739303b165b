"""Base class of image fields: arrays decoded from image files, or from files of image features."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipeline.corpus.fields.base import FieldKind
from pipeline.corpus.readers import folders
from pipeline.corpus.settings import ImageSettings
from pipeline.corpus.skip_reason import SkipReason


class ImageField(FieldKind):
    """An array that is decoded from a file.

    The raw value is the file's bytes, its path, or a dict {"bytes": ..., "path": ...} as in Hugging
    Face `datasets`, in which non-empty bytes take precedence. A string is a path relative to
    `corpus.root`/`corpus.image_root` and must not lead out of `corpus.root`; a Path, which a user
    passes for prediction, may be any file.
    """

    Settings: ClassVar[type[ImageSettings]] = ImageSettings
    is_image = True
    settings: ImageSettings
    magic: ClassVar[tuple[bytes, ...]]
    """First bytes of a valid file, one entry per format."""
    broken: ClassVar[SkipReason]
    """Reason to skip a row whose file is broken or has another format."""

    def data(self, value: Any) -> bytes:
        # Of the decoded array: the split into train and validation does not depend on the step.
        return bytes(value.tobytes())

    def check(self, value: Any) -> Any:
        data = self._content(value)
        if isinstance(data, SkipReason):
            return data
        array = self.decode(data)
        return self.broken if array is None else array

    @abstractmethod
    def decode(self, data: bytes) -> NDArray[Any] | None:
        """Return the array in a file's bytes, or None if the file is broken."""

    def _content(self, value: Any) -> bytes | SkipReason:
        """Return the file's bytes, reading the file if the value is a path."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not isinstance(value, (str, Path)):
            return value if isinstance(value, bytes) else self.broken
        path = Path(value)
        if isinstance(value, str):
            root = os.path.abspath(self.settings.root)  # noqa: PTH100  unresolved: links may lead out
            joined = os.path.join(root, self.settings.image_root, value.strip())  # noqa: PTH118
            path = Path(os.path.normpath(joined))
            if not path.is_relative_to(root):
                return SkipReason.NO_FILE
        data = folders.read_file(path)
        if data is None:
            return SkipReason.NO_FILE
        return data if data.startswith(self.magic) else self.broken
