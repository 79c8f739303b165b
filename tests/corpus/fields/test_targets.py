"""Texts that are to be written: stored as they are, counted where they cannot be, given back."""

import json
import string
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.tokenization.special_tokens import END, SPECIAL_TOKENS, UNKNOWN
from pipeline.corpus.tokenization.tokenizer import TextDecoder, TextEncoder, train
from pipeline.errors import InputError
from pipeline.tasks.translation import Translation
from tests.helpers.files import columns_of, settings_in, write

SETTINGS = CorpusSettings(input=["x"], shards="x", lowercase=False, vocab_size=400)


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextEncoder, TextDecoder]:
    texts = ["Ein Mann fährt </s> Rad.", "  two  spaces, a tab\tand naïve 映画 🙂"] * 9
    path = tmp_path_factory.mktemp("coder") / "tokenizer.json"
    path.write_text(train(texts, SETTINGS))
    return TextEncoder(path, 4096), TextDecoder(path.read_bytes())


@given(text=st.text(st.characters(exclude_categories=["Cs", "Mn", "Lo"]), min_size=1))
def test_a_text_comes_back_as_it_was(coder: tuple[TextEncoder, TextDecoder], text: str) -> None:
    """Blanks, capitals and what is spelt as a special token too; but for Unicode's composition."""
    for whole in (text, f" <s>{text}</s> ", text.title()):
        (encoded,) = coder[0].encode([whole])
        assert coder[1].decode(encoded.rows[0]) == unicodedata.normalize("NFC", whole)


def made(folder: Path, **changes: Any) -> Manifest:
    settings = settings_in(folder, **{"input": "*.jsonl", "overflow": "drop", **changes})
    return prepare(settings, Translation.fields(settings))


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text number {n}", "target": f"Satz, der {n}."} for n in range(count)]


@pytest.mark.parametrize("joint", [True, False])
def test_what_is_stored_spells_both_texts(tmp_path: Path, joint: bool) -> None:
    write(tmp_path / "a.jsonl", pairs(80))
    manifest = made(tmp_path, shared_vocab=joint)
    source, target = ("tokenizer", "tokenizer") if joint else ("source", "target")
    assert manifest.vocabularies.keys() == {source, target}
    rows = [row for split in manifest.splits for row in columns_of(manifest, split)]
    found = set()
    for row in rows:
        assert row["target"][-1] == END
        assert END not in row["target"][:-1]
        assert END not in row["source"]
        texts = manifest.decode(source, row["source"]), manifest.decode(target, row["target"])
        found.add(texts)
    assert found == {(row["text"], row["target"]) for row in pairs(80)}
    if joint:  # and was trained on both languages
        assert (
            len(TextEncoder(manifest.path / "tokenizer.json", 60).encode(["Satz"])[0].rows[0]) == 1
        )


def test_a_text_may_have_several_translations_but_each_once(tmp_path: Path) -> None:
    others = [{**pair, "target": f"Oder {pair['target']}"} for pair in pairs(60)]
    write(tmp_path / "a.jsonl", pairs(60) + others + pairs(7))
    manifest = made(tmp_path)
    assert manifest.report["duplicates"] == 7
    sources = {
        split: [tuple(row["source"]) for row in columns_of(manifest, split)]
        for split in ("train", "validation")
    }
    assert len(sources["train"]) + len(sources["validation"]) == 120
    assert set(sources["train"]).isdisjoint(sources["validation"])


def test_what_has_no_usable_target_is_counted_and_left_out(tmp_path: Path) -> None:
    rows = pairs(60)
    rows += [{"text": "a", "target": ""}, {"text": "b", "target": " \t"}, {"text": "c"}]
    rows += [{"text": "", "target": "d"}, {"text": "e", "target": "x\0"}]
    rows += [{"text": "f", "target": "lang " * 9}, {"text": "long " * 99, "target": "g"}]
    write(tmp_path / "a.jsonl", rows)
    report = made(tmp_path, max_target_tokens=8, max_skipped_ratio=0.1).report
    counted = {k: v for k, v in report.items() if v and k not in ("rows", "duplicates")}
    assert counted == {
        "no_target": 3, "no_text": 1, "nul": 1, "target_too_long": 1, "too_long": 1,
    }  # fmt: skip


def test_a_target_may_be_as_long_as_it_says(tmp_path: Path) -> None:
    """</s> is not one of its tokens."""
    write(tmp_path / "a.jsonl", [*pairs(80), {"text": "long", "target": "Satz " * 30}])
    most = max(len(row["target"]) - 1 for s in ("train", "validation")
               for row in columns_of(made(tmp_path), s))  # fmt: skip
    for limit, left_out in ((most, False), (most - 1, True)):
        shards = str(tmp_path / f"of-{limit}")
        report = made(tmp_path, max_target_tokens=limit, shards=shards).report
        assert bool(report["target_too_long"]) == left_out


def test_a_missing_column_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "a", "tgt": "b"}] * 9)
    with pytest.raises(InputError, match="has no column 'target'"):
        made(tmp_path)


def test_a_tokenizer_that_cannot_end_a_text_is_one_line(tmp_path: Path) -> None:
    """Token 3 of it stands for text."""
    write(tmp_path / "a.jsonl", pairs(60))
    other = Tokenizer.from_str(train(["a b"], SETTINGS))
    values = json.loads(other.to_str())
    values["added_tokens"] = values["added_tokens"][:3]
    (tmp_path / "given.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="its token 3 is '</s>' and stands for text, but what is"):
        made(tmp_path, tokenizer=str(tmp_path / "given.json"))


def bpe(**changes: Any) -> str:
    texts = [text for row in pairs(80) for text in row.values()]
    return train(texts, SETTINGS.model_copy(update=changes))


def word_piece() -> str:
    """As BERT has it: lower case, a mark before what goes on with a word."""
    vocabulary = [*SPECIAL_TOKENS, *(f"{m}{c}" for m in ("", "##") for c in string.printable)]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer.to_str()


CHANGED = {
    "case": (bpe(lowercase=True), {}, r"spells 'Satz, der \d+\.' as 'satz, der \d+\.'"),
    "words alone": (bpe(level="word", min_count=2), {}, r"spells 'Satz, der .*' as '"),
    "WordPiece": (word_piece(), {}, r"spells 'Satz, der \d+\.' as 'satz, der \d+\.'"),
    "no replacement": (bpe(), {"replace": {"der": "das"}}, r"spells 'Satz, das .*' as 'Satz, der"),
}


@pytest.mark.parametrize("tokenizer, changes, says", CHANGED.values(), ids=CHANGED)
def test_a_tokenizer_that_changes_a_reference_is_one_line(
    tmp_path: Path, tokenizer: str, changes: dict[str, Any], says: str
) -> None:
    write(tmp_path / "a.jsonl", pairs(80))
    (tmp_path / "given.json").write_text(tokenizer)
    with pytest.raises(InputError, match=says) as caught:
        made(tmp_path, tokenizer=str(tmp_path / "given.json"), **changes)
    assert len(caught.value.lines) == 1


def test_a_given_tokenizer_may_change_what_is_read_alone(tmp_path: Path) -> None:
    """This one makes "text" of "test", which stands in no target."""
    write(tmp_path / "a.jsonl", [{**row, "text": f"test {n}"} for n, row in enumerate(pairs(80))])
    (tmp_path / "given.json").write_text(bpe(replace={"test": "text", "number": "no."}))
    manifest = made(tmp_path, tokenizer=str(tmp_path / "given.json"))
    assert sum(split.rows for split in manifest.splits.values()) == 80
