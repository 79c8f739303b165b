"""Parses and checks the bodies of requests."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from pipeline.corpus.readers.base import has_nested
from pipeline.errors import HeadraceError
from pipeline.serving.limits import Limits
from pipeline.wording import shorten

MANY, ONE = "inputs", "input"
"""Keys of a body."""
FORM = f'send {{"{MANY}": [...]}} or {{"{ONE}": ...}}'
MAX_NAME_CHARACTERS = 60
MAX_DEPTH = 32
"""Levels of lists and objects in a row."""
Input = str | dict[str, Any]
"""A text, or a row by column."""


class RequestError(HeadraceError):
    """A refused request: the status and the one-line message of the answer."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = dict(headers or {})


class Inputs(NamedTuple):
    """The inputs of a request."""

    inputs: list[Input]
    is_many: bool
    """Whether the body has a list of inputs."""


def parse(body: bytes, columns: Sequence[str], limits: Limits) -> Inputs:
    """Return the inputs in the body of a request; rows must have `columns`.

    Raises RequestError: 400 if the body is not JSON, 422 if the JSON does not have the expected
    form or has an input that no model accepts. The message names the input.
    """
    value = _json(body)
    if not isinstance(value, dict):
        raise RequestError(422, f"body: is {_kind(value)}, not an object; {FORM}")
    if unknown := [key for key in value if key not in (MANY, ONE)]:
        name = shorten(unknown[0], MAX_NAME_CHARACTERS)
        raise RequestError(422, f"body: unknown key {name!r}; {FORM}")
    if len(value) != 1:
        found = f'has both "{MANY}" and "{ONE}"' if value else f'has no "{MANY}" and no "{ONE}"'
        raise RequestError(422, f"body: {found}; {FORM}")
    if ONE in value:
        return Inputs([_checked(value[ONE], ONE, columns, limits)], False)
    items = value[MANY]
    if not isinstance(items, list):
        raise RequestError(422, f"{MANY}: is {_kind(items)}, not a list; {FORM}")
    if len(items) > limits.max_queue:
        raise RequestError(
            422,
            f"{MANY}: has {len(items):,} inputs, more than {limits.max_queue:,} (--max-queue); "
            "send several requests",
        )
    checked = [_checked(item, f"{MANY}[{i}]", columns, limits) for i, item in enumerate(items)]
    return Inputs(checked, True)


def characters(value: object, depth: int = 0) -> int:
    """Return the number of characters of all strings in a text or row, including column names.

    Any other value counts as one. Raises RecursionError for a row of more than MAX_DEPTH levels.
    """
    if isinstance(value, str):
        return len(value)
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return sum(len(name) + characters(item, depth + 1) for name, item in value.items())
    return sum(characters(item, depth + 1) for item in value) if isinstance(value, list) else 1


def _json(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RequestError:
        raise
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except ValueError:
        reason = "a number has too many digits"
    raise RequestError(400, f"body: is not JSON ({reason}); {FORM}")


def _refuse_constant(name: str) -> NoReturn:
    raise RequestError(400, f"body: is not JSON ({name} is not a JSON value); {FORM}")


def _checked(item: object, place: str, columns: Sequence[str], limits: Limits) -> Input:
    if not isinstance(item, str | dict):
        raise RequestError(
            422, f"{place}: is {_kind(item)}; send a text, or a row as an object with columns"
        )
    try:
        number = characters(item)
    except RecursionError:
        raise RequestError(422, f"{place}: is nested too deeply; send a flat row") from None
    if number > limits.max_characters:
        raise RequestError(
            422,
            f"{place}: has {number:,} characters, more than {limits.max_characters:,} "
            "(--max-characters); shorten it",
        )
    if not _is_unicode(item):
        raise RequestError(
            422, f"{place}: has half of a surrogate pair, which is not a character; remove it"
        )
    if isinstance(item, dict):
        missing = next((name for name in columns if not has_nested(item, name)), None)
        if missing is not None:
            names = ", ".join(repr(shorten(name, MAX_NAME_CHARACTERS)) for name in item)
            raise RequestError(422, f"{place}: has no column {missing!r}; it has {names or 'none'}")
    return item


def _is_unicode(value: object) -> bool:
    """Return whether all strings in a text or row can be encoded, without lone surrogates."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(_is_unicode(part) for pair in value.items() for part in pair)
    return all(map(_is_unicode, value)) if isinstance(value, list) else True


def _kind(value: object) -> str:
    """Return the type of a JSON value, with an article."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]
