"""Tokenizers: deterministic training, exact truncation and splitting of long texts, and samples."""

import json
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.scan import digest
from pipeline.corpus.tokenization.special_tokens import PAD, SPECIAL_TOKENS
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import read_tokenizer, train
from pipeline.errors import DatasetError
from tests.helpers.files import as_lists, reviews, settings_in

TEXTS = [row["text"] for row in reviews(2000)]
MAX_TOKENS = 400
ROOT = Path(__file__).parents[3]
LONG = {
    "words": "a film of it was the plot, naïve 映画 " * 8000,
    "one word": "a" * 300_000,
    "one mixed word": "thefilmofnaïve映画" * 20_000,
    "markup": "<br />" * 40_000 + "the film was naïve" * 1000,
    "blanks": " " * 200_000 + "film",
    "digits": "0123456789" * 20_000,
    "marks": "e\u0301" * 100_000,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train(TEXTS, settings_in(path.parent, replace={"<br />": " "})))
    return path


@pytest.mark.parametrize("threads", [1, 4])
def test_training_does_not_depend_on_threads(path: Path, threads: int):
    script = (
        "from tests.corpus.tokenization.test_tokenizer import *\n"
        "print(train(TEXTS, settings_in(Path('.'), replace={'<br />': ' '})), end='')"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert process.stdout == path.read_bytes()


@pytest.mark.parametrize("kind", LONG)
def test_truncation_does_not_change_tokens(path: Path, kind: str):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    text = LONG[kind]
    expected = tokenizer.encode(text, add_special_tokens=False).ids[:MAX_TOKENS]
    encoded = TextEncoder(path, MAX_TOKENS).encode([text, "the film"])
    assert as_lists(encoded)[0] == ([expected], True)


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("side", ["start", "end", "both"])
def test_truncated_text_keeps_the_configured_side(path: Path, kind: str, side: str):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(LONG[kind], add_special_tokens=False).ids
    half = MAX_TOKENS // 2
    expected = {
        "start": ids[:MAX_TOKENS],
        "end": ids[-MAX_TOKENS:],
        "both": ids[:half] + ids[half - MAX_TOKENS :],
    }
    encoder = TextEncoder(path, MAX_TOKENS, side)
    assert as_lists(encoder.encode([LONG[kind], "the film"]))[0] == ([expected[side]], True)
    for count in (len(ids), len(ids) + 1):
        encoded = TextEncoder(path, count, side).encode([LONG[kind]])
        assert as_lists(encoded) == [([ids], False)]


@pytest.mark.parametrize("kind", LONG)
def test_a_split_text_keeps_all_tokens(path: Path, kind: str):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(LONG[kind], add_special_tokens=False).ids
    encoder = TextEncoder(path, 400, overflow="split")
    ((rows, long), short_text) = as_lists(encoder.encode([LONG[kind], "the film"]))
    assert long
    assert [token for row in rows for token in row] == ids
    assert [short_text] == as_lists(TextEncoder(path, 400).encode(["the film"]))


@pytest.mark.parametrize(
    "tokens, max_tokens, expected",
    [
        (1000, 400, [334, 333, 333]),
        (1001, 400, [334, 334, 333]),
        (401, 400, [201, 200]),
        (400, 400, [400]),
        (800, 400, [400, 400]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_a_text_is_split_evenly(path: Path, tokens: int, max_tokens: int, expected: list[int]):
    (encoded,) = TextEncoder(path, max_tokens, overflow="split").encode(
        ["~" * tokens]
    )  # never merged
    assert [len(row) for row in encoded.rows] == expected
    assert encoded.long == (tokens > max_tokens)


def test_texts_of_more_than_max_tokens_are_dropped(path: Path):
    encoder = TextEncoder(path, 4, overflow="drop")
    assert as_lists(encoder.encode(["~~~~", "~~~~~", ""]))[1:] == [([], True), ([], False)]
    kept = as_lists(TextEncoder(path, 4).encode(["~~~~"]))
    assert as_lists(encoder.encode(["~~~~"])) == kept


def test_encoding_10_mb_takes_no_longer_than_encoding_their_start(path: Path):
    text = LONG["words"] * 40
    start = time.monotonic()
    encoded = TextEncoder(path, MAX_TOKENS).encode([text])
    assert time.monotonic() - start < 1
    assert as_lists(encoded) == as_lists(TextEncoder(path, MAX_TOKENS).encode([LONG["words"]]))


def test_a_batch_of_texts_of_all_lengths_is_encoded_exactly(path: Path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    texts = [" ".join(TEXTS[:count]) for count in (0, 1, 2, 20, 100, 500)] + ["<br />" * 3000, "x"]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids[:MAX_TOKENS] for text in texts]
    encoded = TextEncoder(path, MAX_TOKENS).encode(texts)
    assert [rows for rows, _ in as_lists(encoded)] == [[ids] if ids else [] for ids in expected]


def test_decoding_restores_any_text_in_normalized_form(path: Path):
    encoder = TextEncoder(path, 100_000)
    texts = [*TEXTS[:50], "".join(map(chr, range(1, 0x300))), "\U0010ffff", *SPECIAL_TOKENS]
    for text, ((ids,), _) in zip(texts, encoder.encode(texts), strict=True):
        assert encoder.decode(ids) == unicodedata.normalize("NFC", text)
        assert min(ids) >= len(SPECIAL_TOKENS)  # names of special tokens are encoded as text


def test_special_tokens_have_the_first_ids(path: Path):
    ids = [Tokenizer.from_file(str(path)).token_to_id(token) for token in SPECIAL_TOKENS]
    assert ids == [0, 1, 2, 3]
    assert PAD == 0


def test_text_is_lowercased_and_strings_are_replaced(tmp_path: Path):
    settings = settings_in(tmp_path, lowercase=True, replace={"<br />": " ", "&amp;": "&"})
    (tmp_path / "tokenizer.json").write_text(train(TEXTS, settings))
    encoder = TextEncoder(tmp_path / "tokenizer.json", 100)
    (((ids,), _),) = encoder.encode(["Q&amp;A<br />ÉTÉ"])
    assert encoder.decode(ids) == "q&a été"


def test_a_damaged_tokenizer_is_an_error(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"tokenizer\.json: is not a tokenizer"):
        TextEncoder(tmp_path / "tokenizer.json", 10)


@pytest.mark.parametrize("files", [1, 2, 7])
@pytest.mark.parametrize("budget", [500, 5000, 1_000_000])
def test_a_sample_does_not_depend_on_the_number_of_files(tmp_path: Path, files: int, budget: int):
    texts = TEXTS[:700] + TEXTS[:50]
    merged = TextSample(budget)
    for file in range(files):
        part = TextSample(budget)
        own = texts[file::files]
        for number, text in enumerate(own):
            part.add(digest(text.encode())[1], text, number)
        part.save(tmp_path / "sample")
        merged.add_saved(tmp_path / "sample", first_example=1000 * file)
    in_order = sorted({digest(text.encode())[1]: text for text in texts}.items())
    expected, remaining = [], budget
    for order, text in in_order:
        remaining -= len(text.encode())
        if remaining < 0:
            break
        expected.append((order, text))
    assert [(order, text) for order, text, _ in merged] == expected
    for _, text, example in merged:
        assert texts[example // 1000 :: files][example % 1000] == text
    assert merged.bytes == sum(len(text.encode()) for _, text in expected)


def test_a_long_text_takes_only_a_part_of_the_sample():
    sample = TextSample(1_000_000)
    sample.add(1, "x" * 10_000_000, 0)
    sample.add(2, "y", 1)
    assert [len(text) for _, text, _ in sample] == [1 << 16, 1]


def test_word_ids_follow_special_tokens_and_their_names_are_unknown_words(tmp_path: Path) -> None:
    texts = ["the <unk> film </s> the <pad> <s> film the", "the film"]
    settings = settings_in(tmp_path, level="word")
    path = tmp_path / "tokenizer.json"
    path.write_text(train(texts, settings))
    encoder = TextEncoder(path, 100)
    assert encoder.vocab_size == 6
    (encoded,) = encoder.encode([texts[0]])
    assert as_lists([encoded]) == [([[4, 1, 5, 1, 4, 1, 1, 5, 4]], False)]
    assert [Tokenizer.from_file(str(path)).token_to_id(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3]


def test_truncation_padding_and_dropout_of_a_given_tokenizer_are_off(tmp_path: Path) -> None:
    """The tokens are the same with the given file, with the stored copy and without these keys."""
    settings = settings_in(tmp_path, tokenizer=str(tmp_path / "given.json"))
    plain = train(TEXTS, settings)
    tokenizer = Tokenizer.from_str(plain)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=30)
    tokenizer.model.dropout = 0.5
    given, stored = tmp_path / "given.json", tmp_path / "stored.json"
    given.write_text(tokenizer.to_str())
    data = read_tokenizer(settings)
    stored.write_bytes(data)
    content = json.loads(data)
    assert content["truncation"] is content["padding"] is content["model"]["dropout"] is None
    assert content["model"] == json.loads(plain)["model"]
    (tmp_path / "plain.json").write_text(plain)
    texts = TEXTS[:50]
    expected = as_lists(TextEncoder(tmp_path / "plain.json", MAX_TOKENS).encode(texts))
    for path in (given, stored):
        encoder = TextEncoder(path, MAX_TOKENS)
        assert as_lists(encoder.encode(texts)) == as_lists(encoder.encode(texts)) == expected


def test_a_tokenizer_without_such_keys_is_copied_unchanged(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, tokenizer=str(tmp_path / "given.json"))
    plain = "\n" + train(TEXTS[:10], settings)
    (tmp_path / "given.json").write_text(plain)
    assert read_tokenizer(settings) == plain.encode()


def test_word_tokenizers_are_not_truncated_either(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(train(["a\nb\nc"], settings_in(tmp_path), words=True))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=30)
    (tmp_path / "given.json").write_text(tokenizer.to_str())
    ((ids,),) = [TextEncoder(tmp_path / "given.json", 10).encode_words([["a", "b", "c", "a"]])]
    assert ids.tolist() == [4, 5, 6, 4]
