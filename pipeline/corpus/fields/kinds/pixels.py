"""Images as rows of pixels."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.corpus.column_type import ColumnType, vector_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import images
from pipeline.corpus.fields.base import Cells, EncodingContext
from pipeline.corpus.fields.image_field import ImageField
from pipeline.corpus.skip_reason import SkipReason


class PixelRowsField(ImageField):
    """An image (PNG, JPEG, or one image of an idx file), stored as its rows of pixels."""

    magic = images.MAGIC
    broken = SkipReason.NO_IMAGE

    def decode(self, data: bytes) -> NDArray[Any] | None:
        return images.decode(data, self.settings)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([pixels.reshape(len(pixels), -1)]) for pixels in values]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return vector_list("uint8", field.width)
