"""The word check finds unused words, and only those; every exception in its list is needed."""

import re

import pytest
import yaml

from tests.language.check_words import ROOT, WORDS, find, main, read_rules, tracked_files


@pytest.mark.slow
def test_repository_has_no_unused_word(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_unused_word_is_reported_with_its_place(line: str) -> None:
    reports = list(find(f"first\n{line}\n", "pipeline/a.py", read_rules()))
    assert reports
    assert all(re.match(r"pipeline/a\.py:2: '.+': write .", report) for report in reports)


@pytest.mark.parametrize("line", ["untold", "standard", "recommend", "a corpus.columns=[a] key"])
def test_word_that_contains_an_unused_word_is_not_reported(line: str) -> None:
    assert not list(find(line, "pipeline/a.py", read_rules()))


def test_every_allowed_path_contains_the_word() -> None:
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in tracked_files()}
    for entry, rule in zip(yaml.safe_load(WORDS.read_text()), read_rules(), strict=True):
        for path in rule.paths:
            assert rule.pattern.search(texts[path]), f"{entry['word']}: {path} does not have it"
