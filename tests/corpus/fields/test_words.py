"""Words, their characters and their tags: aligned rows, encoding, and shards."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import EncodingContext
from pipeline.corpus.fields.encoding import ExampleEncoder
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import UNK
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import train
from pipeline.errors import DatasetError, InputError
from tests.helpers.files import content, read, row_dicts, settings_in, values_of
from tests.helpers.settings import corpus_settings

WIDTH = 6
FIELDS = (
    FieldSpec("tokens", "words", "words"),
    FieldSpec("characters", "words", "characters", width=WIDTH),
    FieldSpec("tags", "tags", "tags"),
)
NUL, SURROGATE = "a\0b", "caf\udce9"


def settings(**changes: Any) -> Any:
    return corpus_settings(**({"input": ["a.conll"], "shards": "shards"} | changes))


@pytest.mark.parametrize(
    "words, tags, reason",
    [
        ("a b", "O O", None),
        ("a b", "O", SkipReason.MISALIGNED),
        (["a"], "O O", SkipReason.MISALIGNED),
    ],
)
def test_rows_need_one_tag_per_word(words: Any, tags: Any, reason: SkipReason | None) -> None:
    example = RowChecker.of(settings(), FIELDS).check(Row(1, {"words": words, "tags": tags}), "a")
    assert example is reason if reason else isinstance(example, Example)


def test_rows_with_the_same_words_are_duplicates() -> None:
    checker = RowChecker.of(settings(), FIELDS)

    def identity(words: list[str], tag: str) -> bytes:
        example = checker.check(Row(1, {"words": words, "tags": [tag] * len(words)}), "a")
        assert isinstance(example, Example)
        return example.identity

    assert identity(["a", "b"], "O") == identity(["a", "b"], "DET")
    assert len({identity(words, "O") for words in (["a", "b"], ["ab"], ["a b"], ["b", "a"])}) == 4


@pytest.mark.parametrize(
    "word, expected",
    [
        ("a", b"a\0\0\0\0\0"),
        ("abcdef", b"abcdef"),
        ("abcdefg", b"abcefg"),
        ("antidisestablishment", b"antent"),
        ("été", b"\xc3\xa9t\xc3\xa9\0"),
        ("naïveté", b"na\xc3t\xc3\xa9"),  # cut between bytes, even within a character
    ],
)
@pytest.mark.parametrize("width", [5, WIDTH])
def test_characters_are_bytes_of_the_word_and_long_words_keep_both_ends(
    word: str, expected: bytes, width: int
) -> None:
    field = FieldSpec("x", "x", "characters", width=width)
    kind = field.kind_class(field, settings())
    ((cell,), long, _) = kind.encode([[word]], EncodingContext({}))[0]
    assert isinstance(cell, np.ndarray)
    assert (cell.dtype, cell.shape, long) == (np.dtype(np.uint8), (1, width), False)
    if width == WIDTH:
        assert cell.tobytes() == expected
    elif len(word.encode()) > width:
        assert cell.tobytes() == word.encode()[:3] + word.encode()[-2:]


def word_encoder(folder: Path, texts: list[str], **changes: Any) -> TextEncoder:
    """Encoder of a word-level tokenizer that is trained on texts with one word per line."""
    corpus = settings(**changes)
    path = folder / "tokenizer.json"
    path.write_text(train(texts, corpus, words=True))
    return TextEncoder(path, corpus.max_tokens, corpus.truncation_side, corpus.overflow)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 13])
@pytest.mark.parametrize(
    "overflow, side, kept",
    [
        ("truncate", "start", lambda n: [range(min(n, 4))]),
        ("truncate", "end", lambda n: [range(max(n - 4, 0), n)]),
        ("truncate", "both", lambda n: [range(n) if n <= 4 else [0, 1, n - 2, n - 1]]),
        ("split", "start", lambda n: np.array_split(range(n), -(-n // 4))),
        ("drop", "start", lambda n: [range(n)] if n <= 4 else []),
    ],
)
def test_words_characters_and_tags_are_cut_at_the_same_positions(
    count: int, overflow: str, side: str, kept: Any, tmp_path: Path
) -> None:
    words, tags = [f"w{i}" for i in range(count)], [f"T{i}" for i in range(count)]
    changes = {"max_tokens": 4, "overflow": overflow, "truncation_side": side}
    text_encoder = word_encoder(tmp_path, words, **changes)
    checker = RowChecker.of(settings(**changes), FIELDS)
    encoder = ExampleEncoder(checker, {"tokenizer": text_encoder}, {"tags": tags})
    (encoded,) = encoder.encode([(words, words, tags)])
    assert encoded.long == (count > 4)
    assert encoded.skip == (SkipReason.TOO_LONG if count > 4 and overflow == "drop" else None)
    assert len(encoded.rows) == len(kept(count))
    for cells, positions in zip(encoded.rows, kept(count), strict=True):
        tokens, characters, tag_ids = map(np.asarray, cells)
        row_words = [bytes(word).rstrip(b"\0").decode() for word in characters]
        assert list(tag_ids) == list(positions)
        assert row_words == [words[i] for i in positions]
        assert list(tokens) == text_encoder.encode_words([row_words])[0].tolist()


def decoded_words(folder: Path, words: list[str], texts: list[str], **changes: Any) -> list[str]:
    """Encode and decode words with a tokenizer that is trained on `texts`."""
    encoder = word_encoder(folder, texts, **changes)
    (ids,) = encoder.encode_words([words])
    return ["unknown" if token == UNK else encoder.decode([token]) for token in ids]


def test_words_are_looked_up_whole_in_normalized_form(tmp_path: Path) -> None:
    texts = ["The\nfilm\nNew York", "the\nnai\u0308ve"]
    found = decoded_words(tmp_path, ["THE", "film", "films", "York", "new york", "naïve"], texts)
    assert found == ["the", "film", "unknown", "unknown", "new york", "naïve"]
    found = decoded_words(tmp_path, ["THE", "The", "the"], texts, lowercase=False)
    assert found == ["unknown", "The", "the"]


def test_words_below_min_count_are_unknown(tmp_path: Path) -> None:
    found = decoded_words(tmp_path, ["once", "twice"], ["once\ntwice", "Twice"], min_count=2)
    assert found == ["unknown", "twice"]


@pytest.mark.parametrize("word", ["<pad>", "<PAD>", "</s>", "<unk>", "a\nb", "\n.", "\u200b"])
def test_any_word_is_one_token_and_never_a_special_token(word: str, tmp_path: Path) -> None:
    assert decoded_words(tmp_path, ["b", word, "b"], ["b\n</s>\n<pad>"]) == ["b", "unknown", "b"]


def test_a_tokenizer_that_splits_words_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(train(["the film"], settings()))
    with pytest.raises(DatasetError, match=r"json: splits or removes words .*corpus\.tokenizer=''"):
        TextEncoder(path, 9).encode_words([["another", "word"]])


Sentence = tuple[list[str], list[str]]


def random_sentences(count: int, seed: int = 0) -> list[Sentence]:
    """Sentences of up to 31 words, the last of which is unique; one has a tag that occurs once."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        words = [
            rng.choice(["The", "the", "film", "naïve", "映画", "</s>", f"rare{rng.random()}"])
            for _ in range(rng.randint(1, 30))
        ]
        tags = [rng.choice(["O", "B-PER", "B-LOC"]) for _ in words]
        words, tags = [*words, f"n{number}"], [*tags, "O"]
        rows.append((words, tags))
    rows[3][1][0] = "B-ONCE"
    return rows


ROWS = random_sentences(300)


def write(path: Path, rows: list[Sentence]) -> None:
    with path.open("w") as file:
        for words, tags in rows:
            if path.suffix == ".jsonl":
                file.write(json.dumps({"words": words, "tags": tags}) + "\n")
            else:
                pairs = zip(words, tags, strict=True)
                file.write("".join(f"{word} {tag}\n" for word, tag in pairs) + "\n")


def prepare_words(folder: Path, name: str = "a.conll", **changes: Any) -> Manifest:
    write(folder / name, ROWS)
    defaults = {"input": name, "columns": ["words", "tags"], "lowercase": True, "min_count": 3}
    return prepare(settings_in(folder, **(defaults | changes)), FIELDS)


@pytest.fixture(scope="module")
def split_dataset(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare_words(tmp_path_factory.mktemp("split"), max_tokens=12, overflow="split")


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl"])
def test_shards_have_every_sentence_with_its_tags(name: str, tmp_path: Path) -> None:
    manifest = prepare_words(tmp_path, name)
    encoder = TextEncoder(manifest.path / "tokenizer.json", 60)
    expected = {tuple(words): tags for words, tags in ROWS}
    assert manifest.names["tags"] == ("B-LOC", "B-ONCE", "B-PER", "O")
    rows = [row for split in manifest.splits for row in row_dicts(manifest, split)]
    assert len(rows) == len(expected) == len(ROWS)
    by_last_word = {words[-1]: words for words in expected}
    for row in rows:
        words = by_last_word[bytes(row["characters"][-1]).rstrip(b"\0").decode()]
        assert [manifest.names["tags"][tag] for tag in row["tags"]] == expected[words]
        known = [word.lower() if not word.startswith(("rare", "n", "<")) else "" for word in words]
        known = ["naïve" if word == "naïve" else k for word, k in zip(words, known, strict=True)]
        decoded = ["" if token == UNK else encoder.decode([token]) for token in row["tokens"]]
        assert decoded == known


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "chunk_mb"), [(1, 0.002), (3, 0.005), (2, 8.0)])
def test_dataset_bytes_do_not_depend_on_workers_or_chunk_size(
    split_dataset: Manifest, tmp_path: Path, workers: int, chunk_mb: float
) -> None:
    prepare_words(tmp_path, max_tokens=12, overflow="split", workers=workers, chunk_mb=chunk_mb)
    assert content(tmp_path / "shards") == content(split_dataset.path)


def test_segments_of_a_sentence_are_complete_and_in_order(split_dataset: Manifest) -> None:
    rows = [row for split in split_dataset.splits for row in row_dicts(split_dataset, split)]
    segments: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        segments.setdefault(row["document"], []).append(row)
    assert segments.keys() == set(range(len(ROWS)))
    assert split_dataset.report["split"] > 100
    for number, parts in segments.items():
        assert [part["segment"] for part in parts] == list(range(parts[0]["segments"]))
        tags = [split_dataset.names["tags"][tag] for part in parts for tag in part["tags"]]
        assert tags == ROWS[number][1]
        lengths = [[len(part[f.name]) for f in FIELDS] for part in parts]
        assert all(len(set(part_lengths)) == 1 for part_lengths in lengths)


def test_cells_are_stored_in_the_smallest_arrow_type(split_dataset: Manifest) -> None:
    entry = np.load(split_dataset.index("train"))[0]
    data = split_dataset.shard("train", 0).read_bytes()[int(entry["offset"]) :][
        : int(entry["bytes"])
    ]
    types = pa.ipc.open_stream(data).schema.types[:3]
    assert types == [
        pa.list_(pa.uint16()), pa.list_(pa.list_(pa.uint8(), WIDTH)), pa.list_(pa.uint16())
    ]  # fmt: skip


def test_skipped_rows_are_counted_by_reason(tmp_path: Path) -> None:
    bad = [(["a"], ["O", "O"]), (["a"], ["I-X"]), ([], []), (["a"], []), ([NUL], ["O"])]
    write(tmp_path / "a.jsonl", [*bad, *ROWS])
    corpus = settings_in(tmp_path, input="a.jsonl")
    report = prepare(corpus, FIELDS).report
    for reason in ("misaligned", "not_bio", "no_words", "no_tags", "nul"):
        assert report[reason] == 1
    assert report["rows"] == len(ROWS) + 5
    corpus = settings_in(
        tmp_path, input="a.jsonl", max_skipped_ratio=0.01, shards=str(tmp_path / "b")
    )
    with pytest.raises(
        InputError, match=r"1 with tags in an order .* BIO, first a\.jsonl, line 2 \(I-X"
    ):
        prepare(corpus, FIELDS)


def test_words_that_are_not_utf8_affect_only_their_row(tmp_path: Path) -> None:
    """Parquet files may contain strings that are not UTF-8."""
    raw: Any = pa.array([[b"a"], [b"caf\xe9", b"b"], None, []], pa.list_(pa.binary()))
    strings = pa.Array.from_buffers(pa.string(), len(raw.values), raw.values.buffers())
    words = pa.ListArray.from_arrays(raw.offsets, strings, mask=raw.is_null())
    pq.write_table(pa.table({"words": words}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", ["words"])
    assert [values_of(row)["words"] for row in rows] == [["a"], [SURROGATE, "b"], None, []]
