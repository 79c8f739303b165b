"""Flawed raw data: a flaw is an error that names its place, or its rows are counted and skipped."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.errors import InputError
from tests.helpers.files import reviews, token_label_pairs, write

HEAD = b"text,label\n"
GOOD = HEAD + b"".join(
    f"good text number {n},{['negative', 'positive'][n % 2]}\n".encode() for n in range(60)
)
TWO_LABELS = {"label_names": ["negative", "positive"]}
ANY_RATIO = {"max_skipped_ratio": 1.0}

# name: (content of a.csv, settings, expected error message or expected counts of the report)
CASES: dict[str, tuple[bytes, dict[str, Any], str | dict[str, int]]] = {
    "whitespace": (GOOD + b"   ,positive\n\xc2\xa0\t,positive\n,positive\n", {}, {"no_text": 3}),
    "nul": (GOOD + b"a\0b,positive\n", {}, {"nul": 1}),
    "not utf-8": (GOOD + b"caf\xe9,positive\ngood,positiv\xe9\n", {}, {"not_utf8": 2}),
    "no label": (GOOD + b"text,\ntext, \n", {}, {"no_label": 2}),
    "ragged": (GOOD + b"a, b,positive\nc\n\n", {}, {"wrong_fields": 2}),
    "no tokens": (GOOD + b"zz,positive\n", {"replace": {"z": ""}}, {"no_tokens": 1}),
    "label once": (GOOD + b"one,mixed\n", {}, {"label_once": 1}),
    "duplicates": (GOOD + GOOD[len(HEAD) :], {}, {"duplicates": 60, "conflicting": 0}),
    "conflicting": (
        GOOD + b"good text number 0,positive\ngood text number 0,negative\n",
        {},
        {"duplicates": 2, "conflicting": 1},
    ),
    "duplicates kept": (
        GOOD + GOOD[len(HEAD) :],
        {"drop_duplicates": False},
        {"duplicates": 0, "rows": 120},
    ),
    "quotes": (
        GOOD + b'he cried "no",positive\n"a ""b""\nc, d",positive\n" x"," positive "\n',
        {},
        {"rows": 63, "wrong_fields": 0, "label_once": 0},
    ),
    "crlf": (GOOD.replace(b"\n", b"\r\n"), {}, {"rows": 60, "label_once": 0}),
    "blank lines": (GOOD + b"\n\r\n\n", {}, {"rows": 60, "wrong_fields": 0}),
    "no newline at the end": (GOOD[:-1], {}, {"rows": 60}),
    "indices": (
        GOOD.replace(b"negative", b"0").replace(b"positive", b"1"),
        TWO_LABELS,
        {"rows": 60},
    ),
    "filters": (
        GOOD + b"x,neutral\n",
        {"filters": {"label": "positive"}, **TWO_LABELS},
        "have only the label 'positive'",
    ),
    "cr": (
        GOOD.replace(b"\n", b"\r"),
        {},
        "a.csv, line 1: the header has a carriage return outside quotes (save the file with LF or",
    ),
    "empty file": (b"", {}, "a.csv: is empty; remove it from the input, or download it again"),
    "only a header": (HEAD, {}, "a.csv: has no rows"),
    "blank file": (b"\n\n", {}, "a.csv: has no header"),
    "utf-16": (GOOD.decode().encode("utf-16"), {}, {"rows": 60, "label_once": 0}),
    "utf-32": (GOOD.decode().encode("utf-32"), {}, {"rows": 60, "label_once": 0}),
    "an encoding": (
        GOOD + "café,positive\n".encode("cp1252"),
        {"encoding": "cp1252"},
        {"rows": 61, "not_utf8": 0},
    ),
    "not in the encoding": (
        GOOD + b"caf\xe9,positive\n",
        {"encoding": "ascii"},
        {"rows": 61, "not_utf8": 1},
    ),
    "the header again": (GOOD + GOOD, {"drop_duplicates": False}, {"rows": 121, "header": 1}),
    "wrong column": (
        GOOD.replace(b"text,label", b"txt,label"),
        {},
        "a.csv: has no column 'text' (did you mean 'txt'?); it has 'txt', 'label'",
    ),
    "column twice": (HEAD.replace(b"label", b"label,label") + b"a,b,c\n", {}, "2 columns 'label'"),
    "unclosed quote": (
        GOOD + b'x,"posi\ntive"\ny,"positive\n' + GOOD[len(HEAD) :],
        {},
        {"rows": 122, "bad_quotes": 1, "label_once": 1, "duplicates": 60, "header": 0},
    ),
    "unclosed quote before another": (
        GOOD + b'"x,positive\n"y",positive\n' + GOOD[len(HEAD) :],
        {},
        {"rows": 122, "bad_quotes": 1, "duplicates": 60},
    ),
    "one class": (
        GOOD.replace(b"negative", b"positive"),
        {},
        "corpus.label='label': the usable rows have only the label 'positive'; there is nothing",
    ),
    "every label once": (
        HEAD + b"".join(f"text {n},{n}\n".encode() for n in range(50)),
        {},
        "have no label twice besides 50 that occur once each",
    ),
    "too many labels": (
        HEAD + b"".join(f"text,{n % 100_001}\n".encode() for n in range(100_002)),
        {},
        "a.csv, line 100002: column 'label' has more than 100,000 different labels ('0', '1', '2',",
    ),
    "unknown label": (
        GOOD + b"x,neutral\n",
        TWO_LABELS,
        "a.csv, line 62: label 'neutral' is not in corpus.label_names (negative, positive) and",
    ),
    "index too large": (
        GOOD + b"x,2\n",
        TWO_LABELS,
        "a.csv, line 62: label '2' is not in corpus.label_names",
    ),
    "index out of range": (GOOD + b"x,2.0\n", TWO_LABELS, "a.csv, line 62: label '2.0' is not in"),
    "fraction as label": (GOOD + b"x,1.5\n", TWO_LABELS, "a.csv, line 62: label '1.5' is not in"),
    "too many unusable": (
        GOOD + b" ,positive\n" * 5 + b"x,\n",
        {},
        "6 of 66 rows (9.1%) cannot be used: 5 with no text (empty, blank, or a list or map), ",
    ),
    "places of the unusable": (
        GOOD + b" ,positive\n" * 5 + b"x,\n",
        {},
        ("1 with no label, first a.csv, line 67; fix them, or raise corpus.max_skipped_ratio"),
    ),
    "all unusable": (HEAD + b" ,positive\n" * 5, ANY_RATIO, "none of 5 rows can be used"),
    "filters keep nothing": (
        GOOD,
        {"filters": {"label": "positiv"}},
        "no row of 60 has these values; label has 'negative', 'positive'; set other values",
    ),
    "too few rows": (
        HEAD + b"a,x\nb,x\nc,y\nd,y\n",
        {"validation": 0.0001, "stratify": False},
        "corpus.validation=0.0001: no row is left for validation of 4 (none); use more rows",
    ),
    "no rows for train": (
        HEAD + b"a,x\nb,y\na,x\nb,y\n",
        {"validation": "a.csv"},
        "no row is left for train",
    ),
    "no such file": (GOOD, {"input": "b.csv"}, "b.csv: no such file; did you mean"),
    "no match": (GOOD, {"input": "*.jsonl"}, "no file matches this pattern"),
    "a folder": (GOOD, {"input": "."}, "is a folder without .txt files or images; name its files"),
    "no such package": (GOOD, {"input": "package://nowhere_x/a.csv"}, "no package nowhere_x"),
    "no such file inside": (GOOD, {"input": "package://numpy/a.csv"}, "numpy has no file a.csv"),
    "ill-formed package": (GOOD, {"input": "package://a.csv"}, "needs the form package://NAME"),
}

# name: (file name, content, expected error message)
FILES = {
    "unknown kind": (
        "a.doc",
        GOOD,
        "a.doc: the format is recognized neither by its name nor by its",
    ),
    "not parquet": ("a.parquet", GOOD, "a.parquet: is not a valid Parquet file"),
    "not json": (
        "a.jsonl",
        b'{"text": "a", "label": 1}\n{"text"\n',
        "1 with a line that is not a JSON object, first a.jsonl, line 2 (Expecting ':'",
    ),
    "json list": (
        "a.jsonl",
        b"[1]\n",
        "1 with a line that is not a JSON object, first a.jsonl, row 1 (a int)",
    ),
    "json without the column": (
        "a.jsonl",
        b'{"txt": "a", "label": 1}\n',
        "a.jsonl: has no column 'text' (did you mean 'txt'?); it has 'txt', 'label'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_flaws_of_rows(prepare_dataset, tmp_path: Path, case: str):
    content, settings, expected = CASES[case]
    (tmp_path / "a.csv").write_bytes(content)
    settings = {"validation": 0.3, "max_tokens": 1000, "chunk_mb": 0.001, **settings}
    if isinstance(expected, str):
        with pytest.raises(InputError) as error:
            prepare_dataset(**settings)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "shards").exists()
    else:
        manifest = prepare_dataset(**settings)
        assert {name: manifest.report[name] for name in expected} == expected
        rows = sum(split.rows for split in manifest.splits.values())
        reasons = set(manifest.report) - {"rows", "conflicting", "truncated"}
        assert rows == manifest.report["rows"] - sum(manifest.report[name] for name in reasons)


@pytest.mark.parametrize("case", FILES)
def test_error_names_a_file_that_cannot_be_read(prepare_dataset, tmp_path: Path, case: str):
    name, content, expected = FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        prepare_dataset(input=name)
    assert expected in str(error.value)


def test_error_names_a_truncated_gzip_file(prepare_dataset, tmp_path: Path):
    path = write(tmp_path / "a.csv.gz", reviews(2000))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"a\.csv\.gz: is damaged or truncated: Compressed file"):
        prepare_dataset(input="a.csv.gz")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "tar", "csv.gz"])
def test_a_document_of_10_mb_is_prepared(prepare_dataset, tmp_path: Path, suffix: str):
    rows = reviews(100)
    rows[50]["text"] = "a very long text " * 600_000
    write(tmp_path / f"a.{suffix}", rows)
    manifest = prepare_dataset(input=f"a.{suffix}", chunk_mb=1.0)
    assert sum(split.rows for split in manifest.splits.values()) == 100
    assert manifest.splits["train"].max_length == 60


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "tar", "parquet"])
def test_only_rows_that_are_not_utf8_are_skipped(prepare_dataset, tmp_path: Path, suffix: str):
    rows = [{**row, "text": row["text"] + " marker"} for row in reviews(60)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        texts = [row["text"].encode().replace(b"n0-7 m", b"n0-7 \xff") for row in rows]
        columns = {"text": pa.array(texts).view(pa.string()), "label": [r["label"] for r in rows]}
        pq.write_table(pa.table(columns), path)
    else:
        write(path, rows)
        path.write_bytes(path.read_bytes().replace(b"n0-7 m", b"n0-7 \xff"))
    report = prepare_dataset(input=path.name, quoting=True).report
    assert (report["rows"], report["not_utf8"]) == (60, 1)


def test_labels_that_are_indices_get_their_names(prepare_dataset, tmp_path: Path):
    rows = [{"text": f"text {n}", "label": n % 2} for n in range(60)]
    write(tmp_path / "a.parquet", rows)
    manifest = prepare_dataset(input="a.parquet", label_names=["odd", "even"])
    encoder = TextEncoder(manifest.path / "tokenizer.json", 100)
    assert manifest.names["label"] == ("odd", "even")
    for tokens, label in token_label_pairs(manifest, "train"):
        assert int(encoder.decode(tokens).split()[1]) % 2 == label


def test_json_values_that_are_not_strings(prepare_dataset, tmp_path: Path):
    rows = [{"text": f"text {n}", "label": n % 2 == 0} for n in range(60)]
    rows += [{"text": ["a"], "label": True}, {"label": False}, {"text": "x", "label": None}]
    rows += [{"text": 7, "label": True}]  # a number is text
    write(tmp_path / "a.jsonl", rows)
    manifest = prepare_dataset(input="a.jsonl", max_skipped_ratio=0.1)
    assert manifest.names["label"] == ("false", "true")
    assert (manifest.report["no_text"], manifest.report["no_label"]) == (2, 1)
