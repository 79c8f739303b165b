"""Identity of a dataset: a digest of the settings, fields and code that affect its shards."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from pipeline.corpus.dataset.manifest import FORMAT, relevant
from pipeline.corpus.field_spec import FieldSpec, kind_code
from pipeline.corpus.readers.base import reader_code
from pipeline.corpus.settings import CorpusSettings, TokenizerSettings


def shards_digest(settings: CorpusSettings, fields: Sequence[FieldSpec]) -> str:
    """Return a digest (8 hexadecimal digits) of all that affects the shards except the input.

    Keys with their default values are left out, so that new keys of later versions do not change
    the digest.
    """
    defaults = {key: field.get_default() for key, field in type(settings).model_fields.items()}
    values = {key: v for key, v in relevant(settings).items() if v != defaults[key]}
    identity = {
        "format": FORMAT,
        "settings": values,
        "fields": [asdict(field) for field in fields],
        "code": reader_code(settings.format) | kind_code(fields),
        "tokenizer": _tokenizer_digest(settings),
    }
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def _tokenizer_digest(settings: CorpusSettings) -> str:
    """Return the SHA-256 of the user's tokenizer; empty if there is none or it cannot be read.

    Preparation raises an error for an unreadable file.
    """
    if not isinstance(settings, TokenizerSettings) or not settings.tokenizer:
        return ""
    try:
        return sha256(Path(settings.tokenizer).read_bytes()).hexdigest()
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return ""
