"""Finds the files of a folder that are rows: images, or text documents."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from pipeline.corpus.readers import content
from pipeline.corpus.readers.download import FileVersion
from pipeline.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
TEXT_SUFFIXES = (".txt", ".text")
MAX_FILE_BYTES = 1 << 26


def has_files(folder: Path, suffixes: Sequence[str]) -> bool:
    """Return whether there is a file with one of the suffixes anywhere below a folder."""
    return first_file(folder, suffixes) is not None


def first_file(folder: Path, suffixes: Sequence[str]) -> Path | None:
    """Return a file with one of the suffixes below a folder, None if there is none."""
    return next((path for path in _walk(folder) if _has_suffix(path.name, suffixes)), None)


def has_text_files(folder: Path) -> bool:
    """Return whether there is a text file anywhere below a folder, or only files without a suffix,
    which count as text files."""
    has_files = False
    for path in _walk(folder):
        if _has_suffix(path.name, TEXT_SUFFIXES):
            return True
        has_files = True
    return has_files and all(_has_suffix(path.name, ("",)) for path in _walk(folder))


def suffixes(folder: Path) -> Iterator[str]:
    """Yield the suffix of each file in a folder, with that of its compression."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  names are enough
        start = content.plain_name(name).rfind(".")
        if start > 0:
            yield name[start:]


def image_paths(folder: Path, name: str) -> list[str]:
    """Return the sorted paths of all images, relative to the folder; each begins with its label.

    Skips files with other suffixes, hidden files and folders (their names begin with a dot, such as
    .ipynb_checkpoints), and links to folders inside the subfolders.

    Raises InputError if there is no image, or if an image is not in a subfolder.
    """
    paths = _paths(folder, IMAGE_SUFFIXES)
    if outside := next((path for path in paths if "/" not in path), None):
        raise InputError(
            f"{name}: the image {outside} is not in a subfolder, whose name is the label; move it "
            "into one"
        )
    if not paths:
        raise InputError(
            f"{name}: contains no images; needs a subfolder for each label, with files named "
            f"{', '.join('*' + suffix for suffix in IMAGE_SUFFIXES)}"
        )
    return paths


def text_paths(folder: Path, name: str) -> list[str]:
    """Return the sorted paths of all text files, relative to the folder.

    They end in .txt, and may be compressed; if there are none, all files without a suffix are text
    files. Hidden files and folders, and links to folders, are skipped. Raises InputError if there
    is no text file.
    """
    paths = _paths(folder, TEXT_SUFFIXES) or _paths(folder, ("",))
    if not paths:
        raise InputError(
            f"{name}: contains no text files; add files named *.txt, or without a suffix"
        )
    return paths


def file_paths(folder: Path) -> list[str]:
    """Return the sorted paths of all files, relative to the folder, except hidden ones. Raises
    OSError."""
    return sorted(path.relative_to(folder).as_posix() for path in _walk(folder))


def folder_version(name: str, folder: Path) -> FileVersion:
    """Return the total size of all files, and a version that changes if a file is changed, added or
    removed. Hidden files do not count. Raises InputError if there are none."""
    size, version = 0, blake2b(digest_size=16)
    with _folder_errors():
        paths = file_paths(folder)
        for path in paths:
            status = file_status(folder / path)
            size += status.st_size
            entry = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"
            version.update(os.fsencode(entry))
    if not paths:
        raise InputError(f"{name}: contains no files; use another folder")
    return FileVersion(size, version.hexdigest())


def file_status(path: Path) -> os.stat_result:
    """Return the status of a file, or of the link itself if its target is missing. Raises
    OSError."""
    return path.stat() if path.exists() else path.lstat()


def read_file(path: Path) -> bytes | None:
    """Return a file's content; None if it is missing, unreadable or too large."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return None
        return path.read_bytes()
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return None


def _paths(folder: Path, suffixes: Sequence[str]) -> list[str]:
    with _folder_errors():
        return sorted(
            path.relative_to(folder).as_posix()
            for path in _walk(folder)
            if _has_suffix(path.name, suffixes)
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, except hidden ones and those in hidden folders.

    Links to folders are followed only in the folder itself.
    """

    def raise_error(error: OSError) -> None:
        raise error

    def walk(top: Path) -> Iterator[Path]:
        for parent, subfolders, names in os.walk(top, onerror=raise_error):
            subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
            yield from (Path(parent, name) for name in names if not _is_hidden(name))
            if top == folder and parent == str(folder):
                for name in subfolders:
                    if Path(parent, name).is_symlink():
                        yield from walk(Path(parent, name))

    return walk(folder)


@contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read: {error.strerror}; make it readable, or remove it"
        ) from None


def _has_suffix(name: str, suffixes: Sequence[str]) -> bool:
    return Path(content.plain_name(name)).suffix.lower() in suffixes


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
