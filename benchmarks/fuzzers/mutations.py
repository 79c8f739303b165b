"""Mutations of bytes, of the lines of texts, and of values."""

import datetime
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff")
SNIPPETS = (
    b'"', b"'", b"\\", b"\0", b"\r", b"\r\n", b"\n\n", b"\t", b",", b";", b" ", b"{", b"}", b"[",
    b"]", b'""', b'",\n"', b"\xc2\xa0", b"\xe2\x80\xa8", b"\xff", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\x1a", b"\x0c", b"\x85", b"__label__", b"# ", b"-DOCSTART-", b"1-2\t",
    b"1.1\t", b"null", b"NaN", b"\\ud800", b"\\u0000", b"e\xcc\x81", b"\xe2\x80\x8b", b"#9",
)  # fmt: skip
SIZES = (0, 1, 2, 127, 255, 256, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
         1 << 40, (1 << 62), (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip
LONG = 200_000
"""Bytes of a very long line."""
DEPTH = 20_000
"""Brackets of a value that is nested too deeply."""


def mutate(rng: Random, data: bytes, *, text: bool) -> bytes:
    """Return a file's content after one to three mutations; `text` adds those of lines."""
    choices = [*BYTES, *LINES, *LINES] if text else BYTES
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(choices)(rng, data)
    return data


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_bytes(rng: Random, data: bytes) -> bytes:
    """Replace bytes by random ones."""
    start, stop = _range(rng, data)
    return data[:start] + rng.randbytes(stop - start) + data[stop:]


def _set_number(rng: Random, data: bytes) -> bytes:
    """Replace two, four or eight bytes by a number such as a size, most often near an end."""
    width = rng.choice((2, 4, 8))
    number = (rng.choice(SIZES) & ((1 << 8 * width) - 1)).to_bytes(
        width, rng.choice(("little", "big"))
    )
    near = rng.choice((64, 600, len(data)))
    start = rng.randrange(near + 1) if rng.random() < 0.6 else len(data) - rng.randrange(near + 1)
    start = max(0, min(start, len(data) - width))
    return data[:start] + number + data[start + width :]


def _insert(rng: Random, data: bytes) -> bytes:
    new = rng.choice(SNIPPETS) if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 40))
    place = rng.randint(0, len(data))
    return data[:place] + new + data[place:]


def _delete(rng: Random, data: bytes) -> bytes:
    start, stop = _range(rng, data)
    return data[:start] + data[stop:]


def _truncate(rng: Random, data: bytes) -> bytes:
    near_end = rng.random() < 0.5
    return data[: len(data) - rng.randint(0, 40) if near_end else rng.randint(0, len(data))]


def _repeat(rng: Random, data: bytes) -> bytes:
    start, stop = _range(rng, data)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 2, 50)) + data[stop:]


def _zeros(rng: Random, data: bytes) -> bytes:
    start, stop = _range(rng, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def _mark(rng: Random, data: bytes) -> bytes:
    return rng.choice(MARKS) + data


def _replace_all(rng: Random, data: bytes) -> bytes:
    """Return no content, a short one, or the content twice."""
    return rng.choice(
        (b"", b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"\r\n\r\n", rng.randbytes(300), data + data)
    )


def _range(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 100, 1000)))


BYTES: Sequence[Mutation] = (
    _flip, _flip, _set_bytes, _set_number, _set_number, _insert, _delete, _truncate, _repeat,
    _zeros, _mark, _replace_all,
)  # fmt: skip


def _lines(change: Callable[[Random, list[bytes]], None]) -> Mutation:
    def mutation(rng: Random, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True) or [b"\n"]
        change(rng, lines)
        return b"".join(lines)

    return mutation


def _duplicate(rng: Random, lines: list[bytes]) -> None:
    line = rng.choice(lines)
    for _ in range(rng.choice((1, 1, 3, 30))):
        lines.insert(rng.randint(0, len(lines)), line)


def _swap(rng: Random, lines: list[bytes]) -> None:
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


def _drop(rng: Random, lines: list[bytes]) -> None:
    for _ in range(min(len(lines), rng.choice((1, 1, 3, 20)))):
        del lines[rng.randrange(len(lines))]


def _first_again(rng: Random, lines: list[bytes]) -> None:
    """Repeat or remove the header."""
    if rng.random() < 0.7:
        lines.insert(rng.randint(0, len(lines)), lines[0])
    else:
        del lines[0]


def _end(rng: Random, lines: list[bytes]) -> None:
    """Change the ends of some or all lines."""
    end = rng.choice(
        (b"\r", b"\r\n", b"\n\r", b"\n\n", b"", b" \n", b"\t\n", b'"\n', b"\xe2\x80\xa8")
    )
    share = rng.choice((0.05, 0.3, 1))
    for number, line in enumerate(lines):
        if rng.random() < share:
            lines[number] = line.rstrip(b"\r\n") + end


def _into_line(rng: Random, lines: list[bytes]) -> None:
    """Insert something in a line, or at its start or end."""
    number = rng.randrange(len(lines))
    line = lines[number]
    place = rng.choice((0, len(line.rstrip(b"\r\n")), rng.randint(0, len(line))))
    lines[number] = line[:place] + rng.choice(SNIPPETS) * rng.choice((1, 1, 2, 5)) + line[place:]


def _long_line(rng: Random, lines: list[bytes]) -> None:
    number = rng.randrange(len(lines))
    filling = rng.choice(
        (b"x", b"x ", b'"', b",", b"\t", b"\xc3\xa9", b"\0", b'{"a":', b"word O\n")
    )
    line = lines[number].rstrip(b"\r\n")
    place = rng.randint(0, len(line))
    lines[number] = line[:place] + filling * (LONG // len(filling)) + line[place:] + b"\n"


def _nested(rng: Random, lines: list[bytes]) -> None:
    depth = rng.choice((5, 900, DEPTH))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"text":', b"}"), (b"(", b")")))
    value = opening * depth + b"1" + closing * rng.choice((depth, depth, 0))
    line = rng.choice((value, b'{"text": ' + value + b', "label": "a"}'))
    lines.insert(rng.randint(0, len(lines)), line + b"\n")


def _json_value(rng: Random, lines: list[bytes]) -> None:
    """Insert a JSON object with unusual values."""
    row = {name: value(rng) for name in ("text", "label", "title", "x") if rng.random() < 0.8}
    text = json.dumps(row, default=str)
    if rng.random() < 0.3:
        text = (
            text[:-1]
            + ', "text": '
            + rng.choice(("NaN", "-Infinity", "1" * 5000, "1e999", "tru"))
            + "}"
        )
    lines.insert(rng.randint(0, len(lines)), text.encode() + rng.choice((b"\n", b",\n", b"")))


CHANGES = (
    _duplicate, _swap, _drop, _first_again, _end, _into_line, _into_line, _long_line, _nested,
    _json_value,
)  # fmt: skip
LINES: Sequence[Mutation] = tuple(map(_lines, CHANGES))


TEXTS = (
    "", " ", "\t", "a\nb", "a\r", "\0", "nul\0l", "é", "e\u0301", "\u200b", "\u2028", "\ufeff",
    "🙂", "\ud800", "\udcff", "null", "~", "~nobody/x", "{a..b}", "{a", "[a]", "['a', \"b\"]",
    "0", "1.0",
    "-1", "1e3", "True", "nan", "inf", "2024-01-01", "12:30", "#", "a #b", "a: b", "a=b", "=",
    "%s {0}", "../../etc", "/dev/null", "x" * 3000, "*", "&a", "!!python/object:os.system",
    "json:JSONDecoder", "no_file.py:Thing", "missing.module:Thing",
    "pipeline.models.cells.lstm:Lstm", ":", "a:b:c", "//", "s3://", "://", "hf://", "package://",
    "package://json/x", "http://[::1", "a.csv",
)  # fmt: skip


def value(rng: Random, depth: int = 0) -> Any:
    """Return a value of any type that YAML and JSON have."""
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind < 6:
        return rng.choice((0, 1, -1, 2, 7, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**400))
    if kind < 8:
        return rng.choice((0.0, -0.0, 0.5, 1.5, 1e-320, 1e308, float("inf"), float("nan"), -1e-9))
    if kind == 8:
        return rng.choice((None, True, False, datetime.date(2024, 2, 29)))
    if depth > 3:
        return None
    if kind == 9:
        return {rng.choice(TEXTS): value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    return [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 1, 2, 5)))]
