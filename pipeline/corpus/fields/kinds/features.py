"""Precomputed image features."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pipeline.corpus.column_type import ColumnType, vector_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import image_features
from pipeline.corpus.fields.base import Cells, EncodingContext
from pipeline.corpus.fields.image_field import ImageField
from pipeline.corpus.settings import ImageSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.settings import setting


class FeaturesField(ImageField):
    """Precomputed image features: a .npy file of finite numbers with shape [S, F], [H, W, F]
    (regions in row-major order) or [F] (one region)."""

    class Settings(ImageSettings):
        features: int = setting(
            0,
            "number of features per region, if images are .npy files of features that another "
            "network computed; 0: images are pixels",
            ge=0,
        )

    magic = (image_features.MAGIC,)
    broken = SkipReason.NO_FEATURES

    def decode(self, data: bytes) -> NDArray[Any] | None:
        return image_features.decode(data, self.field.width)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        limit = self.settings.max_tokens
        return [Cells([x] if len(x) <= limit else [], len(x) > limit) for x in values]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return vector_list("float32", field.width)
