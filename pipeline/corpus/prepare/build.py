"""Run the stages of preparation in a work folder, up to the manifest."""

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.corpus.dataset.index import compute_salt, write_index
from pipeline.corpus.dataset.manifest import (
    FORMAT,
    INDEX,
    InputFacts,
    Manifest,
    NumberStats,
    Split,
    TokenizerFacts,
    relevant,
)
from pipeline.corpus.field_spec import FieldSpec, kind_code, vocabularies
from pipeline.corpus.fields.label_names import LabelTable, name_labels
from pipeline.corpus.prepare import report
from pipeline.corpus.prepare.dedup_and_split import IN_TRAIN, dedup_and_split
from pipeline.corpus.prepare.encode import ChunkTask, encode
from pipeline.corpus.prepare.number_stats import number_stats
from pipeline.corpus.prepare.sample import TextSample
from pipeline.corpus.prepare.scan import scan
from pipeline.corpus.prepare.shard_writer import plan_shards, write_shard
from pipeline.corpus.prepare.tag_decision import (
    Readings,
    decide_tags,
    describe,
    with_canonical_names,
)
from pipeline.corpus.prepare.work_dir import (
    TRAIN,
    FileGroup,
    Part,
    PreparationContext,
    Scanned,
    Totals,
)
from pipeline.corpus.readers.base import reader_code
from pipeline.corpus.readers.inputs import InputFile, file_version
from pipeline.corpus.settings import LabelSettings, TokenizerSettings
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.corpus.tokenization.tokenizer import check_round_trip, read_tokenizer, train
from pipeline.corpus.worker_pool import WorkerPool
from pipeline.errors import InputError
from pipeline.storage.atomic import atomic_file, sha256_of
from pipeline.wording import size

logger = logging.getLogger(__name__)


def build(
    context: PreparationContext,
    files: Sequence[InputFile],
    groups: Sequence[FileGroup],
    pool: WorkerPool,
) -> tuple[Manifest, list[str]]:
    """Write the dataset except its dataset.json; return the manifest and the lines of a summary.

    Raises InputError if the input cannot be used, DatasetError if the disk or a worker fails.
    """
    start = time.monotonic()
    settings = context.settings
    scans = pool.run("scan", partial(scan, context), groups, sum(file.bytes for file in files))
    scans, readings = decide_tags(context, scans)
    for warning in report.word_warnings(context.fields[0].column, scans):
        logger.warning(warning)
    report.check_skips(settings, scans)
    label_tables = {
        f.name: _name_labels(context, scans, f) for f in context.fields if f.kind_class.has_names
    }
    held_out = dedup_and_split(
        context, scans, label_tables[context.label.name] if context.label else None, readings
    )
    tokenizers = {
        name: _make_tokenizer(context, name, scans) for name in vocabularies(context.fields)
    }
    tasks = _chunk_tasks(scans, readings)
    raw_bytes = sum(task.chunk.bytes for task in tasks)
    names = {field: table.names for field, table in label_tables.items()}
    fallbacks = frozenset(name for name in tokenizers if _encoder(context, name).backend.fell_back)
    encode_chunk = partial(encode, context, names, fallbacks)
    parts = pool.run("encode", encode_chunk, tasks, raw_bytes)
    _check_unchanged(files)
    report.check_skips(settings, scans, parts)
    counts = report.count(scans, held_out.counts, parts)
    totals = {split: _sum_totals(split, parts) for split in context.splits}
    report.check_splits(settings, counts, {split: t.rows for split, t in totals.items()})
    manifest = Manifest(
        location=str(context.out),
        format=FORMAT,
        settings=relevant(settings),
        fields=context.fields,
        names={field: tuple(field_names) for field, field_names in names.items()},
        counts={field: tuple(table.counts) for field, table in label_tables.items()},
        tokenizers=tokenizers,
        inputs=tuple(InputFacts(f.name, f.bytes) for source in files for f in source.files),
        splits={s: _write_split(context, pool, s, totals[s], parts, tokenizers) for s in totals},
        report=counts,
        numbers=_number_stats(context, parts),
        code=reader_code(settings.format) | kind_code(context.fields),
    )
    seconds = time.monotonic() - start
    lines = report.summary(manifest, label_tables, scans, parts, seconds)
    return manifest, [*lines, *held_out.notes, *describe(context, scans, readings)]


def _number_stats(context: PreparationContext, parts: Sequence[Part]) -> dict[str, NumberStats]:
    """Return the statistics of each field of numbers over the rows to train on."""
    paths = [context.part_path(part.chunk, f"{TRAIN}.arrow") for part in parts]
    return {f.name: number_stats(paths, f.name) for f in context.fields if f.kind_class.is_number}


def _name_labels(
    context: PreparationContext, scans: Sequence[Scanned], field: FieldSpec
) -> LabelTable:
    """Return the label names of a field."""
    assert isinstance(context.settings, LabelSettings), "a field of labels without its keys"
    tallies = [scanned.labels.get(field.name, {}) for scanned in scans]
    settings = with_canonical_names(context.settings, field.kind_class)
    table = name_labels(settings, tallies, field)
    for warning in table.warnings:
        logger.warning(warning)
    return table


def _make_tokenizer(
    context: PreparationContext, vocabulary: str, scans: Iterable[Scanned]
) -> TokenizerFacts:
    """Copy and check the user's tokenizer, or train one unless an earlier run has done it."""
    path = context.tokenizer_path(vocabulary)
    settings = context.settings
    assert isinstance(settings, TokenizerSettings), "a tokenized field without its keys"
    words = any(f.kind_class.by_word for f in context.fields if f.vocabulary == vocabulary)
    texts: list[str] = []
    if settings.tokenizer:
        with atomic_file(path) as file:
            generates = any(
                field.kind_class.is_target or field.append_end for field in context.fields
            )
            file.write(read_tokenizer(settings, generates=generates))
        texts = _sampled_texts(context, vocabulary, scans)
        check_round_trip(path, texts, settings)
    elif not path.exists():
        texts = _sampled_texts(context, vocabulary, scans)
        total = sum(len(text.encode()) for text in texts)
        description = "tokenizer" if vocabulary == "tokenizer" else f"{vocabulary} tokenizer"
        logger.info("training the %s on %s of text", description, size(total))
        with atomic_file(path) as file:
            file.write(train(texts, settings, words=words).encode())
    encoder = _encoder(context, vocabulary)
    if not words:
        encoder.backend.check(texts)
    return TokenizerFacts(sha256_of(path), encoder.vocab_size)


def _encoder(context: PreparationContext, vocabulary: str) -> TextEncoder:
    """Return the text encoder of a vocabulary."""
    assert isinstance(context.settings, TokenizerSettings), "a tokenized field without its keys"
    return TextEncoder(context.tokenizer_path(vocabulary), context.settings.max_tokens)


def _sampled_texts(
    context: PreparationContext, vocabulary: str, scans: Iterable[Scanned]
) -> list[str]:
    """Return the sample of a vocabulary's texts in the rows to train on."""
    sample, first_example = TextSample(context.sample_bytes), 0
    for scanned in scans:
        path = context.scan_path(scanned.group.key, f"{vocabulary}.sample")
        sample.add_saved(path, first_example)
        first_example += scanned.examples
    if not context.splits_units:
        return [text for _, text, _ in sample]
    splits = np.fromfile(context.split_codes_path, np.uint8)
    return [text for _, text, example in sample if splits[example] == IN_TRAIN]


def _chunk_tasks(scans: Sequence[Scanned], readings: Sequence[Readings]) -> list[ChunkTask]:
    """Return the work items that encode all chunks, in the order of the input."""
    tasks: list[ChunkTask] = []
    examples_before = 0  # examples of the corpus before the group
    for scanned, tags in zip(scans, readings, strict=True):
        for chunk in scanned.chunks:
            first = examples_before + chunk.example
            tasks.append(ChunkTask(len(tasks), chunk, first, tags))
        examples_before += scanned.examples
    return tasks


def _sum_totals(split: str, parts: Iterable[Part]) -> Totals:
    total = Totals()
    for part in parts:
        total.add(part.splits[split])
    return total


def _write_split(
    context: PreparationContext,
    pool: WorkerPool,
    split: str,
    totals: Totals,
    parts: Sequence[Part],
    tokenizers: Mapping[str, TokenizerFacts],
) -> Split:
    """Write the shards and the index of a split."""
    hashes = [tokenizer.sha256 for tokenizer in tokenizers.values()]
    salt = compute_salt(split, *hashes, totals.rows, totals.tokens)
    plans = plan_shards(context, split, totals, parts, salt)
    shards = pool.run(f"write shards {split}", partial(write_shard, context), plans, totals.bytes)
    index = context.out / split / INDEX
    rows_per_block = context.settings.rows_per_block
    records = (context.packed_path(split, plan.number, "index") for plan in plans)
    write_index(index, records, math.ceil(totals.rows / rows_per_block), rows_per_block)
    return Split(
        rows=totals.rows,
        tokens=totals.tokens,
        max_length=totals.max_length,
        salt=salt,
        index_sha256=sha256_of(index),
        shards=tuple(shards),
    )


def _check_unchanged(files: Iterable[InputFile]) -> None:
    """Raises InputError if a local file changed. Downloads have been checked already."""
    for source in files:
        for file in source.files:
            if file.path and file_version(file.name, file.path) != (file.bytes, file.version):
                raise InputError(f"{file.name}: changed while it was being prepared; prepare again")
