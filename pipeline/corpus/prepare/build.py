"""The stages of preparing, one after the other, in a work folder."""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from pipeline.corpus.dataset.index import compute_salt, write_index
from pipeline.corpus.dataset.manifest import (
    FORMAT,
    INDEX,
    InputFacts,
    Manifest,
    Split,
    TokenizerFacts,
    relevant,
)
from pipeline.corpus.field_spec import vocabularies
from pipeline.corpus.fields.label_names import name_labels
from pipeline.corpus.prepare import report
from pipeline.corpus.prepare.dedup_and_split import dedup_and_split
from pipeline.corpus.prepare.encode import ChunkTask, encode
from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.scan import scan
from pipeline.corpus.prepare.shard_writer import plan_shards, write_shard
from pipeline.corpus.prepare.work_dir import SPLITS, Job, Part, Scanned, Totals
from pipeline.corpus.readers.inputs import InputFile, file_version
from pipeline.corpus.tokenization.tokenizer import (
    TextEncoder,
    check_round_trip,
    read_tokenizer,
    train,
)
from pipeline.corpus.worker_pool import MB, WorkerPool
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file, sha256_of

logger = logging.getLogger(__name__)


def build(job: Job, files: Sequence[InputFile], pool: WorkerPool) -> tuple[Manifest, list[str]]:
    """Make all of the dataset but its dataset.json; returns what that says, and a summary.

    Raises InputError, DatasetError.
    """
    begun = time.monotonic()
    settings = job.settings
    scans = pool.run("scan", partial(scan, job), files, sum(file.bytes for file in files))
    report.check_skips(settings, scans)
    names = {
        f.name: name_labels(settings, [(s.file.name, s.labels.get(f.name, {})) for s in scans], f)
        for f in job.fields
        if f.has_names
    }
    chosen = dedup_and_split(job, scans, names[job.label.name] if job.label else None)
    tokenizers = {name: _make_tokenizer(job, name, scans) for name in vocabularies(job.fields)}
    tasks = _chunk_tasks(scans)
    raw_bytes = sum(task.chunk.bytes for task in tasks)
    named = {field: labels.names for field, labels in names.items()}
    parts = pool.run("encode", partial(encode, job, named), tasks, raw_bytes)
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
        names={field: tuple(of_field) for field, of_field in named.items()},
        counts={field: tuple(labels.counts) for field, labels in names.items()},
        tokenizers=tokenizers,
        inputs=tuple(InputFacts(f.name, f.bytes) for whole in files for f in whole.files),
        splits={s: _pack(job, pool, s, totals[s], parts, tokenizers) for s in SPLITS},
        report=counts,
    )
    seconds = time.monotonic() - begun
    return manifest, list(report.summary(manifest, names, raw_bytes, seconds))


def _make_tokenizer(job: Job, vocabulary: str, scans: Iterable[Scanned]) -> TokenizerFacts:
    """Copy the one that is given, or train one on the sample of all files, unless that is done."""
    path = job.tokenizer(vocabulary)
    if job.settings.tokenizer:
        with atomic_file(path) as file:
            generates = any(field.is_target or field.append_end for field in job.fields)
            file.write(read_tokenizer(job.settings, generates=generates))
        sample = _sample(job, vocabulary, scans)
        check_round_trip(path, (text for _, text in sample), job.settings)
    if not path.exists():
        sample = _sample(job, vocabulary, scans)
        kind = "tokenizer" if vocabulary == "tokenizer" else f"{vocabulary} tokenizer"
        logger.info("training the %s on %.1f MB of text", kind, sample.bytes / MB)
        words = any(f.kind == "words" for f in job.fields if f.vocabulary == vocabulary)
        with atomic_file(path) as file:
            texts = (text for _, text in sample)
            file.write(train(texts, job.settings, words=words).encode())
    return TokenizerFacts(sha256_of(path), TextEncoder(path, job.settings.max_tokens).vocab_size)


def _sample(job: Job, vocabulary: str, scans: Iterable[Scanned]) -> TextSample:
    """Of the texts of all files."""
    sample = TextSample(int(job.settings.tokenizer_sample_mb * MB))
    for scanned in scans:
        sample.add_saved(job.scanned(scanned.file.number, f"{vocabulary}.sample"))
    return sample


def _chunk_tasks(scans: Sequence[Scanned]) -> list[ChunkTask]:
    """All pieces in the order of the input."""
    tasks: list[ChunkTask] = []
    first = 0  # example of the file, in the corpus
    for scanned in scans:
        for chunk in scanned.chunks:
            place = first + chunk.example
            tasks.append(ChunkTask(len(tasks), chunk, scanned.file.name, scanned.path, place))
        first += scanned.examples
    return tasks


def _total(split: str, parts: Iterable[Part]) -> Totals:
    total = Totals()
    for part in parts:
        total.add(part.splits[split])
    return total


def _pack(
    job: Job,
    pool: WorkerPool,
    split: str,
    totals: Totals,
    parts: Sequence[Part],
    tokenizers: Mapping[str, TokenizerFacts],
) -> Split:
    """Write the shards and the index of a split."""
    hashes = [tokenizer.sha256 for tokenizer in tokenizers.values()]
    salt = compute_salt(split, *hashes, totals.rows, totals.tokens)
    plans = plan_shards(job, split, totals, parts, salt)
    shards = pool.run(f"write shards {split}", partial(write_shard, job), plans, totals.bytes)
    index = job.out / split / INDEX
    rows = job.settings.rows_per_block
    records = (job.packed(split, plan.number, "index") for plan in plans)
    write_index(index, records, math.ceil(totals.rows / rows), rows)
    return Split(
        rows=totals.rows,
        tokens=totals.tokens,
        max_length=totals.max_length,
        salt=salt,
        index_sha256=sha256_of(index),
        shards=tuple(shards),
    )


def _check_unchanged(files: Iterable[InputFile]) -> None:
    """Remote files were checked when they had been fetched."""
    for whole in files:
        for file in whole.files:
            if file.path and file_version(file.name, file.path) != (file.bytes, file.version):
                raise InputError(f"{file.name}: changed while it was being prepared; prepare again")
