"""Target texts: stored losslessly, skipped where they cannot be, and restored by decoding."""

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
from pipeline.corpus.tokenization.special_tokens import END, SPECIAL_TOKENS, UNKNOWN
from pipeline.corpus.tokenization.text_encoder import TextDecoder, TextEncoder
from pipeline.corpus.tokenization.tokenizer import train
from pipeline.errors import InputError
from pipeline.tasks.translation import Translation
from tests.helpers.files import row_dicts, settings_in, write
from tests.helpers.settings import corpus_settings

SETTINGS = corpus_settings(input=["x"], shards="x", lowercase=False, vocab_size=400)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextEncoder, TextDecoder]:
    texts = ["Ein Mann fährt </s> Rad.", "  two  spaces, a tab\tand naïve 映画 🙂"] * 9
    path = tmp_path_factory.mktemp("codec") / "tokenizer.json"
    path.write_text(train(texts, SETTINGS))
    return TextEncoder(path, 4096), TextDecoder(path.read_bytes())


@given(text=st.text(st.characters(exclude_categories=["Cs", "Mn", "Lo"]), min_size=1))
def test_decoding_restores_any_text(codec: tuple[TextEncoder, TextDecoder], text: str) -> None:
    """Including whitespace, case and the names of special tokens; only NFC is applied."""
    encoder, decoder = codec
    for variant in (text, f" <s>{text}</s> ", text.title()):
        (encoded,) = encoder.encode([variant])
        assert decoder.decode(encoded.rows[0]) == unicodedata.normalize("NFC", variant)


def prepared(folder: Path, **changes: Any) -> Manifest:
    settings = settings_in(folder, **{"input": "*.jsonl", "overflow": "drop", **changes})
    return prepare(settings, Translation.fields(settings))


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text number {n}", "target": f"Satz, der {n}."} for n in range(count)]


@pytest.mark.parametrize("shared", [True, False])
def test_stored_tokens_decode_to_both_texts(tmp_path: Path, shared: bool) -> None:
    write(tmp_path / "a.jsonl", pairs(80))
    manifest = prepared(tmp_path, shared_vocab=shared)
    source, target = ("tokenizer", "tokenizer") if shared else ("source", "target")
    assert manifest.vocabularies.keys() == {source, target}
    rows = [row for split in manifest.splits for row in row_dicts(manifest, split)]
    decoded = set()
    for row in rows:
        assert row["target"][-1] == END
        assert END not in row["target"][:-1]
        assert END not in row["source"]
        texts = manifest.decode(source, row["source"]), manifest.decode(target, row["target"])
        decoded.add(texts)
    assert decoded == {(row["text"], row["target"]) for row in pairs(80)}
    if shared:  # the tokenizer was trained on both languages
        encoder = TextEncoder(manifest.path / "tokenizer.json", 60)
        assert len(encoder.encode(["Satz"])[0].rows[0]) == 1


def test_a_text_may_have_several_different_translations(tmp_path: Path) -> None:
    alternatives = [{**pair, "target": f"Oder {pair['target']}"} for pair in pairs(60)]
    write(tmp_path / "a.jsonl", pairs(60) + alternatives + pairs(7))
    manifest = prepared(tmp_path)
    assert manifest.report["duplicates"] == 7
    sources = {
        split: [tuple(row["source"]) for row in row_dicts(manifest, split)]
        for split in ("train", "validation")
    }
    assert len(sources["train"]) + len(sources["validation"]) == 120
    assert set(sources["train"]).isdisjoint(sources["validation"])


def test_rows_without_a_usable_target_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = pairs(60)
    rows += [{"text": "a", "target": ""}, {"text": "b", "target": " \t"}, {"text": "c"}]
    rows += [{"text": "", "target": "d"}, {"text": "e", "target": "x\0"}]
    rows += [{"text": "f", "target": "lang " * 9}, {"text": "long " * 99, "target": "g"}]
    write(tmp_path / "a.jsonl", rows)
    report = prepared(tmp_path, max_target_tokens=8, max_skipped_ratio=0.1).report
    skipped = {k: v for k, v in report.items() if v and k not in ("rows", "duplicates")}
    assert skipped == {
        "no_target": 3, "no_text": 1, "nul": 1, "target_too_long": 1, "too_long": 1,
    }  # fmt: skip


def test_targets_of_exactly_max_target_tokens_are_kept(tmp_path: Path) -> None:
    """</s> does not count."""
    write(tmp_path / "a.jsonl", [*pairs(80), {"text": "long", "target": "Satz " * 30}])
    longest = max(len(row["target"]) - 1 for s in ("train", "validation")
               for row in row_dicts(prepared(tmp_path), s))  # fmt: skip
    for limit, skipped in ((longest, False), (longest - 1, True)):
        shards = str(tmp_path / f"limit-{limit}")
        report = prepared(tmp_path, max_target_tokens=limit, shards=shards).report
        assert bool(report["target_too_long"]) == skipped


def test_a_missing_target_column_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "a", "tgt": "b"}] * 9)
    with pytest.raises(InputError, match="has no column 'target'"):
        prepared(tmp_path)


def test_a_tokenizer_without_an_end_token_is_an_error(tmp_path: Path) -> None:
    """Its token 3 is an ordinary token."""
    write(tmp_path / "a.jsonl", pairs(60))
    tokenizer = Tokenizer.from_str(train(["a b"], SETTINGS))
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = values["added_tokens"][:3]
    (tmp_path / "given.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError, match="its token 3 is '</s>' and represents text, but token 3 e"
    ):
        prepared(tmp_path, tokenizer=str(tmp_path / "given.json"))


def bpe(**changes: Any) -> str:
    texts = [text for row in pairs(80) for text in row.values()]
    return train(texts, SETTINGS.model_copy(update=changes))


def wordpiece() -> str:
    """A tokenizer like BERT's: lowercase, with ## before tokens that continue a word."""
    vocabulary = [*SPECIAL_TOKENS, *(f"{mark}{c}" for mark in ("", "##") for c in string.printable)]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer.to_str()


LOSSY_TOKENIZERS = {
    "case": (bpe(lowercase=True), {}, r"decodes 'Satz, der \d+\.' as 'satz, der \d+\.'"),
    "words only": (bpe(level="word", min_count=2), {}, r"decodes 'Satz, der .*' as '"),
    "WordPiece": (wordpiece(), {}, r"decodes 'Satz, der \d+\.' as 'satz, der \d+\.'"),
    "no replacement": (bpe(), {"replace": {"der": "das"}}, r"decodes 'Satz, das .*' as 'Satz, der"),
}


@pytest.mark.parametrize(
    "tokenizer, changes, message", LOSSY_TOKENIZERS.values(), ids=LOSSY_TOKENIZERS
)
def test_a_tokenizer_that_does_not_restore_targets_is_an_error(
    tmp_path: Path, tokenizer: str, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.jsonl", pairs(80))
    (tmp_path / "given.json").write_text(tokenizer)
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path, tokenizer=str(tmp_path / "given.json"), **changes)
    assert len(caught.value.lines) == 1


def test_a_tokenizer_may_change_source_texts(tmp_path: Path) -> None:
    """This one replaces "test" by "text", and no target contains "test"."""
    write(tmp_path / "a.jsonl", [{**row, "text": f"test {n}"} for n, row in enumerate(pairs(80))])
    (tmp_path / "given.json").write_text(bpe(replace={"test": "text", "number": "no."}))
    manifest = prepared(tmp_path, tokenizer=str(tmp_path / "given.json"))
    assert sum(split.rows for split in manifest.splits.values()) == 80
