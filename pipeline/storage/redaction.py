"""Removal of passwords and tokens from texts that leave the run."""

import re
from collections.abc import Mapping
from typing import Any

SECRETS = (
    "access_token|api_?key|auth|credential|key|pass|password|passwd|pwd|secret|sig|signature|token"
)
_NAME = rf"(?:[\w.-]*[_.-])?(?:{SECRETS})"
_PARAMETER = re.compile(rf"(?i)([?&]{_NAME}=)[^&#\s\"']+")
_KEY = re.compile(rf"(?i)-*{_NAME}")
HIDDEN = "***"


def without_password(text: str) -> str:
    """Remove user names, passwords and tokens from a URI, or from all URIs in a text.

    >>> without_password("s3://user:word@host/a https://b/c.csv?X-Amz-Signature=1a2b&part=3")
    's3://host/a https://b/c.csv?X-Amz-Signature=***&part=3'
    """
    return _PARAMETER.sub(r"\1***", re.sub(r"(://)[^/\s]+@", r"\1", text))


def without_secret(argument: str) -> str:
    """Remove the secrets of a command-line argument, also the value of a key such as `api_key`.

    >>> without_secret("track.api_key=1a2b"), without_secret("stream.token_budget=512")
    ('track.api_key=***', 'stream.token_budget=512')
    """
    key, equals, value = argument.partition("=")
    if value and _KEY.fullmatch(key):
        return f"{key}{equals}{HIDDEN}"
    return without_password(argument)


def redacted_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return config values by dotted key without secrets: those of keys such as `track.api_key`,
    which a component of the user may declare, and those that `redacted` removes.

    >>> redacted_settings({"track.api_key": "1a2b", "track.token": "", "train.seed": 1})
    {'track.api_key': '***', 'track.token': '', 'train.seed': 1}
    """
    return {
        key: HIDDEN if value and _KEY.fullmatch(key) else redacted(value)
        for key, value in values.items()
    }


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
