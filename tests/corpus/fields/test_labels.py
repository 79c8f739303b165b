"""Label names: unknown names, rare labels, and labels of split texts."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.encoding import ExampleEncoder
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import train
from pipeline.errors import InputError
from tests.helpers.files import settings_in
from tests.helpers.settings import corpus_settings

WORDS = FieldSpec("tokens", "words", "words")
TAGS = FieldSpec("tags", "tags", "tags")
LABEL = FieldSpec("label", "tags", "label")


def test_unknown_names_are_reported_with_file_and_row() -> None:
    settings = corpus_settings(input=["a.conll"], shards="shards")
    encoder = ExampleEncoder(RowChecker.of(settings, [TAGS]), {}, {"tags": ("O", "B-X")})
    encoder.check_names([["O", "B-X", "1"]], "a.conll:7")
    with pytest.raises(InputError, match=r"a\.conll:8: label 'B-Y' is not in .*O, B-X"):
        encoder.check_names([["O", "B-Y"]], "a.conll:8")
    assert NameIndex(["O", "B-X"])["1"] == 1


def test_every_row_of_a_split_text_has_its_label(tmp_path: Path) -> None:
    settings = corpus_settings(input=["a.conll"], shards="shards", max_tokens=2, overflow="split")
    path = tmp_path / "tokenizer.json"
    path.write_text(train(["a"], settings, words=True))
    text_encoder = TextEncoder(path, 2, overflow="split")
    checker = RowChecker.of(settings, [WORDS, LABEL])
    encoder = ExampleEncoder(checker, {"tokenizer": text_encoder}, {"label": "xy"})
    (encoded,) = encoder.encode([(["a"] * 5, "y")])
    assert [(len(np.asarray(tokens)), label) for tokens, label in encoded.rows] == [
        (2, 1),
        (2, 1),
        (1, 1),
    ]


def test_a_label_of_only_one_row_is_dropped_but_a_tag_is_kept(tmp_path: Path) -> None:
    """Unlike a label, a rare tag is no reason to skip the row, which has many other tags."""
    rows = [(["a", f"n{n}"], "once" if n == 5 else "xy"[n % 2]) for n in range(80)]
    with (tmp_path / "a.jsonl").open("w") as file:
        file.writelines(json.dumps({"words": w, "tags": [tag, tag]}) + "\n" for w, tag in rows)
    fields = (WORDS, FieldSpec("characters", "words", "characters", width=6), TAGS)
    settings = settings_in(tmp_path, input="a.jsonl")
    assert prepare(settings, fields).names["tags"] == ("once", "x", "y")
    with (tmp_path / "b.jsonl").open("w") as file:
        file.writelines(json.dumps({"words": w, "tags": tag}) + "\n" for w, tag in rows)
    label = FieldSpec("tags", "tags", "label")
    settings = settings_in(tmp_path, input="b.jsonl", shards=str(tmp_path / "b"))
    manifest = prepare(settings, (WORDS, label))
    assert manifest.names["tags"] == ("x", "y")
    assert manifest.report["label_once"] == 1
