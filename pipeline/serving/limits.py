"""Limits of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one process of a server. The command line has an option for most of them."""

    max_batch_size: int = 32
    """Maximum inputs per batch."""
    batch_timeout: float = 0.002
    """Longest time in seconds that an input waits for others while the model is free."""
    max_queue: int = 1000
    """Maximum waiting inputs; a request that would exceed it gets the status 429."""
    max_body: int = 1 << 20
    """Maximum bytes of the body of a request."""
    max_characters: int = 100_000
    """Maximum characters per input."""
    request_timeout: float = 30.0
    """Longest time in seconds from a complete request to its answer."""
    body_timeout: float = 10.0
    """Longest time in seconds in which the headers, and then the body, must arrive."""
    max_connections: int = 1000
    """Maximum open connections; requests on further ones get the status 503."""
