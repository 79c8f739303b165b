"""The word check finds what it should, and the allow-list has no entry without effect."""

import re

import pytest
import yaml

from tests.language.check_words import ROOT, WORDS, find, main, read_rules, tracked_files


def test_the_repository_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "    _told = crew",  # in an identifier
        "# as many as there are",
        "The Figures are told apart.",
        'f"corpus.where={value}: mend it"',
    ],
)
def test_a_planted_word_is_reported_with_its_place(line: str) -> None:
    found = list(find(f"first\n{line}\n", "pipeline/a.py", read_rules()))
    assert found
    assert all(re.match(r"pipeline/a\.py:2: '.+': write .", report) for report in found)


@pytest.mark.parametrize("line", ["untold", "standard", "recommend", "a corpus.columns=[a] key"])
def test_words_that_only_contain_one_are_not_reported(line: str) -> None:
    assert not list(find(line, "pipeline/a.py", read_rules()))


def test_every_allowed_path_has_the_word() -> None:
    """An entry of the allow-list that allows nothing is removed."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in tracked_files()}
    for entry, rule in zip(yaml.safe_load(WORDS.read_text()), read_rules(), strict=True):
        for path in rule.paths:
            assert rule.pattern.search(texts[path]), f"{entry['word']}: {path} does not have it"
