"""All field kinds by name, and the Arrow types in which they are stored."""

from typing import Any

import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import FieldKind
from pipeline.corpus.fields.image_fields import FeaturesField, PixelRowsField, StepsField
from pipeline.corpus.fields.labels import LabelField, LabelsField
from pipeline.corpus.fields.texts import TargetField, TargetsField, TextField
from pipeline.corpus.fields.words import CharactersField, TagsField, WordsField
from pipeline.corpus.settings import CorpusSettings

KINDS: dict[str, type[FieldKind]] = {
    "text": TextField,
    "target": TargetField,
    "targets": TargetsField,
    "words": WordsField,
    "characters": CharactersField,
    "tags": TagsField,
    "label": LabelField,
    "labels": LabelsField,
    "steps": StepsField,
    "pixels": PixelRowsField,
    "features": FeaturesField,
}


def field_kind(field: FieldSpec, settings: CorpusSettings) -> FieldKind:
    """Return the field's kind, bound to the field and the settings."""
    return KINDS[field.kind](field, settings)


def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
    """Return the Arrow type of a field's cells, given the size of its vocabulary."""
    token: Any = pa.uint16() if token_id_bytes(vocabulary) == 2 else pa.uint32()
    return {
        "text": pa.list_(token),
        "target": pa.list_(token),
        "targets": pa.list_(token),
        "words": pa.list_(token),
        "characters": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "tags": pa.list_(pa.uint16()),
        "label": pa.int32(),
        "labels": pa.list_(pa.uint16()),
        "steps": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "pixels": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "features": pa.list_(pa.list_(pa.float32(), max(field.width, 1))),
    }[field.kind]


def token_id_bytes(vocabulary: int) -> int:
    """Return the bytes per stored token id, given the size of the vocabulary."""
    return 2 if vocabulary <= 1 << 16 else 4
