"""The keys `corpus.label_names` and `corpus.label_base`."""

from typing import Any

import pytest

from pipeline import config
from pipeline.errors import ConfigError
from pipeline.settings import Section


def load(*overrides: str) -> Any:
    return config.load(None, overrides).corpus


@pytest.mark.parametrize(
    "text, value, names",
    [
        ("[bad, good]", ["bad", "good"], ["bad", "good"]),
        ("[1, 2.5, true]", ["1", "2.5", "true"], ["1", "2.5", "true"]),
        ("{1: World, 2: Sports}", {"1": "World", "2": "Sports"}, ["World", "Sports"]),
        ("{0: 1, 1: 2}", {"0": "1", "1": "2"}, ["1", "2"]),
        ("{1: bad, 2: bad, 3: good}", {"1": "bad", "2": "bad", "3": "good"}, ["bad", "good"]),
        ("{true: yes_, false: no_}", {"true": "yes_", "false": "no_"}, ["yes_", "no_"]),
        ('["cafe\\u0301", a]', ["caf\u00e9", "a"], ["caf\u00e9", "a"]),
        ("[]", [], []),
        ("{}", {}, []),
    ],
)
def test_names_are_a_list_or_a_map(text: str, value: Any, names: list[str]) -> None:
    corpus: Section = load(f"corpus.label_names={text}")
    assert (corpus.label_names, corpus.names) == (value, names)  # type: ignore[attr-defined]
    again = type(corpus).model_validate(corpus.model_dump(mode="json"))
    assert again == corpus


@pytest.mark.parametrize(
    "overrides, line",
    [
        (["corpus.label_names=[a, [b]]"], "has a label or a name that is not a text; quote it"),
        (["corpus.label_names=[a, '']"], "has a label or a name that is not a text; quote it"),
        (["corpus.label_names={1: a, '1': b}"], "1 is given twice; keep one of the two"),
        (["corpus.label_names=[1, '1']"], "has the same label more than once; remove the"),
        (
            ["corpus.label_names=a"],
            r"needs a list such as \[negative, positive\], or a map such as",
        ),
        (["corpus.label_base=-1"], "input should be greater than or equal to 0"),
        (
            ["corpus.label_base=1", "corpus.label_names={1: a, 2: b}"],
            "applies only if corpus.label_names is a list, and would be ignored; remove it",
        ),
        (["corpus.label_base=1", "corpus.label_names=[]"], "applies only if corpus"),
    ],
)
def test_wrong_names_are_refused_in_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^corpus\.label_\w+=.*: {line}") as caught:
        load(*overrides)
    assert len(caught.value.lines) == 1
