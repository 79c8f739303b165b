"""The forms of input: well-formed files of each, and the overrides with which they are read."""

import csv
import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.fuzzers.mutations import value

WORDS = (
    "the", "a", "film", '"quoted"', "plot,", "was;", "it", "\u2014", "na\u00efve", "\u6620\u753b",
    "100", "don't", "<b>", "</s>", "<pad>", "\U0001f642", "of", "#tag", "__x", "NULL",
)  # fmt: skip
LABELS = ("negative", "positive", "neutral")
TAGS = ("O", "B-PER", "I-PER", "B-LOC")
TYPES = (
    pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(21,2), pa.timestamp("ns","UTC"),
    pa.date32(), pa.duration("us"), pa.time64("ns"), pa.bool_(),
)  # fmt: skip
"""Types of columns that are neither texts nor lists."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Form:
    """A form of input."""

    write: Callable[[Random, Path, int], None]
    """Writes a file or folder with that number of rows."""
    overrides: tuple[str, ...]
    suffix: str = ""
    is_text: bool = False
    """Whether the mutations of lines apply."""
    sides: tuple[str, ...] = ()
    """Columns of parallel files, which are in one folder and named after them."""


def rows(rng: Random, count: int) -> Rows:
    """Return rows of texts and labels. Some have values that people would not expect."""
    odd = rng.choice((0, 0, 0, 0.05, 0.3))
    found: Rows = []
    for _ in range(count):
        words = rng.choices(WORDS, k=rng.randint(1, 12))
        row = {"text": " ".join([*words, f"n{rng.getrandbits(40)}"]), "label": rng.choice(LABELS)}
        if rng.random() < odd:
            row[rng.choice(("text", "label", "other"))] = value(rng)
        found.append(row)
    return found


def _csv(delimiter: str) -> Callable[[Random, Path, int], None]:
    def write(rng: Random, path: Path, count: int) -> None:
        header = ["text", "label", *(["other"] if rng.random() < 0.3 else [])]
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            end = rng.choice(("\n", "\r\n"))
            writer = csv.DictWriter(
                file, header, delimiter=delimiter, lineterminator=end, extrasaction="ignore"
            )
            writer.writeheader()
            for row in rows(rng, count):
                writer.writerow({key: _encodable(value) for key, value in row.items()})

    return write


def _encodable(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _jsonl(rng: Random, path: Path, count: int) -> None:
    lines = [json.dumps(row, default=str) for row in rows(rng, count)]
    path.write_text("\n".join(lines) + "\n")


def _json(rng: Random, path: Path, count: int) -> None:
    indent = rng.choice((None, None, 1))
    text = json.dumps(rows(rng, count), default=str, indent=indent)
    path.write_text(text if rng.random() < 0.8 else text[1:-1])


def _lines(rng: Random, path: Path, count: int) -> None:
    path.write_text("".join(f"{_encodable(row['text'])}\n" for row in rows(rng, count)))


def _fasttext(rng: Random, path: Path, count: int) -> None:
    with path.open("w") as file:
        for row in rows(rng, count):
            labels = " ".join(
                f"__label__{name}" for name in rng.sample(LABELS, rng.choice((1, 1, 2)))
            )
            file.write(f"{labels} {_encodable(row['text'])}\n")


def _sentences(rng: Random, count: int) -> Iterator[list[tuple[str, str]]]:
    for _ in range(count):
        yield [
            (
                rng.choice((*WORDS, f"n{rng.getrandbits(40)}")),
                rng.choice(TAGS[:2] if rng.random() < 0.3 else TAGS[:1]),
            )
            for _ in range(rng.randint(2, 9))
        ]


def _conll(rng: Random, path: Path, count: int) -> None:
    between = rng.choice(("\t", " ", "\t"))
    with path.open("w") as file:
        for sentence in _sentences(rng, count):
            file.writelines(f"{word}{between}{tag}\n" for word, tag in sentence)
            file.write("\n")


def _conllu(rng: Random, path: Path, count: int) -> None:
    with path.open("w") as file:
        for number, sentence in enumerate(_sentences(rng, count)):
            file.write(f"# sent_id = {number}\n")
            for position, (word, tag) in enumerate(sentence, 1):
                file.write(
                    "\t".join([str(position), word, word, tag, "_", "_", "0", "root", "_", "_"])
                    + "\n"
                )
            file.write("\n")


def _webdataset(rng: Random, path: Path, count: int) -> None:
    as_json = rng.random() < 0.5
    dialect = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    prefix = rng.choice(("", "a/", "d" * 120 + "/", "k.1."))
    with tarfile.open(path, "w", format=dialect) as archive:
        for number, row in enumerate(rows(rng, count)):
            members = {"txt": _encodable(row["text"]), "cls": _encodable(row["label"])}
            if as_json:
                members = {
                    "json": json.dumps({"txt": row["text"], "cls": row["label"]}, default=str)
                }
            for extension, text in members.items():
                member = tarfile.TarInfo(f"{prefix}{number:05}.{extension}")
                data = text.encode()
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _column(rng: Random, values: Sequence[Any], name: str) -> Any:
    """Return values as an Arrow array of a type that they may have."""
    texts = [_encodable(value) if value is not None else None for value in values]
    kind = rng.randrange(16)
    if kind == 0:
        return pa.array(texts).dictionary_encode()
    if kind == 1:
        return pa.array([text and text.encode() for text in texts], pa.binary())
    if kind == 2:
        return pa.array([[text] for text in texts])
    if kind == 3:
        return pa.array([{"a": text} for text in texts])
    if kind == 4:
        return pa.array(texts, pa.large_string())
    if kind == 5:
        return pa.nulls(len(texts))
    if kind == 6:
        numbers = [len(text or "") % 3 for text in texts]
        dtype = rng.choice(TYPES)
        if pa.types.is_boolean(dtype):
            return pa.array([number > 0 for number in numbers])
        if pa.types.is_temporal(dtype):
            narrow = pa.types.is_date32(dtype)
            return pa.array(numbers, pa.int32() if narrow else pa.int64()).cast(dtype)
        return pa.array(numbers).cast(dtype)
    if kind == 7:
        return pa.array(texts, pa.string_view())
    if kind == 8:
        return pa.array([[(text or "", 1)] for text in texts], pa.map_(pa.string(), pa.int8()))
    return pa.array(texts)


def _table(rng: Random, count: int) -> pa.Table:
    found = rows(rng, count)
    odd = rng.random() < 0.4
    arrays = {
        name: _column(rng, [row[name] for row in found], name)
        if odd
        else pa.array([_encodable(row[name]) for row in found])
        for name in ("text", "label")
    }
    if rng.random() < 0.2:
        arrays["other"] = pa.array(range(count))
    return pa.table(arrays)


def _parquet(rng: Random, path: Path, count: int) -> None:
    table = _table(rng, count)
    options: dict[str, Any] = {
        "row_group_size": rng.choice((5, 16, 1000)),
        "compression": rng.choice(("none", "snappy", "zstd", "gzip")),
        "use_dictionary": rng.random() < 0.5,
        "write_page_checksum": rng.random() < 0.3,
        "data_page_version": rng.choice(("1.0", "2.0")),
    }
    pq.write_table(table, path, **options)


def _arrow(*, stream: bool) -> Callable[[Random, Path, int], None]:
    def write(rng: Random, path: Path, count: int) -> None:
        table = _table(rng, count)
        compression: Any = rng.choice((None, None, "zstd", "lz4"))
        options = pa.ipc.IpcWriteOptions(compression=compression)
        new: Any = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(str(path), table.schema, options=options) as writer:
            writer.write_table(table, rng.choice((5, 16, 1000)))

    return write


def _feather(rng: Random, path: Path, count: int) -> None:
    if rng.random() < 0.5:
        texts = [
            {k: _encodable(v) for k, v in row.items() if k != "other"} for row in rows(rng, count)
        ]
        pyarrow.feather.write_feather(pa.Table.from_pylist(texts), str(path), version=1)
    else:
        pyarrow.feather.write_feather(
            _table(rng, count), str(path), chunksize=rng.choice((5, 1000))
        )


def _png(rng: Random, kind: str = "PNG") -> bytes:
    mode = rng.choice(("L", "L", "RGB", "RGBA", "P", "1", "I;16", "LA")) if kind == "PNG" else "RGB"
    size = (rng.choice((4, 6)), rng.choice((4, 5)))
    image = Image.new("L", size)
    image.putdata([rng.randrange(256) for _ in range(size[0] * size[1])])
    file = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(file, kind)
    return file.getvalue()


def _captions(rng: Random, path: Path, count: int) -> None:
    """Write a caption file, and its images beside it."""
    as_csv = rng.random() < 0.5
    lines = ["image,caption"] if as_csv else []
    for number in range(count // 2):
        name = f"{path.name}.{number}.png"
        (path.parent / name).write_bytes(_png(rng))
        for caption in range(rng.choice((1, 2))):
            text = _encodable(rows(rng, 1)[0]["text"])
            quoted = '"' + text.replace('"', '""') + '"'
            lines.append(f"{name},{quoted}" if as_csv else f"{name}#{caption}\t{text}")
    path.write_text("\n".join(lines) + "\n")


def _documents(rng: Random, path: Path, count: int) -> None:
    for number, row in enumerate(rows(rng, count // 2)):
        file = path / LABELS[number % 2] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_encodable(row["text"]) + "\nmore\n")


def _images(rng: Random, path: Path, count: int) -> None:
    for number in range(count // 2):
        file = path / LABELS[number % 2] / f"{number}.{rng.choice(('png', 'jpg'))}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_png(rng, "PNG" if file.suffix == ".png" else "JPEG"))


def _parallel(rng: Random, path: Path, count: int) -> None:
    path.mkdir()
    for side in ("text", "target"):
        _lines(rng, path / side, count)


def _idx(rng: Random, path: Path, count: int) -> None:
    path.mkdir()
    numbers = np.random.default_rng(rng.getrandbits(32))
    for side, array in (
        ("image", numbers.integers(0, 256, (count, 4, 5), np.uint8)),
        ("label", (np.arange(count) % 3).astype(np.uint8)),
    ):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        data = header + array.tobytes()
        (path / side).write_bytes(gzip.compress(data, mtime=0) if rng.random() < 0.2 else data)


def _saved(rng: Random, path: Path, count: int) -> None:
    """Write a folder as `save_to_disk` of Hugging Face datasets does."""
    path.mkdir()
    names = [f"data-{number:05}-of-00002.arrow" for number in range(2)]
    for name in names:
        _arrow(stream=True)(rng, path / name, count // 2)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "x"}
    (path / "state.json").write_text(json.dumps(state, indent=1))
    (path / "dataset_info.json").write_text(json.dumps({"features": {}}))


CLASSES = ("task.name=classification", "corpus.level=byte")
TAGGING = ("task.name=tagging", "corpus.level=byte")
LANGUAGE = (
    "task.name=language_modeling", "corpus.level=byte", "corpus.drop_duplicates=false",
    "corpus.overflow=split", "model.bidirectional=false", "stream.batch_rows=8",
)  # fmt: skip
TRANSLATION = (
    "task.name=translation", "corpus.level=byte", "corpus.lowercase=false", "corpus.overflow=drop",
)  # fmt: skip
STEPS = ("task.name=images", "corpus.image_size=[4, 5]")
FORMS = {
    "csv": Form(_csv(","), CLASSES, ".csv", is_text=True),
    "tsv": Form(_csv("\t"), CLASSES, ".tsv", is_text=True),
    "jsonl": Form(_jsonl, CLASSES, ".jsonl", is_text=True),
    "json": Form(_json, CLASSES, ".json", is_text=True),
    "text": Form(_lines, LANGUAGE, ".txt", is_text=True),
    "fasttext": Form(_fasttext, ("task.name=multilabel", "corpus.level=byte"), ".ft", is_text=True),
    "conll": Form(_conll, (*TAGGING, "corpus.text=0", "corpus.label=-1"), ".conll", is_text=True),
    "conllu": Form(
        _conllu, (*TAGGING, "corpus.text=form", "corpus.label=upos"), ".conllu", is_text=True
    ),
    "webdataset": Form(_webdataset, (*CLASSES, "corpus.text=txt", "corpus.label=cls"), ".tar"),
    "parquet": Form(_parquet, CLASSES, ".parquet"),
    "arrow_file": Form(_arrow(stream=False), CLASSES, ".arrow"),
    "arrow_stream": Form(_arrow(stream=True), CLASSES, ".arrow"),
    "feather": Form(_feather, CLASSES, ".feather"),
    "captions": Form(
        _captions,
        (
            "task.name=captioning", "corpus.format=captions", "corpus.target=caption",
            "corpus.level=byte",
            "corpus.image_size=[4, 5]",
        ),
        is_text=True,
    ),
    "documents": Form(_documents, CLASSES, is_text=True),
    "images": Form(_images, STEPS),
    "parallel": Form(_parallel, TRANSLATION, is_text=True, sides=("text", "target")),
    "idx": Form(_idx, STEPS, sides=("image", "label")),
    "saved_dataset": Form(_saved, CLASSES),
}  # fmt: skip
"""By name. The forms `compressed` and `encoded` of `files.py` are made of these."""
