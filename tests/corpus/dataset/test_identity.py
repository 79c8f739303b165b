"""The digest in the default name of a dataset's folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.corpus.dataset import identity
from pipeline.corpus.dataset.identity import shards_digest
from tests.helpers.files import FIELDS, settings_in


def test_equal_settings_have_equal_digests(tmp_path: Path) -> None:
    """Keys that may change, such as those of speed and places, do not count."""
    first = shards_digest(settings_in(tmp_path), FIELDS)
    assert len(first) == 8
    assert int(first, 16) >= 0
    others = {"workers": 4, "chunk_mb": 1.0, "shards": "x", "root": "y", "if_changed": "keep"}
    for key, value in others.items():
        assert shards_digest(settings_in(tmp_path, **{key: value}), FIELDS) == first, key


@pytest.mark.parametrize(
    "key, value",
    [("max_tokens", 61), ("input", "b.csv"), ("validation", 0.3), ("lowercase", True),
     ("label_names", ["a", "b"]), ("replace", {"a": "b"})],
)  # fmt: skip
def test_a_setting_that_shapes_the_shards_changes_the_digest(
    key: str, value: object, tmp_path: Path
) -> None:
    first = shards_digest(settings_in(tmp_path), FIELDS)
    assert shards_digest(settings_in(tmp_path, **{key: value}), FIELDS) != first


def test_fields_and_format_change_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    first = shards_digest(settings, FIELDS)
    assert shards_digest(settings, FIELDS[:1]) != first
    assert shards_digest(settings, (replace(FIELDS[0], column="x"), *FIELDS[1:])) != first
    monkeypatch.setattr(identity, "FORMAT", 99)
    assert shards_digest(settings, FIELDS) != first


def test_the_content_of_a_tokenizer_counts_and_not_its_path(tmp_path: Path) -> None:
    for name, text in (("a.json", "1"), ("b.json", "1"), ("c.json", "2")):
        (tmp_path / name).write_text(text)
    digests = [
        shards_digest(settings_in(tmp_path, tokenizer=str(tmp_path / name)), FIELDS)
        for name in ("a.json", "b.json", "c.json", "missing.json")
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert digests[3] == shards_digest(settings_in(tmp_path), FIELDS)
