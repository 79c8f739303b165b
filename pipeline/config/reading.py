"""Reads config files and applies overrides to them."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.defaults import input_name
from pipeline.config.messages import suggestion
from pipeline.config.schema import Config
from pipeline.config.yaml_tree import (
    DuplicateKeyError,
    OverrideCollection,
    Scalar,
    Tree,
    plain,
    read_file,
    read_override,
)
from pipeline.errors import ConfigError

BUNDLED = Path(__file__).parents[1] / "configs"
"""Folder of the bundled configs; in a clone, a link to the top-level folder."""
DEFAULT = BUNDLED / "imdb.yaml"


class BaseConfig(NamedTuple):
    """A config before overrides are applied."""

    tree: dict[str, Tree]
    """Sections by name."""
    name: str
    """Name of the config file or, without one, of the input."""
    is_empty: bool
    """Whether no file was read because the overrides set `corpus.input`."""


def read_base(path: Path | None, overrides: Sequence[str]) -> BaseConfig:
    """Read the config file at `path`, which may also be the name of a bundled config.

    If `path` is None, the default config is read. If the overrides also set `corpus.input`, no file
    is read, because the default config is made for another input. Raises ConfigError.
    """
    if path is not None:
        path = _resolve(path)
        return BaseConfig(read(path), path.stem, is_empty=False)
    inputs = [o for o in overrides if o.startswith(("corpus.input=", "corpus.input."))]
    if not inputs:
        return BaseConfig(read(DEFAULT), DEFAULT.stem, is_empty=False)
    tree = _with_all_sections({})
    list(set_overrides(tree, inputs))  # mistakes are reported with those of all overrides
    corpus = tree["corpus"]
    assert isinstance(corpus, dict)
    name = input_name(_plain_text(corpus.get("input")))
    return BaseConfig(_with_all_sections({}), name, is_empty=True)


def read(path: Path) -> dict[str, Tree]:
    """Return the sections of a config file by name. Raises ConfigError."""
    try:
        tree = read_file(path)
    except FileNotFoundError:
        folder = BUNDLED if path.parent == Path() else path.parent
        nearest = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.yaml")], 1)
        hint = f"; did you mean {folder / nearest[0]}?" if nearest else ""
        raise ConfigError(f"--config {path}: no such file{hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {path}: cannot be read: {error}; save it in UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"--config {path}: cannot be read: {error.strerror}; name a file that can be read"
        ) from None
    if tree is None or (isinstance(tree, Scalar) and tree.value is None):
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"--config {path}: is a {type(plain(tree)).__name__}; write sections with keys, such "
            f"as 'train: {{lr: 1e-3}}'"
        )
    return _with_all_sections(tree)


def set_overrides(tree: dict[str, Tree], overrides: Iterable[str]) -> Iterator[str]:
    """Set each override in `tree`; yield an error line for each that cannot be set.

    Raises ConfigError if a mapping has a key twice.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals:
            is_file = Path(override).is_file()
            hint = "; a file to evaluate or predict is given as --input FILE" if is_file else ""
            yield (
                f"{override!r}: not an override; use the form key=value, such as train.lr=1e-3"
                f"{hint}"
            )
            continue
        if len(parts) == 1:
            yield f"{key}={text}: the key has no section{suggestion(key)}"
            continue
        try:
            value = read_override(text)
        except DuplicateKeyError as error:
            raise ConfigError(
                f"{key}={text}: {error.key} is given twice; keep one of the two"
            ) from None
        target = _descend(tree, parts[:-1])
        if target is None:
            outer = ".".join(parts[:-1])
            yield f"{key}={text}: {outer} is a value, not a section; set {outer}"
        else:
            target[parts[-1]] = value


def _descend(tree: dict[str, Tree], parts: Sequence[str]) -> dict[str, Tree] | None:
    """Return the mapping at a dotted key, added if it is missing; None if there is a value."""
    for part in parts:
        child = tree.setdefault(part, {})
        if isinstance(child, OverrideCollection):
            child = tree[part] = child.tree
        if not isinstance(child, dict):
            return None
        tree = child
    return tree


def _with_all_sections(tree: dict[str, Tree]) -> dict[str, Tree]:
    """Add the sections that are missing or null in a config."""
    for name in Config.model_fields:
        section = tree.get(name)
        if section is None or (isinstance(section, Scalar) and section.value is None):
            tree[name] = {}
    return tree


def _plain_text(tree: Tree | None) -> Any:
    """Return the value of `corpus.input` with all scalars as text."""
    return tree.text if isinstance(tree, Scalar) else tree and plain(tree)


def _resolve(path: Path) -> Path:
    """Return the path of the bundled config if `path` is its name; else return `path`.

    A file in the current folder takes precedence; a folder does not.
    """
    is_name = path.parent == Path() and (path.is_dir() or not path.exists())
    bundled = BUNDLED / f"{path.name.removesuffix('.yaml')}.yaml"
    return bundled if is_name and bundled.is_file() else path
