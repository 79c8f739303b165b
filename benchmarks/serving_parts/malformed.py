"""Malformed requests, which a server must refuse without failing or growing."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

CLOSED, SILENT = "closed", "silent"
"""Results of requests without an answer: the server closed the connection, or still waits for the
rest of the request when the client closes it."""
WAIT_SECONDS = 0.2
"""Time that an incomplete request waits for an answer."""
PATIENCE_SECONDS = 60.0
"""Time that a complete request waits for an answer."""
LARGE = 1 << 21
Random = random.Random
Case = tuple[bytes, bool]
"""The bytes of a request, and whether it is complete."""


def post(body: bytes, path: bytes = b"/predict", *headers: bytes, method: bytes = b"POST") -> bytes:
    """Return a request with a body and its length."""
    lines = [
        method + b" " + path + b" HTTP/1.1", b"Host: a", b"Connection: close",
        b"Content-Length: %d" % len(body), *headers,
    ]  # fmt: skip
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(draw: Random) -> Case:
    return draw.randbytes(draw.randint(1, 400)) + b"\r\n\r\n", False


def _random_body(draw: Random) -> Case:
    return post(draw.randbytes(draw.randint(0, 2000))), True


def _damaged_json(draw: Random) -> Case:
    body = bytearray(json.dumps({"inputs": ["a film", "b", {"text": "c"}]}).encode())
    for _ in range(draw.randint(1, 4)):
        body[draw.randrange(len(body))] = draw.randrange(256)
    return post(bytes(body)), True


def _wrong_types(draw: Random) -> Case:
    simple: list[Any] = [None, True, 3, -1e300, 10**400, ""]
    values = [*simple, [], {}, [[]], [None], [3], [["a"]], [{"a": {}}]]
    key = draw.choice(["inputs", "input", "text", "", "\0"])
    value = draw.choice(values)
    body = draw.choice([{key: value}, {key: value, "input": value}, value])
    return post(json.dumps(body).encode()), True


def _row(draw: Random) -> Case:
    values = [None, 0, True, 1.5, [], [1], ["a", None], {"a": 1}, "a\0b", "\t", "\u2028"]
    rows = [{"text": draw.choice(values)}, {"text": "a"}]
    return post(json.dumps({"inputs": rows}).encode()), True


def _nested(draw: Random) -> Case:
    depth = draw.choice([40, 400, 900, 20_000, 100_000])
    start, end = draw.choice([(b"[", b"]"), (b'{"text":', b"}")])
    value = start * depth + b"1" + end * depth
    return post(draw.choice([value, b'{"input":' + value + b"}"])), True


def _text(draw: Random) -> Case:
    texts = [r"\u0000", r"\ud800", r"\udc00\ud800", r"\uffff", "a" * 150_000, " " * 9000]
    return post(b'{"input": "%s"}' % draw.choice(texts).encode()), True


def _constants(draw: Random) -> Case:
    value = draw.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 6000])
    return post(b'{"inputs": [{"text": ' + value + b"}]}"), True


def _wrong_length(draw: Random) -> Case:
    length = draw.choice([b"-1", b"abc", b"99999999999999999999", b"5", b"1e3", b"", b"7, 8"])
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: " + length
    return head + b'\r\n\r\n{"input": "a film"}', False


def _headers(draw: Random) -> Case:
    headers = draw.choice(
        [
            [b"X: " + b"a" * 200_000], [b"X%d: a" % i for i in range(3000)], [b"no colon"],
            [b"Transfer-Encoding: chunked"], [b"X: \0"], [b"Host: b"], [b"Expect: 200-ok"],
            [b"Upgrade: websocket", b"Connection: Upgrade"], [b"Content-Encoding: gzip"],
        ]
    )  # fmt: skip
    return post(b'{"input": "a"}', b"/predict", *headers), False


def _chunks(draw: Random) -> Case:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"zz\r\nab\r\n", b"-1\r\n", b"ffffffffffffffffff\r\na", b"5\r\nab\r\n0\r\n\r\n"]
    return head + draw.choice(chunks), False


def _incomplete(draw: Random) -> Case:
    request = post(b'{"input": "a film"}')
    return request[: draw.randrange(1, len(request))], False


def _methods(draw: Random) -> Case:
    method = draw.choice([b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"HEAD", b"X"])
    path = draw.choice(
        [b"/predict", b"/", b"/health", b"/view", b"/../etc/passwd", b"//", b"/%00", b"/%ff", b"*"]
    )
    return post(b'{"input": "a"}', path, method=method), method != b"HEAD"


def _large(draw: Random) -> Case:
    return post(b'{"input": "' + b"a" * draw.choice([LARGE, LARGE // 2 + 100]) + b'"}'), True


def _many(draw: Random) -> Case:
    return post(json.dumps({"inputs": [""] * draw.choice([500, 5000, 100_000])}).encode()), True


CASES: tuple[Callable[[Random], Case], ...] = (
    _bytes, _random_body, _damaged_json, _wrong_types, _row, _nested, _text, _constants,
    _wrong_length, _headers, _chunks, _incomplete, _methods, _large, _many,
)  # fmt: skip


async def send_all(
    port: int, count: int, *, seed: int = 0, clients: int = 8
) -> tuple[Counter[str], list[str]]:
    """Send malformed requests from concurrent clients.

    Returns the number of requests by status, and a line for each failure: a status of 500 or more,
    an answer that is not JSON, or a complete request without an answer.
    """
    numbers = iter(range(count))
    statuses: Counter[str] = Counter()
    failures: list[str] = []

    async def client() -> None:
        for number in numbers:
            make = CASES[number % len(CASES)]
            data, complete = make(random.Random(f"{seed} {number}"))
            status, answer = await _send(port, data, complete=complete)
            statuses[status] += 1
            failed = status >= "500" if status.isdecimal() else complete
            body = answer.partition(b"\r\n\r\n")[2]
            if status.isdecimal() and status >= "400" and not failed and complete:
                failed = not body.startswith(b'{"error": ') or b"Traceback" in body
            if failed:
                failures.append(f"{make.__name__} {number}: {data[:200]!r}: {answer[:400]!r}")

    await asyncio.gather(*(client() for _ in range(clients)))
    return statuses, failures


async def _send(port: int, data: bytes, *, complete: bool) -> tuple[str, bytes]:
    """Send bytes over a connection; return the status and the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS if complete else WAIT_SECONDS):
            while part := await reader.read(1 << 16):
                answer += part
    except TimeoutError:
        if not answer:
            return SILENT, answer
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return (answer.split(b" ", 2)[1].decode() if answer else CLOSED), answer
