"""The stages of preparing, one after the other, in a work folder."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pipeline.corpus import report
from pipeline.corpus.choose import choose
from pipeline.corpus.crew import Crew
from pipeline.corpus.dataset import (
    FORMAT,
    INDEX,
    InputFacts,
    Manifest,
    Split,
    TokenizerFacts,
    file_sha256,
    relevant,
)
from pipeline.corpus.encode import PieceTask, encode
from pipeline.corpus.index import salt_of, write_index
from pipeline.corpus.inputs import facts
from pipeline.corpus.labels import name_labels
from pipeline.corpus.pack import pack, plan_shards, split_bytes
from pipeline.corpus.sample import Sample
from pipeline.corpus.scan import scan
from pipeline.corpus.stages import SPLITS, InputFile, Job, Part, Scanned, Totals
from pipeline.corpus.tokenizer import Encoder, given_tokenizer, train
from pipeline.corpus.work import MB, landing
from pipeline.errors import InputError

Log = Callable[[str], None]


def build(job: Job, files: Sequence[InputFile], crew: Crew, log: Log) -> tuple[Manifest, list[str]]:
    """Make all of the dataset but its dataset.json; returns what that says, and a summary.

    Raises InputError, DatasetError.
    """
    begun = time.monotonic()
    settings = job.settings
    scans = crew.run("scan", partial(scan, job), files, sum(file.bytes for file in files))
    report.check_skips(settings, scans)
    labels = name_labels(settings, scans) if job.wanted.label else None
    chosen = choose(job, scans, labels)
    vocab_size = _make_tokenizer(job, scans, log)
    tasks = _piece_tasks(scans)
    raw_bytes = sum(task.piece.bytes for task in tasks)
    parts = crew.run("encode", partial(encode, job), tasks, raw_bytes)
    _check_unchanged(files)
    report.check_skips(settings, scans, parts)
    counts = report.count(scans, chosen, parts)
    totals = {split: _total(split, parts) for split in SPLITS}
    report.check_splits(settings, counts, {split: t.rows for split, t in totals.items()})
    manifest = Manifest(
        location=str(job.out),
        format=FORMAT,
        settings=relevant(settings),
        fields=job.fields,
        label_names=tuple(labels.names) if labels else (),
        tokenizer=TokenizerFacts(file_sha256(job.tokenizer), vocab_size),
        inputs=tuple(InputFacts(file.name, file.bytes) for file in files),
        splits={s: _pack(job, crew, s, totals[s], parts, vocab_size) for s in SPLITS},
        report=counts,
    )
    seconds = time.monotonic() - begun
    return manifest, list(report.summary(manifest, labels, raw_bytes, seconds))


def _make_tokenizer(job: Job, scans: Iterable[Scanned], log: Log) -> int:
    """Copy the one that is given, or train one on the sample of all files, unless that is done;
    returns the size of the vocabulary."""
    if job.settings.tokenizer:
        with landing(job.tokenizer) as file:
            file.write(given_tokenizer(job.settings))
    if not job.tokenizer.exists():
        sample = Sample(int(job.settings.tokenizer_sample_mb * MB))
        for scanned in scans:
            sample.add_saved(job.scanned(scanned.file.number, "sample"))
        log(f"training the tokeniser on {sample.bytes / MB:.1f} MB of text")
        with landing(job.tokenizer) as file:
            file.write(train((text for _, text in sample), job.settings).encode())
    return Encoder(job.tokenizer, job.settings.max_tokens).vocab_size


def _piece_tasks(scans: Sequence[Scanned]) -> list[PieceTask]:
    """All pieces in the order of the input."""
    tasks: list[PieceTask] = []
    first = 0  # example of the file, in the corpus
    for scanned in scans:
        for piece in scanned.pieces:
            place = first + piece.example
            tasks.append(PieceTask(len(tasks), piece, scanned.file.name, scanned.path, place))
        first += scanned.examples
    return tasks


def _total(split: str, parts: Iterable[Part]) -> Totals:
    total = Totals()
    for part in parts:
        total.add(part.splits[split])
    return total


def _pack(
    job: Job, crew: Crew, split: str, totals: Totals, parts: Sequence[Part], vocab_size: int
) -> Split:
    """Write the shards and the index of a split."""
    salt = salt_of(FORMAT, split, file_sha256(job.tokenizer), totals.rows, totals.tokens)
    plans = plan_shards(job, split, totals, parts, vocab_size, salt)
    size = split_bytes(totals, vocab_size)
    shards = crew.run(f"pack {split}", partial(pack, job), plans, size)
    index = job.out / split / INDEX
    rows = job.settings.rows_per_block
    records = (job.packed(split, plan.number, "index") for plan in plans)
    write_index(index, records, math.ceil(totals.rows / rows), rows)
    return Split(
        rows=totals.rows,
        tokens=totals.tokens,
        max_length=totals.max_length,
        salt=salt,
        index_sha256=file_sha256(index),
        shards=tuple(shards),
    )


def _check_unchanged(files: Iterable[InputFile]) -> None:
    """Remote files were checked when they had been fetched."""
    for file in files:
        if file.path and facts(file.name, file.path) != (file.bytes, file.version):
            raise InputError(f"{file.name}: changed while it was being prepared; prepare again")
