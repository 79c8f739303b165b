"""Folders of images, with one subfolder for each label."""

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pipeline.corpus.readers.download import FileVersion
from pipeline.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_FILE_BYTES = 1 << 26


class ImageFolder:
    """The images of a folder as rows, in the order of their paths.

    Columns: `image`, a file's bytes (None if it cannot be read), and `label`, its subfolder's name.
    `types` are the columns' Arrow types. Raises InputError as `image_paths` does.
    """

    def __init__(self, path: Path, name: str) -> None:
        import pyarrow as pa  # opening a dataset imports this module but does not need pyarrow

        self._path, self._images = path, image_paths(path, name)
        self.types: dict[str, Any] = {"image": pa.binary(), "label": pa.string()}
        self.position = 0
        """Bytes read so far."""

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the rows `start` to `stop` - 1."""
        for image in self._images[start:stop]:
            data = read_file(self._path / image)
            self.position += len(data or b"")
            yield {"image": data, "label": image.partition("/")[0]}


def image_paths(folder: Path, name: str) -> list[str]:
    """Return the sorted paths of all images, relative to the folder; each begins with its label.

    Skips files with other suffixes, hidden files and folders (their names begin with a dot, such as
    .ipynb_checkpoints), and links to folders inside the subfolders.

    Raises InputError if there is no image, or if an image is not in a subfolder.
    """
    paths: list[str] = []
    try:
        for entry in folder.iterdir():
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                paths += (path.relative_to(folder).as_posix() for path in _walk_images(entry))
            elif _is_image(entry.name):
                raise InputError(
                    f"{name}: the image {entry.name} is not in a subfolder, whose name would be "
                    "its label; move it into one"
                )
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not paths:
        raise InputError(
            f"{name}: contains no images; needs a subfolder for each label, with files named "
            f"{', '.join('*' + suffix for suffix in IMAGE_SUFFIXES)}"
        )
    return sorted(paths)


def folder_version(name: str, folder: Path) -> FileVersion:
    """Return the total size of all images, and a version that changes if an image is changed,
    added or removed."""
    size, version = 0, blake2b(digest_size=16)
    for path in image_paths(folder, name):
        status = (folder / path).stat()
        size += status.st_size
        version.update(os.fsencode(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return FileVersion(size, version.hexdigest())


def read_file(path: Path) -> bytes | None:
    """Return a file's content; None if it is missing, unreadable or too large."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return None
        return path.read_bytes()
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return None


def _walk_images(folder: Path) -> Iterator[Path]:
    def raise_error(error: OSError) -> None:
        raise error

    for parent, subfolders, names in os.walk(folder, onerror=raise_error):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        yield from (Path(parent, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
