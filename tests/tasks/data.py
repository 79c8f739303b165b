"""What a task is told of a dataset."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.fields import Field
from pipeline.corpus.special import UNK


@dataclass(frozen=True)
class Data:
    vocabularies: Mapping[str, int]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    fields: Sequence[Field] = ()

    def token_bytes(self, vocabulary: str) -> list[float]:
        """Of <unk> it cannot be told."""
        found = [3.0] * self.vocabularies[vocabulary]
        found[UNK] = math.nan
        return found

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))
