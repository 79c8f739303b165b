"""Dataset info for tests of tasks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.dataset.manifest import NumberStats
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.tokenization.special_tokens import UNK


@dataclass(frozen=True)
class Data:
    """A `DatasetInfo` without a dataset. Its text of token ids is the ids, separated by spaces."""

    vocabularies: Mapping[str, int]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    fields: Sequence[FieldSpec] = ()
    numbers: Mapping[str, NumberStats] = field(default_factory=dict)

    def token_byte_lengths(self, vocabulary: str) -> list[float]:
        """Return 3 bytes for each token, NaN for <unk>."""
        lengths = [3.0] * self.vocabularies[vocabulary]
        lengths[UNK] = math.nan
        return lengths

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))
