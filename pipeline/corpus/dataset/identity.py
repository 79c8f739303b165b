"""What distinguishes a dataset from others: the settings, fields and code that shape its shards."""

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
    """Return 8 hexadecimal digits that depend on all that shapes the shards except the input files.

    A key with its default value does not count, so that a key which a later version adds moves no
    dataset.
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
    """Return the SHA-256 of the user's tokenizer; empty if there is none that can be read.

    An unreadable file is an error of preparing, which reads it in full.
    """
    if not isinstance(settings, TokenizerSettings) or not settings.tokenizer:
        return ""
    try:
        return sha256(Path(settings.tokenizer).read_bytes()).hexdigest()
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return ""
