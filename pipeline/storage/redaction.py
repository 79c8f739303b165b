"""Removal of passwords and tokens from texts that leave the run."""

import re
from collections.abc import Mapping
from typing import Any

SECRETS = (
    "access_token|api_?key|auth|credential|key|pass|password|passwd|pwd|secret|sig|signature|token"
)
_PARAMETER = re.compile(rf"(?i)([?&](?:[\w.-]*[_.-])?(?:{SECRETS})=)[^&#\s\"']+")


def without_password(text: str) -> str:
    """Remove user names, passwords and tokens from a URI, or from all URIs in a text.

    >>> without_password("s3://user:word@host/a https://b/c.csv?X-Amz-Signature=1a2b&part=3")
    's3://host/a https://b/c.csv?X-Amz-Signature=***&part=3'
    """
    return _PARAMETER.sub(r"\1***", re.sub(r"(://)[^/\s]+@", r"\1", text))


def redacted(value: Any) -> Any:
    """Return a config value without the passwords and tokens of its texts, also inside lists and
    mappings.

    >>> redacted({"input": ["s3://user:word@host/a", "b.csv"], "seed": 1})
    {'input': ['s3://host/a', 'b.csv'], 'seed': 1}
    """
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, Mapping):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list) else value
