"""Which files an input names: paths, globs and files inside installed packages."""

import difflib
import glob
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import InputError

PACKAGE = "package://"


def resolve(inputs: Iterable[str], root: str | Path = ".") -> list[Path]:
    """The files that `inputs` name, in their order. Raises InputError if one names none."""
    return list(locate(inputs, root).values())


def locate(inputs: Iterable[str], root: str | Path) -> dict[str, Path]:
    """Name -> path of every file, in the order of `inputs`; no file comes twice.

    A name is the path as it was given, so relative to `root` unless it is absolute; the matches
    of a glob are sorted by name.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    for text in inputs:
        for name, path in _matches(text, Path(root)):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                found[name] = path
    return found


def _matches(text: str, root: Path) -> Iterator[tuple[str, Path]]:
    if text.startswith(PACKAGE):
        yield text, _in_package(text)
    elif (root / text).is_file():
        yield text, root / text
    elif (root / text).is_dir():
        raise InputError(f"{root / text}: is a folder; name its files, such as {text}/*.csv")
    elif glob.has_magic(text):
        names = sorted(glob.glob(text, root_dir=root, recursive=True))  # noqa: PTH207  may be absolute
        files = [name for name in names if (root / name).is_file()]
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
