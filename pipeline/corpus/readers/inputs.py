"""Resolves `corpus.input` to files: paths, globs, braces, files in installed packages, and URLs;
folders of files; and parallel files, one for each column."""

import difflib
import glob
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from braceexpand import braceexpand

from pipeline.corpus.readers import download, folders, saved_dataset
from pipeline.corpus.readers.download import FileVersion
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

PACKAGE = "package://"

Inputs = Sequence[str] | Mapping[str, Sequence[str]]
"""Patterns of files; or a dict from column to patterns, where the first files of all columns are
parallel, then the second files, and so on."""


@dataclass(frozen=True)
class InputSource:
    """A source of rows: a file, a folder of files, or parallel files."""

    name: str
    path: Path | None = (
        None  # None for a remote file, whose name is its URL, and for parallel files
    )
    sides: Mapping[str, "InputSource"] = field(default_factory=dict)  # parallel files by column

    @property
    def identity(self) -> Path | str | tuple[object, ...]:
        """A value that is equal for two names of the same file."""
        if self.sides:
            return tuple((column, side.identity) for column, side in self.sides.items())
        return self.path.resolve() if self.path else self.name


@dataclass(frozen=True)
class InputFile:
    """A source of rows with its split, size and version."""

    number: int
    name: str
    path: Path | None  # None for a remote file, whose name is its URL, and for parallel files
    split: str  # the split to which all of its rows belong, or an empty string
    bytes: int
    version: str  # changes if the content changes
    sides: dict[str, "InputFile"] = field(default_factory=dict)  # parallel files by column

    @property
    def files(self) -> "list[InputFile]":
        """The parallel files, or else this file."""
        return list(self.sides.values()) or [self]


def resolve(inputs: Inputs, root: str | Path = ".") -> list[InputSource]:
    """Return the local sources that `inputs` name, as `locate` does. Raises InputError if a pattern
    matches nothing, or for a remote file."""
    sources = locate(inputs, root)
    for source in sources:
        if source.path is None and not source.sides:
            raise InputError(
                f"{source.name}: only prepare reads remote files; download it and give its path"
            )
    return sources


def locate(inputs: Inputs, root: str | Path) -> list[InputSource]:
    """Return the sources for `inputs`, in order and without duplicates.

    A folder is one source; each file of a saved Hugging Face dataset is a source. The name of a
    source is its path as given: relative to `root` unless it is absolute. The matches of a glob are
    sorted by name. The name of a remote file is its URL, and it has no path. Raises
    InputError if a pattern matches nothing.
    """
    if isinstance(inputs, Mapping):
        sources = _parallel_sources(inputs, Path(root))
    else:
        sources = list(_sources(inputs, Path(root)))
    unique: dict[object, InputSource] = {}
    for source in sources:
        if not _is_text(source.name):
            raise InputError(f"{source.name}: has a name that is not UTF-8; rename it")
        unique.setdefault(source.identity, source)
    return list(unique.values())


def locate_splits(settings: CorpusSettings) -> dict[str, list[InputSource]]:
    """Return the sources by split: held-out files by the split's name, `corpus.input` by "".

    A source that is held out is not trained on. Raises InputError if two splits have the same
    source.
    """
    held_out: dict[str, list[InputSource]] = {}
    split_of: dict[object, str] = {}
    for split, patterns in settings.held_out_files.items():
        held_out[split] = locate(patterns, settings.root)
        for source in held_out[split]:
            other = split_of.setdefault(source.identity, split)
            if other != split:
                raise InputError(
                    f"corpus.{split}: has {source.name}, which is also in corpus.{other}; remove "
                    "it from one of them"
                )
    sources = locate(settings.input, settings.root)
    return {"": [source for source in sources if source.identity not in split_of], **held_out}


def input_patterns(inputs: Inputs) -> list[str]:
    """Return all paths, globs and URLs of an input, whatever their column."""
    if isinstance(inputs, Mapping):
        return [pattern for patterns in inputs.values() for pattern in patterns]
    return list(inputs)


def is_remote(pattern: str) -> bool:
    return "://" in pattern and not pattern.startswith(PACKAGE)


def file_version(name: str, path: Path | None) -> FileVersion:
    """Return the size and version of a file, of a remote file if `path` is None, or of a folder.
    Raises InputError if a remote file cannot be reached or a folder cannot be read."""
    if path is None:
        return download.remote_version(name)
    if path.is_dir():
        return folders.folder_version(name, path)
    status = path.stat()
    return FileVersion(status.st_size, str(status.st_mtime_ns))


def _parallel_sources(inputs: Mapping[str, Sequence[str]], root: Path) -> list[InputSource]:
    """Raises InputError unless all columns have the same number of files, all of them local."""
    files_by_column = {column: list(_sources(files, root)) for column, files in inputs.items()}
    for files in files_by_column.values():
        for file in files:
            if file.path is None:
                raise InputError(f"{file.name}: parallel files must be local; download it first")
            if file.path.is_dir():
                raise InputError(f"{file.name}: is a folder; give a file for each column")
    counts = {column: len(files) for column, files in files_by_column.items()}
    if len(set(counts.values())) > 1:
        counts_text = ", ".join(f"{column} {count}" for column, count in counts.items())
        raise InputError(
            f"{_parallel_name(dict(inputs))}: the columns have different numbers of files "
            f"({counts_text}), but the first files of all columns are read in parallel, then the "
            "second ones, ...; give the same number for each column"
        )
    sources = []
    for parallel in zip(*files_by_column.values(), strict=True):
        sides = dict(zip(files_by_column, parallel, strict=True))
        name = _parallel_name({column: [file.name] for column, file in sides.items()})
        sources.append(InputSource(name, None, sides))
    return sources


def _parallel_name(inputs: Mapping[str, Sequence[str]]) -> str:
    """Format parallel files as on a command line: COLUMN=FILE,COLUMN=FILE."""
    return ",".join(f"{column}={' '.join(files)}" for column, files in inputs.items())


def _sources(patterns: Iterable[str], root: Path) -> Iterator[InputSource]:
    for pattern in patterns:
        for expanded in _expand_braces(pattern, root):
            for name, path in _matches(expanded, root):
                yield InputSource(name, path)


def _expand_braces(pattern: str, root: Path) -> Iterable[str]:
    """Return `pattern` once for each alternative in its braces."""
    if "{" not in pattern or (root / pattern).is_file():
        return [pattern]
    try:
        return braceexpand(pattern)
    except ValueError:
        raise InputError(f"{pattern}: has an unbalanced brace; close or remove it") from None


def _matches(pattern: str, root: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield the name and path of each source that a pattern without braces matches."""
    if pattern.startswith(PACKAGE):
        yield pattern, _path_in_package(pattern)
    elif is_remote(pattern):
        urls = download.expand_pattern(pattern) if "*" in pattern else [pattern]
        yield from ((url, None) for url in urls)
    elif (root / pattern).exists():
        yield from _source_files(pattern, root / pattern)
    elif glob.has_magic(pattern):
        literal = _with_existing_folders(pattern, root)
        names = sorted(glob.glob(literal, root_dir=root, recursive=True))  # noqa: PTH207  may be absolute
        files = [name for name in names if (root / name).is_file()]
        if not names:
            raise InputError(f"{root / pattern}: no file matches this pattern")
        for name in files or names:  # folders are sources only if no file matches
            yield from _source_files(name, root / name)
    else:
        raise InputError(f"{root / pattern}: no such file{_suggestion(root / pattern)}")


def _source_files(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield a path, or all files if it is a saved Hugging Face dataset."""
    if not path.is_dir() or not saved_dataset.is_saved_dataset(path):
        yield name, path
        return
    for file in saved_dataset.data_files(path, name):
        yield f"{name.rstrip('/')}/{file}", path / file


def _with_existing_folders(pattern: str, root: Path) -> str:
    """Return a glob in which brackets in the names of existing folders are escaped."""
    parts = pattern.split("/")
    literal = [
        part.replace("[", "[[]") if (root / "/".join(parts[:number])).is_dir() else part
        for number, part in enumerate(parts[:-1], 1)
    ]
    return "/".join([*literal, parts[-1]])


def _is_text(name: str) -> bool:
    """Return whether a name is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path_in_package(url: str) -> Path:
    """Return the path of `package://NAME/PATH` without importing the package."""
    package, _, inner_path = url.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier() or not inner_path:
        raise InputError(f"{url}: needs the form {PACKAGE}NAME/PATH, such as {PACKAGE}pkg/a.csv")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise InputError(f"{url}: no package {package} is installed; install it with pip")
    for folder in spec.submodule_search_locations or ():
        if (path := Path(folder) / inner_path).is_file():
            return path
    raise InputError(f"{url}: the package {package} has no file {inner_path}")


def _suggestion(path: Path) -> str:
    """Return the end of an error: a name similar to the missing file's, if there is one."""
    try:
        names = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return f": the folder {path.parent} is missing too"
    matches = difflib.get_close_matches(path.name, names, 1)
    return f"; did you mean {path.parent / matches[0]}?" if matches else ""
