"""Which files an input names: paths, globs, braces, files inside installed packages, and URLs;
folders of images; and files that lie side by side, a column each."""

import difflib
import glob
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from braceexpand import braceexpand

from pipeline.corpus.readers import download, folders
from pipeline.corpus.readers.download import FileVersion
from pipeline.errors import InputError

PACKAGE = "package://"

Inputs = Sequence[str] | Mapping[str, Sequence[str]]
"""Files; or files by the column that they hold, the first of each column side by side, the second
of each, and so on."""


@dataclass(frozen=True)
class InputSource:
    """What rows come from: a file, a folder of images, or files that lie side by side."""

    name: str
    path: Path | None = None  # None: it is remote, and its name is its URL; or there are sides
    sides: Mapping[str, "InputSource"] = field(
        default_factory=dict
    )  # by the column that each holds

    @property
    def identity(self) -> Path | str | tuple[object, ...]:
        """Equal for two names of one file."""
        if self.sides:
            return tuple((column, side.identity) for column, side in self.sides.items())
        return self.path.resolve() if self.path else self.name


@dataclass(frozen=True)
class InputFile:
    """One file of raw input, a folder of images, or files that lie side by side."""

    number: int
    name: str
    path: Path | None  # None: it is remote, and its name is its URL; or there are sides
    held_out: bool  # all its rows are for validation
    bytes: int
    version: str  # another one if its content is changed
    sides: dict[str, "InputFile"] = field(default_factory=dict)  # by the column that each holds

    @property
    def files(self) -> "list[InputFile]":
        """The files that there are."""
        return list(self.sides.values()) or [self]


def resolve(inputs: Inputs, root: str | Path = ".", *, images: bool = False) -> list[InputSource]:
    """What `inputs` name here, in their order. Raises InputError if one names nothing, or is
    remote."""
    found = locate(inputs, root, images=images)
    for source in found:
        if source.path is None and not source.sides:
            raise InputError(f"{source.name}: only preparing reads remote files; fetch it first")
    return found


def locate(inputs: Inputs, root: str | Path, *, images: bool = False) -> list[InputSource]:
    """What `inputs` name, in their order; nothing comes twice. A folder may be named if it is one
    of `images`.

    A name is the path as it was given, so relative to `root` unless it is absolute; the matches
    of a glob are sorted by name. A remote file's name is its URL, and it has no path.
    """
    if isinstance(inputs, Mapping):
        found = _side_by_side(inputs, Path(root))
    else:
        found = list(_each(inputs, Path(root), images=images))
    once: dict[object, InputSource] = {}
    for source in found:
        once.setdefault(source.identity, source)
    return list(once.values())


def divide(
    inputs: Inputs, validation: str | float | Inputs, root: str | Path, *, images: bool = False
) -> tuple[list[InputSource], list[InputSource]]:
    """What to train on, and what is held out whole, as `locate` names it."""
    held_out: list[InputSource] = []
    if not isinstance(validation, float):
        whole = [validation] if isinstance(validation, str) else validation
        held_out = locate(whole, root, images=images)
    held = {source.identity for source in held_out}
    found = locate(inputs, root, images=images)
    return [source for source in found if source.identity not in held], held_out


def named(inputs: Inputs) -> list[str]:
    """All files, globs and URLs that an input is made of."""
    if isinstance(inputs, Mapping):
        return [text for files in inputs.values() for text in files]
    return list(inputs)


def is_remote(text: str) -> bool:
    return "://" in text and not text.startswith(PACKAGE)


def file_version(name: str, path: Path | None) -> FileVersion:
    """Raises InputError if a remote file is out of reach, or a folder holds no image."""
    if path is None:
        return download.remote_version(name)
    if path.is_dir():
        return folders.folder_version(name, path)
    status = path.stat()
    return FileVersion(status.st_size, str(status.st_mtime_ns))


def _side_by_side(inputs: Mapping[str, Sequence[str]], root: Path) -> list[InputSource]:
    """Raises InputError unless each column has equally many files, all of them here."""
    sides = {column: list(_each(files, root)) for column, files in inputs.items()}
    for files in sides.values():
        for file in files:
            if file.path is None:
                raise InputError(
                    f"{file.name}: only files that are here can lie side by side; fetch it first"
                )
    counts = {column: len(files) for column, files in sides.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{column} {count}" for column, count in counts.items())
        raise InputError(
            f"{_compound(dict(inputs))}: name unequal numbers of files ({told}), but these lie "
            "side by side, the first of each column, the second of each, ...; name equally many"
        )
    found = []
    for row in zip(*sides.values(), strict=True):
        together = dict(zip(sides, row, strict=True))
        name = _compound({column: [file.name] for column, file in together.items()})
        found.append(InputSource(name, None, together))
    return found


def _compound(inputs: Mapping[str, Sequence[str]]) -> str:
    """As files that lie side by side are written on a command line."""
    return ",".join(f"{column}={' '.join(files)}" for column, files in inputs.items())


def _each(inputs: Iterable[str], root: Path, *, images: bool = False) -> Iterator[InputSource]:
    for text in inputs:
        for plain in _expanded(text, root):
            for name, path in _matches(plain, root, images=images):
                yield InputSource(name, path)


def _expanded(text: str, root: Path) -> Iterable[str]:
    """`text` for each of the choices in its braces."""
    if "{" not in text or (root / text).is_file():
        return [text]
    try:
        return braceexpand(text)
    except ValueError:
        raise InputError(f"{text}: a brace is not closed, or not opened") from None


def _matches(text: str, root: Path, *, images: bool) -> Iterator[tuple[str, Path | None]]:
    if text.startswith(PACKAGE):
        yield text, _in_package(text)
    elif is_remote(text):
        yield from ((url, None) for url in (download.matching(text) if "*" in text else [text]))
    elif (root / text).is_file():
        yield text, root / text
    elif (root / text).is_dir():
        if not images:
            raise InputError(
                f"{root / text}: is a folder; name its files, such as {text.rstrip('/')}/*.csv, or "
                "set corpus.format=images if it holds a sub-folder of images for each label"
            )
        yield text, root / text
    elif glob.has_magic(text):
        names = sorted(glob.glob(text, root_dir=root, recursive=True))  # noqa: PTH207  may be absolute
        files = [n for n in names if (root / n).is_file() or (images and (root / n).is_dir())]
        if not files:
            raise InputError(f"{root / text}: no file matches this pattern")
        yield from ((name, root / name) for name in files)
    else:
        raise InputError(f"{root / text}: no such file{_nearest(root / text)}")


def _in_package(text: str) -> Path:
    """The path of `package://NAME/PATH`, found without importing the package."""
    package, _, inside = text.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier() or not inside:
        raise InputError(f"{text}: needs the form {PACKAGE}NAME/PATH, such as {PACKAGE}pkg/a.csv")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise InputError(f"{text}: no package {package} is installed here; install it with pip")
    for folder in spec.submodule_search_locations or ():
        if (path := Path(folder) / inside).is_file():
            return path
    raise InputError(f"{text}: the package {package} holds no file {inside}")


def _nearest(path: Path) -> str:
    try:
        names = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return f": the folder {path.parent} is missing too"
    near = difflib.get_close_matches(path.name, names, 1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
