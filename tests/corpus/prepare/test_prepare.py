"""Preparation: reproducible bytes, each row in one split once, and readable formats."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import unicodedata
import zlib
from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset

from pipeline.corpus.dataset.index import checksums
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.errors import InputError
from tests.helpers.files import content, reviews, row_dicts, token_label_pairs, write

ROWS = reviews(1500)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a folder with ROWS, and the manifest of the dataset that was prepared there."""
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS, settings_in

    folder = tmp_path_factory.mktemp("prepared")
    write(folder / "reviews.csv", ROWS)
    return folder, prepare(settings_in(folder), FIELDS)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "chunk_mb"), [(1, 8.0), (1, 0.003), (2, 0.05), (3, 0.011)])
def test_bytes_do_not_depend_on_workers_or_chunks(
    prepared, prepare_dataset, tmp_path, workers, chunk_mb
):
    write(tmp_path / "reviews.csv", ROWS)
    prepare_dataset(workers=workers, chunk_mb=chunk_mb)
    assert content(tmp_path / "shards") == content(prepared[0] / "shards")
    assert not (tmp_path / "shards.partial").exists()


@pytest.fixture(scope="module")
def split_texts(tmp_path_factory):
    """Return the dataset of ROWS where texts of more than 20 tokens are split."""
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS, settings_in

    folder = tmp_path_factory.mktemp("split")
    write(folder / "reviews.csv", ROWS)
    settings = settings_in(folder, max_tokens=20, overflow="split")
    return prepare(settings, FIELDS)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "chunk_mb"), [(1, 8.0), (2, 0.003)])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_bytes_of_split_texts_do_not_depend_on_workers_chunks_or_format(
    split_texts, prepare_dataset, tmp_path, workers, chunk_mb, kind
):
    write(tmp_path / f"reviews.{kind}", ROWS, row_group=7)
    prepare_dataset(
        input=f"*.{kind}", max_tokens=20, overflow="split",
        workers=workers, chunk_mb=chunk_mb,
    )  # fmt: skip
    found, expected = content(tmp_path / "shards"), content(split_texts.path)
    if kind == "parquet":
        del found["dataset.json"], expected["dataset.json"]
    assert found == expected


def test_the_segments_of_a_split_text_have_all_of_its_tokens(split_texts):
    """Segments are consecutive rows of one split, of even lengths, each with the text's label."""
    encoder = TextEncoder(split_texts.path / "tokenizer.json", 10_000)
    documents = [text.rows[0].tolist() for text in encoder.encode([row["text"] for row in ROWS])]
    numbers, split, segments = [], 0, 0
    for name in split_texts.splits:
        rows = row_dicts(split_texts, name)
        for number, group in groupby(rows, key=lambda row: row["document"]):
            document = list(group)
            count = -(-len(documents[number]) // 20)
            assert [row["segment"] for row in document] == list(range(count))
            assert {row["segments"] for row in document} == {count}
            assert {row["label"] for row in document} == {
                split_texts.names["label"].index(ROWS[number]["label"])
            }
            assert [token for row in document for token in row["tokens"]] == documents[number]
            lengths = [len(row["tokens"]) for row in document]
            assert max(lengths) - min(lengths) <= 1
            numbers.append(number)
            split, segments = split + (count > 1), segments + count * (count > 1)
    assert sorted(numbers) == list(range(len(ROWS)))
    assert split > 100
    report = split_texts.report
    assert (report["split"], report["segments"], report["truncated"]) == (split, segments, 0)
    rows = sum(facts.rows for facts in split_texts.splits.values())
    assert rows == len(ROWS) - split + segments
    assert max(facts.max_length for facts in split_texts.splits.values()) == 20


def test_dropped_long_texts_do_not_count_towards_max_skipped_ratio(tmp_path, caplog):
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS, settings_in

    write(tmp_path / "reviews.csv", ROWS)
    caplog.set_level("INFO", logger="pipeline")
    settings = settings_in(tmp_path, max_tokens=20, overflow="drop", max_skipped_ratio=0.0)
    manifest = prepare(settings, FIELDS)
    encoder = TextEncoder(manifest.path / "tokenizer.json", 20)
    long = sum(text.long for text in encoder.encode([row["text"] for row in ROWS]))
    assert manifest.report["too_long"] == long > 100
    assert manifest.report["truncated"] == 0
    assert f"  left out of 1,500 rows: {long:,} too long" in caplog.messages
    rows = [row for split in manifest.splits for row in row_dicts(manifest, split)]
    assert len(rows) == len(ROWS) - long
    assert rows[0].keys() == {"tokens", "label"}
    assert max(len(row["tokens"]) for row in rows) <= 20


def test_error_if_all_texts_are_dropped_as_too_long(prepare_dataset, tmp_path):
    write(tmp_path / "reviews.csv", ROWS)
    with pytest.raises(InputError, match=r"\(1,500 too long\);.* or raise corpus\.max_tokens"):
        prepare_dataset(max_tokens=1, overflow="drop")


@pytest.mark.parametrize(
    "suffix",
    ["tsv", "jsonl", "parquet", "tar", "csv.gz", "tsv.gz", "jsonl.gz", "tar.gz", "files", "bom"],
)
def test_all_formats_give_the_same_dataset(prepared, prepare_dataset, tmp_path, suffix):
    if suffix == "files":
        for number, start in enumerate(range(0, len(ROWS), 400)):
            kind = ["csv", "jsonl", "parquet", "tsv.gz"][number]
            write(tmp_path / f"{number}.{kind}", ROWS[start : start + 400])
    elif suffix == "bom":
        path = write(tmp_path / "reviews.csv", ROWS)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    else:
        write(tmp_path / f"reviews.{suffix}", ROWS)
    prepare_dataset(input="[r0-9]*.*", quoting=True)
    expected, found = content(prepared[0] / "shards"), content(tmp_path / "shards")
    reports = [json.loads(files.pop("dataset.json"))["report"] for files in (expected, found)]
    assert reports[0] == reports[1]
    assert found == expected


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("suffix", ["csv", "json", "csv.gz"])
def test_copies_of_encoded_files_are_decoded_once(prepare_dataset, tmp_path, encoding, suffix):
    texts = [f"caf\u00e9 na\u00efve number {number}" for number in range(40)]
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(texts)]
    if suffix == "json":
        data = json.dumps(rows, ensure_ascii=False).encode(encoding)
    else:
        data = "".join(["text,label\n", *(f"{r['text']},{r['label']}\n" for r in rows)]).encode(
            encoding
        )
    (tmp_path / f"a.{suffix}").write_bytes(gzip.compress(data) if suffix == "csv.gz" else data)
    manifest = prepare_dataset(input=f"a.{suffix}", encoding=encoding)
    pairs = [pair for split in manifest.splits for pair in token_label_pairs(manifest, split)]
    assert sorted(manifest.decode("tokenizer", tokens) for tokens, _ in pairs) == sorted(texts)


def test_each_usable_row_is_in_the_dataset_once_and_decodes_to_its_text(prepare_dataset, tmp_path):
    write(tmp_path / "reviews.csv", ROWS)
    manifest = prepare_dataset(max_tokens=10_000)
    encoder = TextEncoder(manifest.path / "tokenizer.json", 10_000)
    found = Counter(
        (encoder.decode(tokens), manifest.names["label"][label])
        for split in manifest.splits
        for tokens, label in token_label_pairs(manifest, split)
    )
    assert found == Counter(
        (unicodedata.normalize("NFC", row["text"]), row["label"]) for row in ROWS
    )


def test_rows_keep_the_order_of_the_input(prepared):
    _, manifest = prepared
    encoder = TextEncoder(manifest.path / "tokenizer.json", 60)
    encoded = encoder.encode([row["text"] for row in ROWS])
    numbers = {tuple(text.rows[0]): number for number, text in enumerate(encoded)}
    order = [numbers[tuple(tokens)] for tokens, _ in token_label_pairs(manifest, "train")]
    assert order == sorted(order)


def test_the_webdataset_library_reads_a_shard(prepared):
    _, manifest = prepared
    rows = 0
    for shard in manifest.splits["train"].shards:
        path = str(manifest.path / "train" / shard.name)
        for sample in webdataset.WebDataset(path, shardshuffle=False):
            rows += pa.ipc.open_stream(sample["arrow"]).read_all().num_rows
    assert rows == manifest.splits["train"].rows


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_index_agrees_with_the_shards(prepared, split):
    _, manifest = prepared
    facts = manifest.splits[split]
    index = np.load(manifest.index(split))  # NumPy's own format, no pickle
    assert np.array_equal(index["record_crc32"], checksums(index, facts.salt, range(len(index))))
    entries = iter(index)
    tokens = block = 0
    for number, shard in enumerate(facts.shards):
        data = (manifest.path / split / shard.name).read_bytes()
        assert len(data) == shard.bytes
        for member in tarfile.TarFile(fileobj=io.BytesIO(data)):
            entry = next(entries)
            assert (member.name, member.mtime, member.uid) == (f"{block:08d}.arrow", 0, 0)
            assert (entry["shard"], entry["bytes"]) == (number, member.size)
            assert entry["offset"] == member.offset_data
            raw = data[member.offset_data : member.offset_data + member.size]
            assert entry["crc32"] == zlib.crc32(raw)
            table = pa.ipc.open_stream(raw).read_all()
            assert table.schema.types == [pa.list_(pa.uint16()), pa.int32()]
            rows: list[Any] = table["tokens"].to_pylist()
            lengths = [len(row) for row in rows]
            assert entry["lengths"][: entry["rows"]].tolist() == lengths
            last = block == len(index) - 1
            assert entry["rows"] == table.num_rows == ((facts.rows - 1) % 32 + 1 if last else 32)
            tokens += sum(lengths)
            block += 1
    assert next(entries, None) is None
    assert index["lengths"].max() == facts.max_length


def test_tokens_of_a_large_vocabulary_have_four_bytes():
    from pipeline.corpus.dataset.blocks import batch, schema
    from tests.helpers.files import FIELDS

    columns = schema(FIELDS, {"tokenizer": 65_537})
    rows: list[Any] = [([65_536], 0), ([1, 2], 1)]
    block = batch(columns, rows)
    assert columns.field("tokens").type == pa.list_(pa.uint32())
    assert block.to_pydict() == {"tokens": [[65_536], [1, 2]], "label": [0, 1]}


@pytest.mark.parametrize("validation", [0.3, "held.csv"])
@pytest.mark.parametrize("drop_duplicates", [True, False])
def test_identical_texts_are_never_in_both_splits(
    prepare_dataset, tmp_path, validation, drop_duplicates
):
    rows = reviews(300) + reviews(300)[:150]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "held.csv", reviews(300)[:50] + reviews(60, seed=9) * 2)
    manifest = prepare_dataset(
        input="train.csv", validation=validation, drop_duplicates=drop_duplicates, max_tokens=1000
    )
    texts = {
        split: Counter(tuple(tokens) for tokens, _ in token_label_pairs(manifest, split))
        for split in manifest.splits
    }
    assert not texts["train"].keys() & texts["validation"].keys()
    repeated = max(texts["train"].values())
    assert repeated == (1 if drop_duplicates else 2)
    if validation == "held.csv":
        assert manifest.splits["validation"].rows == 170
        assert manifest.report["in_validation"] == 100
    report = manifest.report
    left_out = sum(
        number
        for name, number in report.items()
        if name not in ("rows", "conflicting", "truncated", "split", "segments")
    )
    assert report["rows"] - left_out == sum(split.rows for split in manifest.splits.values())


def test_a_validation_fraction_is_held_out(prepared):
    _, manifest = prepared
    assert abs(manifest.splits["validation"].rows / len(ROWS) - 0.2) < 0.04


def test_a_validation_file_that_the_input_glob_matches_is_not_trained_on(prepare_dataset, tmp_path):
    write(tmp_path / "a.csv", reviews(100))
    write(tmp_path / "b.csv", reviews(50, seed=1))
    manifest = prepare_dataset(validation="b.csv")
    assert [split.rows for split in manifest.splits.values()] == [100, 50]


def test_opening_a_dataset_does_not_import_the_libraries_of_preparation():
    script = (
        "import sys, pipeline.corpus.dataset.manifest, pipeline.corpus.field_spec\n"
        "print([m for m in ('tokenizers', 'pyarrow', 'torch', 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_preparing_an_existing_dataset_writes_nothing(prepared, prepare_dataset, tmp_path):
    write(tmp_path / "reviews.csv", ROWS[:200])
    first = prepare_dataset()
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    assert prepare_dataset(workers=2, chunk_mb=1.0) == first
    assert before == {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    assert first.fingerprint != prepared[1].fingerprint


def test_a_task_without_a_label(tmp_path):
    from pipeline.corpus.field_spec import FieldSpec
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import settings_in

    write(tmp_path / "reviews.csv", [{"text": row["text"]} for row in ROWS[:200]])
    manifest = prepare(settings_in(tmp_path), (FieldSpec("ids", "text", "text"),))
    assert manifest.names == {}
    samples = webdataset.WebDataset(str(manifest.shard("train", 0)), shardshuffle=False)
    block = next(iter(samples))
    assert pa.ipc.open_stream(block["arrow"]).schema.names == ["ids"]


def test_splits_do_not_depend_on_how_many_hashes_are_compared_at_once(
    prepared, prepare_dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipeline.corpus.prepare.dedup_and_split.RANGE_EXAMPLES", 100)
    monkeypatch.setattr("pipeline.corpus.prepare.dedup_and_split.CHUNK_EXAMPLES", 77)
    write(tmp_path / "reviews.csv", ROWS)
    prepare_dataset()
    assert content(tmp_path / "shards") == content(prepared[0] / "shards")


def test_integer_labels_are_sorted_as_numbers(prepare_dataset, tmp_path):
    rows = [{**row, "label": number % 12} for number, row in enumerate(reviews(240))]
    write(tmp_path / "reviews.parquet", rows)
    manifest = prepare_dataset(input="reviews.parquet")
    assert manifest.names["label"] == tuple(map(str, range(12)))
    assert np.unique([label for _, label in token_label_pairs(manifest, "train")]).tolist() == list(
        range(12)
    )
