"""Detects whether the input files of a dataset have changed since its preparation.

A file with the same size and version (its modification time) is unchanged. If only the version
differs, the digest of the content decides. Only files on this machine are compared: no server is
contacted, and a dataset can be used without its input.

Sizes and digests are in the manifest. The versions on this machine are in `SHARDS.inputs.json` next
to the dataset, so the files of the dataset depend only on the content of the input.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpus.dataset.manifest import InputFacts, Manifest
from pipeline.corpus.readers.folders import file_paths
from pipeline.corpus.readers.inputs import (
    InputFile,
    file_version,
    input_patterns,
    is_remote,
    locate,
)
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import DatasetError, InputError
from pipeline.storage.atomic import disk_errors, write_file
from pipeline.storage.base import is_url

logger = logging.getLogger(__name__)

THREADS = 8
"""Number of threads that compute digests of files."""


class _Local(NamedTuple):
    """An input file on this machine as it is now, without its digest."""

    path: Path
    bytes: int
    version: str


def input_facts(files: Iterable[InputFile]) -> tuple[InputFacts, ...]:
    """Return the facts of input files that have just been prepared.

    Raises InputError if a local file has changed since its size and version were taken.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return tuple(pool.map(_facts, [file for source in files for file in source.files]))


def reason_to_prepare_again(manifest: Manifest, settings: CorpusSettings) -> str:
    """Return a message on the changed input file if the dataset must be prepared again, else "".

    New versions of files with the same content are recorded, so that these files are read only
    once. Raises DatasetError if a file has changed and `settings.if_changed` is `refuse`, or if the
    dataset cannot be prepared again.
    """
    if settings.if_changed == "keep":
        return ""
    files = _local_files(manifest, settings)
    prepared = {entry.path: entry for entry in manifest.inputs}
    change = _first_change(manifest, files)
    if not change:
        if touched := _touched(manifest, files):
            logger.debug(
                "%s: %d input file(s) have a new modification time; comparing their "
                "contents", manifest.location, len(touched),
            )  # fmt: skip
            change = _changed_content(prepared, touched)
        if not change:
            if touched and _is_writable(manifest):
                record_versions(manifest, {name: file.version for name, file in touched.items()})
            return ""
    if settings.if_changed == "prepare" and not is_url(manifest.location):
        return f"{change} since {manifest.location} was made"
    again = "corpus.if_changed=prepare makes the shards again"
    if is_url(manifest.location):
        again = "prepare it again in a local corpus.shards"
    raise DatasetError(
        f"{change} since {manifest.location} was made, so the shards are stale; {again}, "
        f"corpus.if_changed=keep uses them as they are"
    )


def record_versions(manifest: Manifest, versions: Mapping[str, str]) -> None:
    """Record the versions of input files whose content is the same as in the manifest.

    Raises DatasetError if the disk fails.
    """
    digests = {entry.path: entry.digest for entry in manifest.inputs}
    new = {name: [version, digests[name]] for name, version in versions.items()}
    path = _versions_path(manifest)
    with disk_errors(path):
        write_file(path, json.dumps(_recorded_versions(manifest) | new, indent=1))


def has_current_versions(manifest: Manifest, settings: CorpusSettings) -> bool:
    """Return whether all versions are recorded, or cannot be recorded.

    The other processes of a node wait for this while the first one compares contents or prepares
    again.
    """
    if settings.if_changed == "keep" or is_url(manifest.location):
        return True
    files = _local_files(manifest, settings)
    if not _first_change(manifest, files) and not _touched(manifest, files):
        return True
    return not _is_writable(manifest) and not reason_to_prepare_again(manifest, settings)


def _facts(file: InputFile) -> InputFacts:
    if file.path is None:
        return InputFacts(file.name, file.bytes)
    digest = _content_digest(file.path, file.name)
    if file_version(file.name, file.path) != (file.bytes, file.version):
        raise InputError(f"{file.name}: changed while it was being prepared; prepare again")
    return InputFacts(file.name, file.bytes, digest)


def _content_digest(path: Path, name: str) -> str:
    """Return the BLAKE2b digest of a file's content, or of all files of a folder."""
    try:
        if not path.is_dir():
            with path.open("rb") as opened:
                return file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()
        total = blake2b(digest_size=16)
        for file in file_paths(path):
            total.update(os.fsencode(f"{file}\0{_row_digest(path / file, file)}\0"))
        return total.hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; make it readable, or remove it"
        ) from None


def _row_digest(path: Path, name: str) -> str:
    """Return the digest of a file in a folder; empty if it is unreadable, as its row is skipped."""
    try:
        return _content_digest(path, name)
    except InputError:
        return ""


def _first_change(manifest: Manifest, files: dict[str, _Local]) -> str:
    """Return the start of a message if a file is new or has another size, else ""."""
    prepared = {entry.path: entry for entry in manifest.inputs}
    for name, file in files.items():
        if name not in prepared:
            return f"{file.path}: has become an input file"
        if file.bytes != prepared[name].bytes:
            return f"{file.path}: has changed from {prepared[name].bytes:,} to {file.bytes:,} bytes"
    return ""


def _touched(manifest: Manifest, files: dict[str, _Local]) -> dict[str, _Local]:
    """Return the files whose digests have to be compared. Older datasets have no digests."""
    known = _recorded_versions(manifest)
    digests = {entry.path: entry.digest for entry in manifest.inputs if entry.digest}
    return {
        name: file
        for name, file in files.items()
        if name in digests and known.get(name) != [file.version, digests[name]]
    }


def _changed_content(prepared: dict[str, InputFacts], touched: dict[str, _Local]) -> str:
    """Return the start of a message if a file has another content, else ""."""
    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(lambda n: _content_digest(touched[n].path, n), touched)
        for name, digest in zip(touched, digests, strict=True):
            if digest != prepared[name].digest:
                pool.shutdown(cancel_futures=True)
                return f"{touched[name].path}: has changed"
    return ""


def _recorded_versions(manifest: Manifest) -> dict[str, Any]:
    """Return the recorded versions of each file by name, with the digests of their contents."""
    if is_url(manifest.location):
        return {}
    try:
        found: Any = json.loads(_versions_path(manifest).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _versions_path(manifest: Manifest) -> Path:
    return manifest.path.with_name(manifest.path.name + ".inputs.json")


def _is_writable(manifest: Manifest) -> bool:
    return not is_url(manifest.location) and os.access(manifest.path.parent, os.W_OK)


def _local_files(manifest: Manifest, settings: CorpusSettings) -> dict[str, _Local]:
    """Return the input files on this machine by name. Missing and remote files are skipped.

    If a file has several names, the name in the manifest is used.
    """
    prepared = {entry.path for entry in manifest.inputs}
    found: dict[str, _Local] = {}
    for pattern in _patterns(settings):
        if is_remote(pattern):
            continue
        try:
            for source in locate([pattern], settings.root):
                if source.path:
                    size, version = file_version(source.name, source.path)
                    found[source.name] = _Local(source.path, size, version)
        except (InputError, OSError):
            continue
    if found.keys() <= prepared:
        return found
    known = {file.path.resolve() for name, file in found.items() if name in prepared}
    return {n: f for n, f in found.items() if n in prepared or f.path.resolve() not in known}


def _patterns(settings: CorpusSettings) -> Sequence[str]:
    inputs = [settings.input, *settings.held_out_files.values()]
    return [pattern for files in inputs for pattern in input_patterns(files)]
