"""Parses lists and maps in strings, such as CSV fields, as Python, NumPy or JSON print them.

Items are evaluated one by one: Python would join the items of NumPy's ['a' 'b'] to 'ab'.
"""

import ast
import json
import re
from typing import Any

from pipeline.corpus.fields.base import scalar_text
from pipeline.corpus.skip_reason import SkipReason

STRING = r"""[bu]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
CONSTANT = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|[Nn]one|null|nan|NaN|[Tt]rue|[Ff]alse"
ITEM = rf"(?:{STRING}|{CONSTANT})"
WITH_COMMAS = re.compile(rf"\s*(?:{ITEM}(?:\s*,\s*{ITEM})*\s*,?)?\s*", re.DOTALL)
WITH_BLANKS = re.compile(rf"\s*{ITEM}(?:\s+{ITEM})+\s*", re.DOTALL)
STRINGS_WITH_BLANKS = re.compile(rf"\s*{STRING}(?:\s+{STRING})+\s*", re.DOTALL)
ITEMS = re.compile(ITEM, re.DOTALL)
NUMPY_SCALAR = re.compile(rf"\bnp\.\w+\(({ITEM})\)", re.DOTALL)  # np.str_('a'), np.int64(1)
ARRAY = re.compile(r"array\((\[.*\])(?:,\s*dtype=[^\[\]]*)?\)", re.DOTALL)
QUOTED = re.compile(r"""[\[({]*['"]""")
NOT_ASCII_SPACE = re.compile(r"[^ \t\n\r\f\v]+")
EMPTY_SETS = ("set()", "frozenset()")
MISSING = ("none", "null", "nan")
BRACKETS = {"[": "]", "(": ")", "{": "}"}


def items(value: Any, *, bare: bool = False) -> list[str] | SkipReason:
    """Return the items of a list, of a list as a string, or of a string of words.

    The result is empty for any other value. `bare` is as in `parse_list`.
    """
    if isinstance(value, list):
        if all(type(item) is str for item in value):
            return value
        return [scalar_text(item) for item in value]
    text = scalar_text(value)
    found = parse_list(text, bare=bare)
    return split_words(text) if found is None else found


def split_words(text: str) -> list[str]:
    """Split a text at ASCII whitespace. Other whitespace may be part of a word, but is not a word
    by itself."""
    return [word for word in NOT_ASCII_SPACE.findall(text) if not word.isspace()]


def parse_list(text: str, *, bare: bool = False) -> list[str] | SkipReason | None:
    """Parse a string with a flat list; missing items become "".

    Returns None if the string is not a list, such as a sentence that begins with a bracket, and
    BAD_LIST if it looks like a list but cannot be parsed. `bare` allows names without quotes, such
    as [B-X, O] and {a,b}, and numbers without commas, such as [0 1 1].
    """
    text = text.strip()
    if bare and text in EMPTY_SETS:
        return []
    if text.startswith("array(") and (array := ARRAY.fullmatch(text)):
        text = array[1]
    opening = text[:1]
    if opening not in BRACKETS or (opening == "{" and not bare):
        return None
    if len(text) < 2 or BRACKETS[opening] != text[-1]:
        return SkipReason.BAD_LIST if bare and QUOTED.match(text) else None
    if opening == "[" and (parsed := _parse_json(text)) is not None:
        return _flat(parsed) if isinstance(parsed, list) else None
    inner = NUMPY_SCALAR.sub(r"\1", text[1:-1])
    if opening == "(":
        is_tuple = "," in inner and inner[0] in "'\"" and WITH_COMMAS.fullmatch(inner)
        return _items(inner) if is_tuple else None
    with_blanks = WITH_BLANKS if bare else STRINGS_WITH_BLANKS
    if WITH_COMMAS.fullmatch(inner) or with_blanks.fullmatch(inner):
        return _items(inner)
    if QUOTED.match(inner):
        return SkipReason.BAD_LIST
    if not bare:
        return None
    return SkipReason.BAD_LIST if opening == "{" and ":" in inner else _bare_items(inner)


def parse_map(text: str) -> dict[Any, Any] | None:
    """Parse a string with a JSON object or a Python dict; return None if it is neither."""
    text = text.strip()
    if not text.startswith("{") or not text.endswith("}"):
        return None
    parsed = _parse_json(text)
    if parsed is None:
        try:
            parsed = ast.literal_eval(NUMPY_SCALAR.sub(r"\1", text))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return parsed if isinstance(parsed, dict) else None


def _parse_json(text: str) -> Any:
    """Parse a JSON string; return None if it is not JSON."""
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None


def _flat(values: list[Any]) -> list[str] | SkipReason:
    if any(isinstance(value, (list, dict)) for value in values):
        return SkipReason.BAD_LIST
    return [scalar_text(value) for value in values]


def _items(inner: str) -> list[str] | SkipReason:
    """Return the items of a string that matches one of the patterns of lists."""
    found = []
    for item in ITEMS.findall(inner):
        if item[-1] in "'\"":
            try:
                found.append(scalar_text(ast.literal_eval(item)))
            except (ValueError, SyntaxError):  # such as a wrong escape
                return SkipReason.BAD_LIST
        else:
            found.append("" if item.lower() in MISSING else item)
    return found


def _bare_items(inner: str) -> list[str] | SkipReason | None:
    """Return names that are separated by commas, without quotes around all of them."""
    if any(bracket in inner for bracket in "[]{}"):  # as in "[CLS] O [SEP]"
        return None
    if "..." in inner:  # NumPy leaves items out of a long array
        return SkipReason.BAD_LIST
    names = [name.strip() for name in inner.split(",")]
    return [name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name for name in names]
