"""What a task is told of a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.corpus.fields import Field


@dataclass(frozen=True)
class Data:
    vocabularies: Mapping[str, int]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)

    fields: Sequence[Field] = ()

    def token_bytes(self, vocabulary: str) -> list[int]:
        return [3] * self.vocabularies[vocabulary]

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))
