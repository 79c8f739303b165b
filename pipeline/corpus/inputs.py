"""Which files an input names: paths, globs, braces, files inside installed packages, and URLs."""

import difflib
import glob
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from braceexpand import braceexpand

from pipeline.corpus import remote
from pipeline.errors import InputError

PACKAGE = "package://"


def resolve(inputs: Iterable[str], root: str | Path = ".") -> list[Path]:
    """The local files that `inputs` name, in their order. Raises InputError if one names none."""
    paths: list[Path] = []
    for name, path in locate(inputs, root).items():
        if path is None:
            raise InputError(f"{name}: only preparing reads remote files; fetch it first")
        paths.append(path)
    return paths


def locate(inputs: Iterable[str], root: str | Path) -> dict[str, Path | None]:
    """Name -> path of every file, in the order of `inputs`; no file comes twice.

    A name is the path as it was given, so relative to `root` unless it is absolute; the matches
    of a glob are sorted by name. A remote file's name is its URL, and it has no path.
    """
    found: dict[str, Path | None] = {}
    seen: set[Path | str] = set()
    for text in inputs:
        for plain in _expanded(text, Path(root)):
            for name, path in _matches(plain, Path(root)):
                if (file := identity(name, path)) not in seen:
                    seen.add(file)
                    found[name] = path
    return found


def divide(
    inputs: Iterable[str], validation: str | float, root: str | Path
) -> tuple[dict[str, Path | None], dict[str, Path | None]]:
    """The files to train on, and those that are held out whole, as `locate` names them."""
    held_out = locate([validation], root) if isinstance(validation, str) else {}
    held = {identity(*file) for file in held_out.items()}
    found = locate(inputs, root)
    return {n: path for n, path in found.items() if identity(n, path) not in held}, held_out


def identity(name: str, path: Path | None) -> Path | str:
    """Equal for two names of one file."""
    return path.resolve() if path else name


def is_remote(text: str) -> bool:
    return "://" in text and not text.startswith(PACKAGE)


def facts(name: str, path: Path | None) -> remote.Facts:
    """Raises InputError if a remote file is out of reach."""
    if path is None:
        return remote.facts(name)
    status = path.stat()
    return remote.Facts(status.st_size, str(status.st_mtime_ns))


def _expanded(text: str, root: Path) -> Iterable[str]:
    """`text` for each of the choices in its braces."""
    if "{" not in text or (root / text).is_file():
        return [text]
    try:
        return braceexpand(text)
    except ValueError:
        raise InputError(f"{text}: a brace is not closed, or not opened") from None


def _matches(text: str, root: Path) -> Iterator[tuple[str, Path | None]]:
    if text.startswith(PACKAGE):
        yield text, _in_package(text)
    elif is_remote(text):
        yield from ((url, None) for url in (remote.matching(text) if "*" in text else [text]))
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
