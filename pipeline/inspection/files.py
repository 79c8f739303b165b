"""The files that a user names: where they are, and which of them are held out or parallel."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.corpus.readers import content, saved_dataset
from pipeline.corpus.readers.inputs import InputSource, is_remote, locate
from pipeline.corpus.readers.opening import reads_tables
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError
from pipeline.inspection.keys import Key, Keys
from pipeline.settings import expand_home

ROOT = str(CorpusSettings.model_fields["root"].default)
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip
"""Words in file names, with the split that they indicate."""
COLUMN_NAMES = {"source": ("source", "src"), "target": ("target", "tgt", "trg")}
LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4})?")


@dataclass
class Files:
    """The input sources, and the config keys that name them."""

    keys: Keys
    sources: list[InputSource]
    """Sources of `corpus.input`."""
    held_out: dict[str, list[InputSource]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[InputSource]:
        """All sources, those of `corpus.input` first."""
        return [*self.sources, *(s for sources in self.held_out.values() for s in sources)]

    def drop(self, source: InputSource) -> None:
        """Leave out an empty file, as preparation does. Raises InputError if none is left."""
        self.sources = [other for other in self.sources if other is not source]
        self.held_out = {
            split: [other for other in sources if other is not source]
            for split, sources in self.held_out.items()
        }
        self.notes.append(f"{source.name} is empty and is left out")
        if not self.sources:
            raise InputError(f"{source.name}: is empty; name a file with rows")

    @property
    def is_parallel(self) -> bool:
        """Whether each file has one column."""
        return any(source.sides for source in self.sources)


def find(arguments: Sequence[str]) -> Files:
    """Return the files that the arguments of a command name.

    A path starts from the current folder or, if it does not exist there, from `data/`. An argument
    such as `source=a.en,target=a.de` names parallel files. Raises InputError if a file is missing.
    """
    paths = [expand_home(argument) for argument in arguments]
    if any(_is_parallel(path) for path in paths):
        return _with_columns(paths)
    names, root = _names_and_root(paths)
    names = [name for given in names for name in _splits_of_dataset(given, root)]
    sources = [source for name in names for source in locate([name], root)]
    if columns := _parallel_columns(sources):
        inputs = {column: [source.name] for column, source in columns.items()}
        keys = _input_keys(inputs, root)
        why = "line n of one file belongs to line n of the other"
        keys["input"] = Key({column: files[0] for column, files in inputs.items()}, why)
        return Files(keys, locate(inputs, root))
    by_split = _splits(names) if len(names) > 1 else {}
    if "train" in by_split and len(by_split) > 1:
        return _with_splits(_parallel_splits(by_split, root) or by_split, root)
    return Files(_input_keys(names[0] if len(names) == 1 else names, root), sources)


def _is_parallel(argument: str) -> bool:
    return "=" in argument and not Path(argument).exists() and not is_remote(argument)


def _with_columns(paths: Sequence[str]) -> Files:
    """Return parallel files that are given as COLUMN=FILE,COLUMN=FILE."""
    inputs: dict[str, str] = {}
    for part in (part for path in paths for part in path.split(",")):
        column, sign, file = part.partition("=")
        if not sign or not column or not file:
            raise InputError(
                f"{part}: does not have the form COLUMN=FILE of the other arguments; name the "
                "column of each parallel file, such as source=a.en,target=a.de"
            )
        inputs[column] = expand_home(file)
    names, root = _names_and_root(list(inputs.values()))
    located = dict(zip(inputs, names, strict=True))
    keys = _input_keys(located, root)
    return Files(keys, locate({column: [name] for column, name in located.items()}, root))


def _names_and_root(paths: Sequence[str]) -> tuple[list[str], str]:
    """Return the paths relative to `corpus.root`, as in `corpus.input`, and `corpus.root`."""
    in_root = [_below_root(path) for path in paths]
    if all(name is not None for name in in_root):
        return [str(name) for name in in_root], ROOT
    found = []
    for path in paths:
        is_missing = not is_remote(path) and not _exists(Path(path))
        found.append(str(Path(ROOT, path)) if is_missing and _exists(Path(ROOT, path)) else path)
    is_fixed = all(is_remote(path) or Path(path).is_absolute() for path in found)
    return found, ROOT if is_fixed else "."


def _below_root(path: str) -> str | None:
    """Return a path relative to the default of `corpus.root`; None if it is not below it."""
    if is_remote(path):
        return None
    if not _exists(Path(path)):
        return path if _exists(Path(ROOT, path)) else None
    try:
        return Path(path).relative_to(ROOT).as_posix()
    except ValueError:
        return None


def _exists(path: Path) -> bool:
    """Return whether a path exists, or a file that it matches as a pattern."""
    if path.exists():
        return True
    try:
        locate([str(path)], ".")
    except InputError:
        return False
    return True


def _input_keys(value: Any, root: str) -> Keys:
    keys = {"input": Key(value)}
    if root != ROOT:
        keys["root"] = Key(root, "the current folder")
    return keys


def _splits_of_dataset(name: str, root: str) -> Iterator[str]:
    """Yield a name; for a saved Hugging Face dataset with splits, the names of its splits."""
    folder = Path(root, name)
    if is_remote(name) or not (folder / saved_dataset.SPLITS).is_file():
        yield name
        return
    yield from (f"{name.rstrip('/')}/{p.name}" for p in sorted(folder.iterdir()) if p.is_dir())


def _splits(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the names by the split that they indicate; empty unless each indicates one split."""
    found: dict[str, list[str]] = {}
    for name in names:
        words = re.split(r"[^a-z]+", name.rstrip("/").rpartition("/")[2].lower())
        splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if len(splits) != 1:
            return {}
        found.setdefault(splits.pop(), []).append(name)
    return found


def _with_splits(by_split: Mapping[str, Sequence[str] | Mapping[str, str]], root: str) -> Files:
    """Return files of which some are held out, according to their names.

    A split has a list of files, or parallel files by column.
    """
    given = dict(by_split)
    if "validation" not in given:
        given["validation"] = given.pop("test")
    keys = _input_keys(_as_value(given["train"]), root)
    held_out: dict[str, list[InputSource]] = {}
    for split in ("validation", "test"):
        if split in given:
            keys[split] = Key(_as_value(given[split]), "recognized by the file name")
            held_out[split] = _located(given[split], root)
    return Files(keys, _located(given["train"], root), held_out)


def _located(files: Sequence[str] | Mapping[str, str], root: str) -> list[InputSource]:
    if isinstance(files, Mapping):
        return locate({column: [name] for column, name in files.items()}, root)
    return locate(files, root)


def _parallel_splits(
    by_split: Mapping[str, Sequence[str]], root: str
) -> dict[str, dict[str, str]] | None:
    """Return the files of each split by column if each split has two parallel files."""
    found: dict[str, dict[str, str]] = {}
    for split, names in by_split.items():
        columns = _parallel_columns([s for name in names for s in locate([name], root)])
        if not columns:
            return None
        found[split] = {column: source.name for column, source in columns.items()}
    return found


def _as_value(files: Sequence[str] | Mapping[str, str]) -> Any:
    """Return files as a key names them: one file, a list, or a file for each column."""
    if isinstance(files, Mapping):
        return dict(files)
    return files[0] if len(files) == 1 else list(files)


def _parallel_columns(sources: Sequence[InputSource]) -> dict[str, InputSource]:
    """Return two parallel files, with equally many lines, by column; empty if they are not."""
    if len(sources) != 2 or any(s.path is None or not s.path.is_file() for s in sources):
        return {}
    first, second = sources
    if any(reads_tables(source.name) for source in sources):
        return {}
    counts = [_count_lines(source) for source in sources]
    if counts[0] != counts[1] or not counts[0]:
        return {}
    names = [content.plain_name(s.name).lower().rpartition("/")[2] for s in sources]
    for column, other in (("target", "source"), ("source", "target")):
        if any(word in re.split(r"[^a-z]+", names[0]) for word in COLUMN_NAMES[column]):
            return {other: second, column: first} if column == "target" else {
                column: first, other: second
            }  # fmt: skip
    stems = [name.partition(".")[0] for name in names]
    ends = [name.rpartition(".")[2] for name in names]
    if stems[0] == stems[1] or all(LANGUAGE.fullmatch(end) for end in ends):
        return {"source": first, "target": second}
    return {}


def _count_lines(source: InputSource) -> int:
    """Return the number of lines of a text; 0 if it is not one."""
    assert source.path is not None
    count, last = 0, b"\n"
    with source.path.open("rb") as file:
        if not (head := content.read_head(file, source.name)) or b"\0" in head:
            return 0
        stream = content.decompressed(file, source.name)
        for chunk in content.read_chunks(stream, source.name):
            count += chunk.count(b"\n")
            last = chunk[-1:]
    return count + (last != b"\n")
