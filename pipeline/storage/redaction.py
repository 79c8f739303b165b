"""Removal of passwords and tokens from texts that leave the run."""

import re

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
