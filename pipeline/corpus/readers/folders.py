"""A folder of images, in it a sub-folder for each label."""

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from pipeline.corpus.readers.download import FileVersion
from pipeline.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
FILE_LIMIT = 1 << 26  # bytes of a file that is read


def images(folder: Path, name: str) -> list[str]:
    """The paths inside a folder, sorted, each of which begins with its label. What has another
    suffix is passed over, and so is what is hidden, its name beginning with a dot, such as
    .ipynb_checkpoints, and links to folders inside the sub-folders.

    Raises InputError if there is no image, or one that lies in no sub-folder.
    """
    found: list[str] = []
    try:
        for entry in folder.iterdir():
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                found += (path.relative_to(folder).as_posix() for path in _below(entry))
            elif _is_image(entry.name):
                raise InputError(
                    f"{name}: the image {entry.name} lies in no sub-folder, whose name would be "
                    "its label; move it into one"
                )
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not found:
        raise InputError(
            f"{name}: holds no image; needs a sub-folder for each label, with files "
            f"{', '.join('*' + suffix for suffix in SUFFIXES)} in it"
        )
    return sorted(found)


def folder_version(name: str, folder: Path) -> FileVersion:
    """The size of all images, and a version that changes if one is changed, added or removed."""
    size, version = 0, blake2b(digest_size=16)
    for path in images(folder, name):
        status = (folder / path).stat()
        size += status.st_size
        version.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return FileVersion(size, version.hexdigest())


def content(path: Path) -> bytes | None:
    """The bytes of a file; None if there is none that can be read, or far too large a one."""
    try:
        if not path.is_file() or path.stat().st_size > FILE_LIMIT:
            return None
        return path.read_bytes()
    except (OSError, ValueError):  # a path with a NUL in it
        return None


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error

    for place, inside, names in os.walk(folder, onerror=stop):
        inside[:] = [name for name in inside if not _is_hidden(name)]
        yield from (Path(place, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
