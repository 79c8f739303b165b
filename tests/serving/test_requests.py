"""Bodies of requests: what is accepted, and the one line for everything else."""

import json

import pytest

from pipeline.serving.limits import Limits
from pipeline.serving.requests import RequestError, characters, parse

LIMITS = Limits(max_queue=3, max_characters=20)


def test_texts_and_rows_are_inputs() -> None:
    assert parse(b'{"input": "a film"}', ["text"], LIMITS) == (["a film"], False)
    body = json.dumps({"inputs": ["a", {"text": 7, "more": None}, "\U0001f600"]}).encode()
    given = parse(body, ["text"], LIMITS)
    assert given == (["a", {"text": 7, "more": None}, "\U0001f600"], True)
    assert parse(b'{"inputs": []}', ["text"], LIMITS) == ([], True)
    assert parse(b'{"input": {"a": {"b": "c"}}}', ["a.b"], LIMITS).inputs == [{"a": {"b": "c"}}]


@pytest.mark.parametrize(
    "body, status, line",
    [
        (b"", 400, "body: is not JSON (line 1, column 1: Expecting value); send"),
        (b"\xff", 400, "byte 0 is not UTF-8"),
        (b'{"input": NaN}', 400, "NaN is not a JSON value"),
        (b"[" * 100_000, 400, "it is nested too deeply"),
        (b'{"input": ' + b"1" * 5000 + b"}", 400, "a number has too many digits"),
        (b"[1]", 422, "body: is a list, not an object; send"),
        (b"{}", 422, 'body: has no "inputs" and no "input"; send'),
        (b'{"input": "a", "inputs": []}', 422, 'body: has both "inputs" and "input"'),
        (b'{"text": "a"}', 422, "body: unknown key 'text'; send"),
        (b'{"inputs": "a"}', 422, "inputs: is a text, not a list"),
        (b'{"inputs": ["a", 2]}', 422, "inputs[1]: is a number; send a text, or a row"),
        (b'{"input": null}', 422, "input: is null; send a text, or a row"),
        (b'{"inputs": ["a", "b", "c", "d"]}', 422, "has 4 inputs, more than 3 (--max-queue)"),
        (b'{"inputs": ["a", "%s"]}' % (b"b" * 21), 422, "inputs[1]: has 21 characters, more than"),
        (b'{"input": {"body": "a"}}', 422, "input: has no column 'text'; it has 'body'"),
        (b'{"input": {}}', 422, "input: has no column 'text'; it has none"),
        (b'{"input": "\\ud800"}', 422, "input: has half of a surrogate pair"),
        (b'{"input": {"text": ["\\udfff"]}}', 422, "input: has half of a surrogate pair"),
        (b'{"input": {"text": %s1%s}}' % (b"[" * 40, b"]" * 40), 422, "input: is nested too"),
    ],
)
def test_everything_else_is_one_line(body: bytes, status: int, line: str) -> None:
    with pytest.raises(RequestError) as error:
        parse(body, ["text"], LIMITS)
    assert error.value.status == status
    assert line in str(error.value)
    assert len(error.value.lines) == 1


def test_characters_of_a_row_include_its_names() -> None:
    assert characters({"ab": ["c", {"d": "ef"}], "g": 1.5}) == 2 + 1 + 1 + 2 + 1 + 1
