"""Prepare a dataset from raw files.

The stages, and their work items in the worker pool:
  scan              one per group of files   chunks, hashes, labels, texts to train the tokenizer
  dedup_and_split   this process         label names, the split of each example, duplicates
  tokenizer         this process         the tokenizer of each vocabulary
  encode            one per chunk        rows of tokens
  write shards      one per shard        blocks of rows, in the order of the input

All files are written in a work folder beside the dataset, `SHARDS.partial`. Each result appears
there complete, so a run that was killed can be resumed by the next one. At the end, one rename
publishes the dataset. The same input and settings give the same bytes, whatever the number of
worker processes and the size of chunks.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from filelock import Timeout

from pipeline.corpus.dataset.input_changes import (
    input_facts,
    reason_to_prepare_again,
    record_versions,
)
from pipeline.corpus.dataset.manifest import (
    FORMAT,
    Manifest,
    check_fields,
    check_settings,
    open_dataset,
    relevant,
)
from pipeline.corpus.field_spec import FieldSpec, kind_code
from pipeline.corpus.prepare.build import build
from pipeline.corpus.prepare.scan import file_groups
from pipeline.corpus.prepare.work_dir import FileGroup, PreparationContext, splits_of
from pipeline.corpus.readers.base import reader_code
from pipeline.corpus.readers.inputs import InputFile, InputSource, file_version, locate_splits
from pipeline.corpus.settings import CorpusSettings, TokenizerSettings
from pipeline.corpus.tokenization.tokenizer import read_tokenizer
from pipeline.corpus.worker_pool import MB, WorkerPool
from pipeline.errors import DatasetError
from pipeline.storage.atomic import atomic_file, disk_errors, remove_temporary_files, sync_path
from pipeline.storage.locks import file_lock, release_hint

logger = logging.getLogger(__name__)

MAX_OWN_GROUPS = 256
"""Maximum number of files of tagged words that are separate groups, each with its own scheme."""
VERSION_THREADS = 16
"""Threads that request the sizes and versions of files; those of remote files take a while."""


def prepare(settings: CorpusSettings, fields: tuple[FieldSpec, ...]) -> Manifest:
    """Prepare the dataset at `settings.shards`, unless it exists, and return its manifest.

    It is prepared again if an input file has changed and `settings.if_changed` is `prepare`.
    The summary is logged. Raises what `prepare_with_summary` raises.
    """
    manifest, summary = prepare_with_summary(settings, fields)
    for line in summary:
        logger.info(line)
    return manifest


def prepare_with_summary(
    settings: CorpusSettings, fields: tuple[FieldSpec, ...]
) -> tuple[Manifest, list[str]]:
    """Prepare the dataset at `settings.shards`, unless it exists.

    Return its manifest and the lines of the summary; there are none if the dataset exists. Raises
    InputError if the raw data cannot be used. Raises DatasetError if the folder has other content,
    or a dataset of other settings, fields or input, or if it cannot be written.
    """
    folder = Path(settings.shards)
    prepared, _ = _open_prepared(folder, settings, fields)
    if prepared:
        return prepared, []
    with _lock(folder):
        # Another process may have prepared it while this one waited.
        prepared, change = _open_prepared(folder, settings, fields)
        if prepared:
            return prepared, []
        if change:
            logger.info("%s; preparing again", change)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(
                f"{folder}: exists but is not a dataset, so it is not overwritten; "
                "set corpus.shards to another folder, or remove it"
            )
        files = input_files(settings)
        own = any(field.kind_class.has_scheme for field in fields) and len(files) <= MAX_OWN_GROUPS
        groups = file_groups(files, 0 if own else settings.chunk_mb * MB)
        work, corpus = _open_work_folder(settings, fields, groups)
        context = PreparationContext(work, settings, fields, corpus)
        with WorkerPool(settings.workers) as pool:
            manifest, summary = build(context, files, groups, pool)
        manifest = replace(manifest, inputs=input_facts(files))
        local = {f.name: f.version for source in files for f in source.files if f.path}
        record_versions(replace(manifest, location=str(folder)), local)
        return _publish(context, manifest, folder), summary


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()


def _open_prepared(
    folder: Path, settings: CorpusSettings, fields: tuple[FieldSpec, ...]
) -> tuple[Manifest | None, str]:
    """Open the dataset in a folder; None if there is none or it must be prepared again.

    If the input has changed, also return a message on the change. Raises DatasetError if the
    dataset has other settings, fields or input.
    """
    if not _is_dataset(folder):
        return None, ""
    manifest = open_dataset(folder)
    check_settings(manifest, settings)
    tokenizer_hash = _tokenizer_hash(settings)
    if tokenizer_hash and any(
        tokenizer_hash != tokenizer.sha256 for tokenizer in manifest.tokenizers.values()
    ):
        raise DatasetError(
            f"corpus.tokenizer: is not the tokenizer that {folder} was made "
            f"with; set corpus.shards to another folder, or delete {folder} and prepare again"
        )
    check_fields(manifest, fields)
    if change := reason_to_prepare_again(manifest, settings):
        return None, change
    for rest in (_partial_folder(folder), _replaced_folder(folder)):
        shutil.rmtree(rest, ignore_errors=True)  # of a run killed after the rename
    return manifest, ""


def _tokenizer_hash(settings: CorpusSettings) -> str:
    """Return the SHA-256 of the user's tokenizer; empty if one is to be trained."""
    if not isinstance(settings, TokenizerSettings) or not settings.tokenizer:
        return ""
    return hashlib.sha256(read_tokenizer(settings)).hexdigest()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let only one process at a time prepare a dataset; a process that is killed frees the lock."""
    path = folder.with_name(folder.name + ".lock")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = file_lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info(
                "%s: another process is preparing it; waiting%s", folder, release_hint(lock)
            )
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def input_files(settings: CorpusSettings) -> list[InputFile]:
    """Return all input files; files that are held out are last.

    Raises InputError if a file is missing or cannot be reached.
    """
    located = [(s, split) for split, sources in locate_splits(settings).items() for s in sources]
    with ThreadPoolExecutor(VERSION_THREADS) as pool:
        return list(pool.map(_input_file, range(len(located)), *zip(*located, strict=True)))


def _input_file(number: int, source: InputSource, split: str) -> InputFile:
    sides = {column: _input_file(number, side, split) for column, side in source.sides.items()}
    if sides:
        size = sum(side.bytes for side in sides.values())
        version = " ".join(side.version for side in sides.values())
    else:
        size, version = file_version(source.name, source.path)
    return InputFile(number, source.name, source.path, split, size, version, sides)


def _open_work_folder(
    settings: CorpusSettings, fields: tuple[FieldSpec, ...], groups: Sequence[FileGroup]
) -> tuple[Path, str]:
    """Return the work folder, and the name of its folder for the results of all files together.

    The work folder is emptied if an earlier run had other settings. If only some input files have
    changed, the others are not scanned again.
    """
    work = _partial_folder(Path(settings.shards))
    identity = json.dumps(
        {
            "format": FORMAT,
            "settings": relevant(settings) | {"chunk_mb": settings.chunk_mb, "input": None},
            "code": reader_code(settings.format) | kind_code(fields),
            "tokenizer": _tokenizer_hash(settings),
            "fields": [asdict(field) for field in fields],
        }
    ).encode()
    keys = [group.key for group in groups]
    corpus = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:24]
    identity_path = work / "identity.json"
    with disk_errors(work):
        if identity_path.is_file() and identity_path.read_bytes() == identity:
            logger.info("%s: resuming the earlier preparation", work)
            _remove_stale(work, corpus, keys)
        elif work.exists():
            logger.info("%s: was started with other settings; starting again", work)
            shutil.rmtree(work)
        for split in splits_of(settings):
            (work / corpus / "out" / split).mkdir(parents=True, exist_ok=True)
    with atomic_file(identity_path) as file:
        file.write(identity)
    return work, corpus


def _remove_stale(work: Path, corpus: str, keys: Iterable[str]) -> None:
    """Remove the results of files that have changed. Raises OSError."""
    if not (work / corpus).exists():
        logger.info("%s: the input has changed; only changed files are read again", work)
    known = {*keys}
    for path in (work / "scan").glob("*"):
        if path.name.lstrip(".").partition(".")[0] not in known:
            path.unlink()
    for path in work.iterdir():
        if path.is_dir() and path.name not in ("scan", corpus):
            shutil.rmtree(path)


def _publish(context: PreparationContext, manifest: Manifest, folder: Path) -> Manifest:
    """Write the manifest, and rename the finished dataset to `folder`.

    An existing dataset is renamed first and then removed.
    """
    with disk_errors(context.out):
        remove_temporary_files(context.out)
    with atomic_file(context.out / "dataset.json") as file:
        file.write(manifest.to_text().encode())
    for path in (*(context.out / split for split in context.splits), context.out):
        with disk_errors(path):
            sync_path(path)
    replaced = _replaced_folder(folder)
    with disk_errors(folder):
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        context.out.rename(folder)
        sync_path(folder.absolute().parent)
    for rest in (context.work, replaced):
        shutil.rmtree(rest, ignore_errors=True)
    return replace(manifest, location=str(folder))


def _partial_folder(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _replaced_folder(folder: Path) -> Path:
    return folder.with_name(folder.name + ".replaced")
