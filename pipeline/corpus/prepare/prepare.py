"""Raw files to a prepared dataset: the order of the stages, and what makes it safe to be killed.

  scan    a unit an input file   pieces, hashes, labels, a sample for the tokenizer
  choose  here                   names of labels, duplicates, which split takes which row
  train   here                   the tokenizer
  encode  a unit a piece         rows of tokens
  pack    a unit a shard         blocks of rows, in the order of the input

All is made in a work folder beside the dataset, `SHARDS.partial`; every result lands there whole,
so a later run goes on from what is done. The dataset appears by one rename. The same input and
settings give the same bytes, whatever the number of processes and the size of pieces.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.corpus.dataset.manifest import (
    FORMAT,
    Manifest,
    check_settings,
    open_dataset,
    relevant,
)
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.build import build
from pipeline.corpus.prepare.work_dir import SPLITS, Job
from pipeline.corpus.readers.inputs import InputFile, InputSource, file_version, locate_splits
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.worker_pool import WorkerPool
from pipeline.errors import DatasetError
from pipeline.storage.atomic import atomic_file, disk_errors, sync_path

logger = logging.getLogger(__name__)

ASKING = 16  # threads that ask for the sizes of files; a remote one takes a while to answer


def prepare(settings: CorpusSettings, fields: tuple[FieldSpec, ...]) -> Manifest:
    """The dataset of `settings`, made unless it is there already.

    Raises InputError for raw data that cannot be used, DatasetError if the folder holds something
    else or cannot be written.
    """
    folder = Path(settings.shards)
    if _is_dataset(folder):
        return _ready(folder, settings, fields)
    with _lock(folder):
        if _is_dataset(folder):  # another process has made it meanwhile
            return _ready(folder, settings, fields)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(
                f"{folder}: is there but is no dataset, and nothing of it is overwritten; "
                "set another corpus.shards, or remove it"
            )
        files = input_files(settings)
        job = Job(_work_folder(settings, fields, files), settings, fields)
        with WorkerPool(settings.workers) as pool:
            manifest, summary = build(job, files, pool)
        manifest = _publish(job, manifest, folder)
        for line in summary:
            logger.info(line)
        return manifest


def _is_dataset(folder: Path) -> bool:
    return (folder / "dataset.json").is_file()


def _ready(folder: Path, settings: CorpusSettings, fields: tuple[FieldSpec, ...]) -> Manifest:
    manifest = open_dataset(folder)
    check_settings(manifest, settings)
    given = _tokenizer_hash(settings)
    if given and any(given != tokenizer.sha256 for tokenizer in manifest.tokenizers.values()):
        raise DatasetError(
            f"corpus.tokenizer={settings.tokenizer!r}: is not the one that {folder} was made with; "
            f"set another corpus.shards, or delete {folder} and prepare anew"
        )
    if manifest.fields != fields:
        raise DatasetError(
            f"{folder}: was made for a task of the fields {manifest.fields}, not {fields}; "
            f"set another corpus.shards, or delete {folder} and prepare anew"
        )
    shutil.rmtree(_partial(folder), ignore_errors=True)  # left by a run killed at its very end
    return manifest


def _tokenizer_hash(settings: CorpusSettings) -> str:
    """SHA-256 of the tokenizer that is given, empty if one is to be trained."""
    from pipeline.corpus.tokenization.tokenizer import (
        read_tokenizer,  # needs the library, training does not
    )

    return hashlib.sha256(read_tokenizer(settings)).hexdigest() if settings.tokenizer else ""


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Only one process prepares a dataset; the others wait. A killed one lets go."""
    path = folder.with_name(folder.name + ".lock")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s: another process is preparing it; waiting", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def input_files(settings: CorpusSettings) -> list[InputFile]:
    """All files, those of the validation split last."""
    images = settings.format == "images"
    training, held_out = locate_splits(
        settings.input, settings.validation, settings.root, images=images
    )
    held = [False] * len(training) + [True] * len(held_out)
    with ThreadPoolExecutor(ASKING) as pool:
        return list(pool.map(_input_file, range(len(held)), [*training, *held_out], held))


def _input_file(number: int, source: InputSource, held_out: bool) -> InputFile:
    sides = {column: _input_file(number, side, held_out) for column, side in source.sides.items()}
    if sides:
        size = sum(side.bytes for side in sides.values())
        version = " ".join(side.version for side in sides.values())
    else:
        size, version = file_version(source.name, source.path)
    return InputFile(number, source.name, source.path, held_out, size, version, sides)


def _work_folder(
    settings: CorpusSettings, fields: tuple[FieldSpec, ...], files: list[InputFile]
) -> Path:
    """The folder to work in; emptied if it was begun for anything else."""
    work = _partial(Path(settings.shards))
    identity = json.dumps(
        {
            "format": FORMAT,
            "settings": relevant(settings) | {"chunk_mb": settings.chunk_mb},
            "tokenizer": _tokenizer_hash(settings),
            "fields": [asdict(field) for field in fields],
            "files": [
                (whole.name, file.name, str(file.path), file.bytes, file.version)
                for whole in files
                for file in whole.files
            ],
        }
    ).encode()
    begun = work / "identity.json"
    if begun.is_file() and begun.read_bytes() == identity:
        logger.info("%s: resuming from the work that is done", work)
        return work
    if work.exists():
        logger.info("%s: was started with other settings or input; starting again", work)
    with disk_errors(work):
        if work.exists():
            shutil.rmtree(work)
        for split in SPLITS:
            (work / "out" / split).mkdir(parents=True)
    with atomic_file(begun) as file:
        file.write(identity)
    return work


def _publish(job: Job, manifest: Manifest, folder: Path) -> Manifest:
    """Write the manifest and give the dataset its name."""
    with atomic_file(job.out / "dataset.json") as file:
        file.write(manifest.to_text().encode())
    for made in (*(job.out / split for split in SPLITS), job.out):
        with disk_errors(made):
            sync_path(made)
    with disk_errors(folder):
        job.out.rename(folder)
        sync_path(folder.absolute().parent)
    shutil.rmtree(job.work, ignore_errors=True)
    return replace(manifest, location=str(folder))


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")
