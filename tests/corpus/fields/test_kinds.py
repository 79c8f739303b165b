"""What becomes of each kind of field: what is skipped, the cells, and the way to the shards."""

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
from pipeline.corpus.fields.kinds import field_kind
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers.opening import read
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import UNK
from pipeline.corpus.tokenization.tokenizer import TextEncoder, train
from pipeline.errors import DatasetError, InputError
from tests.helpers.files import columns_of, content, settings_in

WIDTH = 6
FIELDS = (
    FieldSpec("tokens", "words", "words"),
    FieldSpec("characters", "words", "characters", width=WIDTH),
    FieldSpec("tags", "tags", "tags"),
)
NUL, SURROGATE = "a\0b", "caf\udce9"


def settings(**changes: Any) -> CorpusSettings:
    return CorpusSettings(**({"input": ["a.conll"], "shards": "shards"} | changes))


def checked(kind: Any, value: Any) -> Any:
    return field_kind(FieldSpec("x", "x", kind), settings()).check(value)


@pytest.mark.parametrize(
    "kind, value, found",
    [
        ("text", " A text. ", " A text. "),
        ("words", ["New York", "is", "—"], ["New York", "is", "—"]),
        ("words", " New  York\tis ", ["New", "York", "is"]),
        ("words", ["a\nb"], ["a\nb"]),
        ("characters", ["New York"], ["New York"]),
        ("tags", "O B-X I-X", ["O", "B-X", "I-X"]),
        ("tags", ["B-X", "E-X", "S-Y"], ["B-X", "E-X", "S-Y"]),
        ("tags", ["DET", "I", "NOUN"], ["DET", "I", "NOUN"]),  # not BIO: DET is no tag of it
        ("label", " fine ", "fine"),
        ("label", 3, "3"),
        ("label", True, "true"),
    ],
)
def test_what_a_field_takes(kind: str, value: Any, found: Any) -> None:
    assert checked(kind, value) == found


NO_WORDS = [None, "", " ", [], ["a", ""], ["a", " "], ["a", None], [1], 3, {"a": 1}, ("a",)]


@pytest.mark.parametrize(
    "kind, value, why",
    [
        *(("text", value, SkipReason.NO_TEXT) for value in (None, "", " \n", 3, ["a"])),
        *(("words", value, SkipReason.NO_WORDS) for value in NO_WORDS),
        *(("characters", value, SkipReason.NO_WORDS) for value in NO_WORDS),
        *(("tags", value, SkipReason.NO_TAGS) for value in NO_WORDS),
        *(("label", value, SkipReason.NO_LABEL) for value in (None, "", " ", float("nan"))),
        *(
            ("tags", value, SkipReason.NOT_BIO)
            for value in ("I-X", "O I-X", "B-X I-Y", "B-X E-Y", "I")
        ),
        *((kind, NUL, SkipReason.NUL) for kind in ("text", "words", "characters", "tags", "label")),
        *((kind, SURROGATE, SkipReason.NOT_UTF8) for kind in ("text", "words", "tags", "label")),
        ("words", ["a", SURROGATE], SkipReason.NOT_UTF8),
        ("tags", ["a", NUL], SkipReason.NUL),
    ],
)
def test_what_it_skips(kind: str, value: Any, why: SkipReason) -> None:
    assert checked(kind, value) is why


@pytest.mark.parametrize(
    "words, tags, found",
    [
        ("a b", "O O", None),
        ("a b", "O", SkipReason.MISALIGNED),
        (["a"], "O O", SkipReason.MISALIGNED),
    ],
)
def test_words_and_tags_are_equally_many(words: Any, tags: Any, found: SkipReason | None) -> None:
    example = RowChecker.of(settings(), FIELDS).check(Row(1, {"words": words, "tags": tags}), "a")
    assert example is found if found else isinstance(example, Example)


def test_rows_are_equal_if_their_words_are() -> None:
    wanted = RowChecker.of(settings(), FIELDS)

    def data(words: list[str], tag: str) -> bytes:
        example = wanted.check(Row(1, {"words": words, "tags": [tag] * len(words)}), "a")
        assert isinstance(example, Example)
        return example.data

    assert data(["a", "b"], "O") == data(["a", "b"], "DET")
    assert len({data(words, "O") for words in (["a", "b"], ["ab"], ["a b"], ["b", "a"])}) == 4


@pytest.mark.parametrize(
    "word, expected",
    [
        ("a", b"a\0\0\0\0\0"),
        ("abcdef", b"abcdef"),
        ("abcdefg", b"abcefg"),
        ("antidisestablishment", b"antent"),
        ("été", b"\xc3\xa9t\xc3\xa9\0"),
        ("naïveté", b"na\xc3t\xc3\xa9"),  # characters are cut where bytes are
    ],
)
@pytest.mark.parametrize("width", [5, WIDTH])
def test_characters_are_the_bytes_of_a_word_or_of_its_ends(
    word: str, expected: bytes, width: int
) -> None:
    field = FieldSpec("x", "x", "characters", width=width)
    ((cell,), long, _) = field_kind(field, settings()).encode([[word]], EncodingContext({}))[0]
    assert isinstance(cell, np.ndarray)
    assert (cell.dtype, cell.shape, long) == (np.uint8, (1, width), False)
    if width == WIDTH:
        assert cell.tobytes() == expected
    elif len(word.encode()) > width:
        assert cell.tobytes() == word.encode()[:3] + word.encode()[-2:]


def encoding(folder: Path, words: list[str], **changes: Any) -> ExampleEncoder:
    """By a tokenizer that knows some words, and the tags T0, T1, ..."""
    chosen = settings(**changes)
    path = folder / "tokenizer.json"
    path.write_text(train(words, chosen, words=True))
    encoder = TextEncoder(path, chosen.max_tokens, chosen.truncation_side, chosen.overflow)
    names = {"tags": [f"T{i}" for i in range(20)]}
    return ExampleEncoder(RowChecker.of(chosen, FIELDS), {"tokenizer": encoder}, names)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 13])
@pytest.mark.parametrize(
    "overflow, keep, kept",
    [
        ("truncate", "start", lambda n: [range(min(n, 4))]),
        ("truncate", "end", lambda n: [range(max(n - 4, 0), n)]),
        ("truncate", "both", lambda n: [range(n) if n <= 4 else [0, 1, n - 2, n - 1]]),
        ("split", "start", lambda n: np.array_split(range(n), -(-n // 4))),
        ("drop", "start", lambda n: [range(n)] if n <= 4 else []),
    ],
)
def test_words_characters_and_tags_are_cut_alike(
    count: int, overflow: str, keep: str, kept: Any, tmp_path: Path
) -> None:
    words = [f"w{i}" for i in range(count)]
    by = encoding(tmp_path, words, max_tokens=4, overflow=overflow, truncation_side=keep)
    (found,) = by.encode([(words, words, [f"T{i}" for i in range(count)])])
    assert found.long == (count > 4)
    assert found.skip == (SkipReason.TOO_LONG if count > 4 and overflow == "drop" else None)
    assert len(found.rows) == len(kept(count))
    for (tokens, characters, tags), places in zip(found.rows, kept(count), strict=True):
        spelt = [bytes(word).rstrip(b"\0").decode() for word in characters]
        assert list(tags) == list(places)
        assert spelt == [words[i] for i in places]
        assert list(tokens) == by._tools[0].encoder.encode_words([spelt])[0]


def test_one_label_goes_with_every_part_of_a_text(tmp_path: Path) -> None:
    fields = (FIELDS[0], FieldSpec("label", "tags", "label"))
    chosen = settings(max_tokens=2, overflow="split")
    by = encoding(tmp_path, ["a"], max_tokens=2, overflow="split")
    both = ExampleEncoder(
        RowChecker.of(chosen, fields), {"tokenizer": by._tools[0].encoder}, {"label": "xy"}
    )
    (found,) = both.encode([(["a"] * 5, "y")])
    assert [(len(tokens), label) for tokens, label in found.rows] == [(2, 1), (2, 1), (1, 1)]


def words_of(folder: Path, words: list[str], texts: list[str], **changes: Any) -> list[str]:
    """What the tokens of some words stand for, if the tokenizer was trained on some texts."""
    by = encoding(folder, texts, **changes)._tools[0].encoder
    (ids,) = by.encode_words([words])
    return ["unknown" if number == UNK else by.decode([number]) for number in ids]


def test_words_are_known_whole_by_their_normal_form(tmp_path: Path) -> None:
    texts = ["The\nfilm\nNew York", "the\nnai\u0308ve"]
    found = words_of(tmp_path, ["THE", "film", "films", "York", "new york", "naïve"], texts)
    assert found == ["the", "film", "unknown", "unknown", "new york", "naïve"]
    found = words_of(tmp_path, ["THE", "The", "the"], texts, lowercase=False)
    assert found == ["unknown", "The", "the"]


def test_a_word_must_stand_there_often_enough(tmp_path: Path) -> None:
    found = words_of(tmp_path, ["once", "twice"], ["once\ntwice", "Twice"], min_count=2)
    assert found == ["unknown", "twice"]


@pytest.mark.parametrize("word", ["<pad>", "<PAD>", "</s>", "<unk>", "a\nb", "\n.", "\u200b"])
def test_a_word_of_any_spelling_is_one_token_and_no_special_one(word: str, tmp_path: Path) -> None:
    assert words_of(tmp_path, ["b", word, "b"], ["b\n</s>\n<pad>"]) == ["b", "unknown", "b"]


def test_a_tokenizer_that_takes_words_apart_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(train(["the film"], settings()))
    with pytest.raises(DatasetError, match=r"json: takes words apart .*corpus\.tokenizer=''"):
        TextEncoder(path, 9).encode_words([["another", "word"]])


def test_unknown_names_are_told_with_their_place() -> None:
    by = ExampleEncoder(RowChecker.of(settings(), FIELDS[2:]), {}, {"tags": ("O", "B-X")})
    by.check_names([["O", "B-X", "1"]], "a.conll:7")
    with pytest.raises(InputError, match=r"a\.conll:8: label 'B-Y' is none of .*O, B-X"):
        by.check_names([["O", "B-Y"]], "a.conll:8")
    assert NameIndex(["O", "B-X"])["1"] == 1


# From files to shards and back.

TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
Sentence = tuple[list[str], list[str]]


def sentences(count: int, seed: int = 0) -> list[Sentence]:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        words = [
            draw.choice(["The", "the", "film", "naïve", "映画", "</s>", f"rare{draw.random()}"])
            for _ in range(draw.randint(1, 30))
        ]
        tags = [draw.choice(["O", "B-PER", "B-LOC"]) for _ in words]
        words, tags = [*words, f"n{number}"], [*tags, "O"]
        rows.append((words, tags))
    rows[3][1][0] = "B-ONCE"
    return rows


ROWS = sentences(300)


def write(path: Path, rows: list[Sentence]) -> None:
    with path.open("w") as file:
        for words, tags in rows:
            if path.suffix == ".jsonl":
                file.write(json.dumps({"words": words, "tags": tags}) + "\n")
            else:
                pairs = zip(words, tags, strict=True)
                file.write("".join(f"{word} {tag}\n" for word, tag in pairs) + "\n")


def make(folder: Path, name: str = "a.conll", **changes: Any) -> Manifest:
    write(folder / name, ROWS)
    chosen = {"input": name, "columns": ["words", "tags"], "lowercase": True, "min_count": 3}
    return prepare(settings_in(folder, **(chosen | changes)), FIELDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make(tmp_path_factory.mktemp("made"), max_tokens=12, overflow="split")


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl"])
def test_the_shards_hold_every_sentence_with_its_tags(name: str, tmp_path: Path) -> None:
    manifest = make(tmp_path, name)
    encoder = TextEncoder(manifest.path / "tokenizer.json", 60)
    expected = {tuple(words): tags for words, tags in ROWS}
    assert manifest.names["tags"] == ("B-LOC", "B-ONCE", "B-PER", "O")
    rows = [row for split in manifest.splits for row in columns_of(manifest, split)]
    assert len(rows) == len(expected) == len(ROWS)
    spelling = {words[-1]: words for words in expected}  # numbered by their last words
    for row in rows:
        words = spelling[bytes(row["characters"][-1]).rstrip(b"\0").decode()]
        assert [manifest.names["tags"][tag] for tag in row["tags"]] == expected[words]
        known = [word.lower() if not word.startswith(("rare", "n", "<")) else "" for word in words]
        known = ["naïve" if word == "naïve" else k for word, k in zip(words, known, strict=True)]
        found = ["" if n == UNK else encoder.decode([n]) for n in row["tokens"]]
        assert found == known


@pytest.mark.parametrize(("workers", "chunk_mb"), [(1, 0.002), (3, 0.005), (2, 8.0)])
def test_bytes_do_not_depend_on_workers_or_pieces(
    made: Manifest, tmp_path: Path, workers: int, chunk_mb: float
) -> None:
    make(tmp_path, max_tokens=12, overflow="split", workers=workers, chunk_mb=chunk_mb)
    assert content(tmp_path / "shards") == content(made.path)


def test_the_parts_of_a_sentence_follow_each_other(made: Manifest) -> None:
    rows = [row for split in made.splits for row in columns_of(made, split)]
    whole: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        whole.setdefault(row["document"], []).append(row)
    assert whole.keys() == set(range(len(ROWS)))
    assert made.report["split"] > 100
    for number, parts in whole.items():
        assert [part["segment"] for part in parts] == list(range(parts[0]["segments"]))
        tags = [made.names["tags"][tag] for part in parts for tag in part["tags"]]
        assert tags == ROWS[number][1]
        lengths = [[len(part[f.name]) for f in FIELDS] for part in parts]
        assert all(len(set(of_part)) == 1 for of_part in lengths)


def test_cells_take_no_more_room_than_they_need(made: Manifest) -> None:
    entry = np.load(made.index("train"))[0]
    data = made.shard("train", 0).read_bytes()[int(entry["offset"]) :][: int(entry["bytes"])]
    types = pa.ipc.open_stream(data).schema.types[:3]
    assert types == [
        pa.list_(pa.uint16()), pa.list_(pa.list_(pa.uint8(), WIDTH)), pa.list_(pa.uint16())
    ]  # fmt: skip


def test_a_label_that_stands_once_is_dropped_but_a_tag_kept(tmp_path: Path) -> None:
    """A row has one label, but many tags that are worth keeping."""
    rows = [(["a", f"n{n}"], ["once" if n == 5 else "xy"[n % 2]]) for n in range(80)]
    write(tmp_path / "a.jsonl", [(words, tags * 2) for words, tags in rows])
    chosen = settings_in(tmp_path, input="a.jsonl")
    assert prepare(chosen, FIELDS).names["tags"] == ("once", "x", "y")
    with (tmp_path / "b.jsonl").open("w") as file:
        file.writelines(json.dumps({"words": w, "tags": t[0]}) + "\n" for w, t in rows)
    fields = (FIELDS[0], FieldSpec("tags", "tags", "label"))
    chosen = settings_in(tmp_path, input="b.jsonl", shards=str(tmp_path / "b"))
    manifest = prepare(chosen, fields)
    assert manifest.names["tags"] == ("x", "y")
    assert manifest.report["label_once"] == 1


def test_what_is_skipped_is_counted_by_its_kind(tmp_path: Path) -> None:
    bad = [(["a"], ["O", "O"]), (["a"], ["I-X"]), ([], []), (["a"], []), ([NUL], ["O"])]
    write(tmp_path / "a.jsonl", [*bad, *ROWS])
    chosen = settings_in(tmp_path, input="a.jsonl")
    report = prepare(chosen, FIELDS).report
    for kind in ("misaligned", "not_bio", "no_words", "no_tags", "nul"):
        assert report[kind] == 1
    assert report["rows"] == len(ROWS) + 5
    chosen = settings_in(
        tmp_path, input="a.jsonl", max_skipped_ratio=0.01, shards=str(tmp_path / "b")
    )
    with pytest.raises(InputError, match=r"1 with tags that are not BIO \(.*, first a\.jsonl:2;"):
        prepare(chosen, FIELDS)


def test_lists_of_bytes_that_are_not_utf8_are_one_rows_matter(tmp_path: Path) -> None:
    """Parquet does not promise UTF-8."""
    raw = pa.array([[b"a"], [b"caf\xe9", b"b"], None, []], pa.list_(pa.binary()))
    strings = pa.Array.from_buffers(pa.string(), len(raw.values), raw.values.buffers())
    words = pa.ListArray.from_arrays(raw.offsets, strings, mask=raw.is_null())
    pq.write_table(pa.table({"words": words}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", ["words"])
    assert [row.values["words"] for row in rows] == [["a"], [SURROGATE, "b"], None, []]
