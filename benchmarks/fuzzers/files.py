"""Mutated input files: each is prepared with every row accounted for, or refused in one line."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.fuzzers.checks import FINDING, OK, Outcome, refused
from benchmarks.fuzzers.forms import FORMS, Form
from benchmarks.fuzzers.mutations import mutate
from pipeline import config, tasks
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.readers.base import NoRowsError
from pipeline.corpus.readers.inputs import locate_splits
from pipeline.corpus.readers.materialize import open_rows
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import HeadraceError
from pipeline.stream.reader import Reader

LEFT_OUT = (*map(str, SkipReason), "label_once", "in_validation", "duplicates")
"""Numbers of a dataset's report that are rows in no split."""
COMMON = (
    "corpus.workers=1", "corpus.max_skipped_ratio=1",
    "corpus.rows_per_block=16", "corpus.shard_mb=0.002",
)  # fmt: skip
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
ENCODINGS = (
    "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "latin-1", "gb18030",
    "shift_jis", "utf-7",
)  # fmt: skip
CSV_OPTIONS = (
    "corpus.quoting=true", "corpus.quoting=false", "corpus.delimiter=\\t", "corpus.delimiter=' '",
    "corpus.columns=[text, label]", "corpus.columns=[label, text, other]",
)  # fmt: skip
COMPRESSED = (
    "csv",
    "jsonl",
    "json",
    "text",
    "conll",
    "fasttext",
    "webdataset",
    "arrow_stream",
    "parquet",
    "parallel",
)
ENCODED = ("csv", "tsv", "jsonl", "json", "text", "conll", "fasttext", "parallel", "documents")
NAMES = (*FORMS, "compressed", "encoded")
ROWS, HELD_OUT_ROWS = 40, 8
MAX_CHUNKS = 60
"""Chunks of an input, so that a case is fast whatever its size."""


def run(name: str, rng: Random, folder: Path) -> Outcome:
    """Write and mutate the input of a form in `folder`, and prepare it."""
    own = {"compressed": COMPRESSED, "encoded": ENCODED}.get(name, (name,))
    form = FORMS[rng.choice(own)]
    inputs = [f"in{number}{form.suffix}" for number in range(rng.choice((1, 1, 1, 2)))]
    held_out = f"held{form.suffix}"
    for given in inputs:
        form.write(rng, folder / given, ROWS // len(inputs))
    form.write(rng, folder / held_out, HELD_OUT_ROWS)
    overrides = [*form.overrides, *COMMON, *_options(rng, form), f"corpus.root={folder}"]
    overrides += _paths("corpus.input", form, inputs) + _paths(
        "corpus.validation", form, [held_out]
    )
    files = [
        path
        for path in _files(folder)
        if not path.name.startswith("held") and "held" not in path.parts[-2]
    ]
    if name == "encoded":
        overrides += _encode(rng, folder, files)
    for changed in rng.sample(files, min(len(files), rng.choice((1, 1, 1, 2)))):
        data = changed.read_bytes()
        is_text = form.is_text and changed.suffix not in (".png", ".jpg")
        if name == "compressed":
            data = _compress(rng, data, is_text=is_text)
        else:
            data = mutate(rng, data, text=is_text and b"\0" not in data)
        changed.write_bytes(data)
    if not form.suffix and not form.sides and rng.random() < 0.3:
        _clutter(rng, folder / inputs[0])
    (folder / "overrides.json").write_text(json.dumps(overrides))
    size = sum(path.stat().st_size for path in _files(folder) if path.name.startswith("in"))
    chunk_mb = rng.choice((1e-6, 0.0003, 0.0005, 0.001))
    return check(overrides, folder, max(chunk_mb, size / MAX_CHUNKS / 1e6))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _paths(key: str, form: Form, names: list[str]) -> list[str]:
    """Return the override of a key with a form's files."""
    if form.sides:
        sides = {side: [f"{name}/{side}" for name in names] for side in form.sides}
        return [f"{key}={json.dumps(sides)}"]
    return [f"{key}={json.dumps(names) if len(names) > 1 else names[0]}"]


def _options(rng: Random, form: Form) -> Iterator[str]:
    """Yield further settings, which need not fit the files."""
    if rng.random() < 0.1:
        yield "corpus.on_bad_row=stop"
    if rng.random() < 0.2:
        yield "corpus.drop_duplicates=false"
    if form is FORMS["images"] or form is FORMS["idx"] or form is FORMS["captions"]:
        return
    if rng.random() < 0.3:
        yield f"corpus.max_tokens={rng.choice((1, 3, 30))}"
    if form.overrides[0] == "task.name=classification" and rng.random() < 0.3:
        yield f"corpus.overflow={rng.choice(('split', 'drop'))}"
    if form.suffix in (".csv", ".tsv") and rng.random() < 0.3:
        yield rng.choice(CSV_OPTIONS)


def _compress(rng: Random, data: bytes, *, is_text: bool) -> bytes:
    """Compress data that may be mutated before, or is mutated then."""
    compress = rng.choice(list(COMPRESSIONS.values()))
    kind = rng.random()
    if kind < 0.4:
        data = mutate(rng, data, text=is_text)
    data = compress(data)
    if kind > 0.3:
        data = mutate(rng, data, text=False)
    if rng.random() < 0.1:  # several members, or twice compressed
        data = rng.choice((data + compress(b"x"), compress(data), data + data))
    return data


def _encode(rng: Random, folder: Path, files: list[Path]) -> Iterator[str]:
    """Encode all files in one encoding, which may be named."""
    encoding = rng.choice(ENCODINGS)
    for path in _files(folder):
        is_held_out = path not in files
        named = encoding if not is_held_out or rng.random() < 0.9 else "utf-8"
        path.write_bytes(path.read_bytes().decode("utf-8", "replace").encode(named, "replace"))
    if rng.random() < 0.8:
        yield f"corpus.encoding={encoding if rng.random() < 0.8 else rng.choice(ENCODINGS)}"


def _clutter(rng: Random, folder: Path) -> None:
    """Add files that do not belong into a folder of files."""
    kind = rng.randrange(6)
    if not folder.is_dir():
        return
    if kind == 0:
        (folder / "empty.txt").write_bytes(b"")
    elif kind == 1:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.txt")).write_bytes(
            b"a name that is not text"
        )
    elif kind == 2:
        (folder / "loop").symlink_to(folder)
    elif kind == 3:
        (folder / "broken.txt").symlink_to("missing")
    elif kind == 4:
        (folder / "folder.txt").mkdir()
    else:
        (folder / "a\nb.txt").write_bytes(b"a name of two lines")


def check(overrides: list[str], folder: Path, chunk_mb: float) -> Outcome:
    """Prepare an input as one chunk and in many chunks, and compare and count the rows."""
    try:
        loaded = config.load(None, [*overrides, f"corpus.shards={folder}/one"])
    except HeadraceError as error:
        return Outcome(FINDING, f"a config of the harness is refused: {error}")
    settings = loaded.corpus
    fields = tasks.fields(loaded.task.name, settings)
    changes = {"shards": f"{folder}/many", "chunk_mb": chunk_mb}
    one, many = (_prepare(s, fields) for s in (settings, settings.model_copy(update=changes)))
    if isinstance(one, HeadraceError) or isinstance(many, HeadraceError):
        lines = [_shown(one), _shown(many).replace("/many", "/one")]
        if lines[0] != lines[1]:
            return Outcome(FINDING, f"chunks change the outcome: {lines[0]!a}, {lines[1]!a}")
        assert isinstance(one, HeadraceError)
        return refused(one, folder)
    if facts(one) != facts(many):
        return Outcome(FINDING, f"chunks change the dataset: {one.report} and {many.report}")
    if problem := _unbalanced(one) or _miscounted(
        one, settings, RowChecker.of(settings, fields).columns
    ):
        return Outcome(FINDING, problem)
    return Outcome(OK)


def facts(manifest: Manifest) -> tuple[Any, ...]:
    """Return what must not depend on how the input is divided."""
    return (
        manifest.fingerprint,
        manifest.report,
        manifest.names,
        manifest.counts,
        manifest.numbers,
    )


def _shown(result: Manifest | HeadraceError) -> str:
    return str(result)[:400] if isinstance(result, HeadraceError) else "a dataset"


def _prepare(settings: Any, fields: Any) -> Manifest | HeadraceError:
    try:
        return prepare(settings, fields)
    except HeadraceError as error:
        return error


def _unbalanced(manifest: Manifest) -> str:
    """Return how the rows read differ from those kept and left out, or an empty text."""
    report = manifest.report
    stored = {name: split.rows for name, split in manifest.splits.items()}
    kept = sum(stored.values()) - report["segments"] + report["split"]
    left_out = sum(report[name] for name in LEFT_OUT)
    if kept + left_out != report["rows"]:
        return f"{report['rows']} rows read, {kept} kept and {left_out} left out: {report}"
    for name, count in stored.items():
        reader = Reader(manifest, name)
        blocks = list(reader.index.read(np.arange(reader.index.blocks)))
        found = sum(block.num_rows for block in reader.blocks(blocks) if block is not None)
        if found != count:
            return f"{name} has {found} rows in its shards, {count} in its manifest"
    return ""


def _miscounted(manifest: Manifest, settings: Any, columns: list[str]) -> str:
    """Return how the rows of the report differ from those of the readers, or an empty text."""
    count = 0
    for sources in locate_splits(settings).values():
        for source in sources:
            try:
                with open_rows(settings, source, columns) as rows:
                    count += sum(1 for _ in rows)
            except NoRowsError:
                continue
    return (
        ""
        if count == manifest.report["rows"]
        else f"{count} rows read without a copy: {manifest.report}"
    )
