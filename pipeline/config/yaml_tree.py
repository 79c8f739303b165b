"""YAML of config files and overrides, in which each scalar keeps its text as written."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.errors import ConfigError

MERGE = "tag:yaml.org,2002:merge"
COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
MAX_VALUES = 1_000_000
"""Maximum number of values in a document; a few lines of nested aliases can make billions."""
PRIVATE_USE = range(0xE000, 0xF900)
"""Characters without a meaning, one of which replaces `#` while an override is parsed."""


@dataclass(frozen=True)
class Scalar:
    """A scalar: its text as written, without quotes, and its value in YAML."""

    text: str
    value: Any
    is_null: bool = False
    """Whether a config file has `null` or `~` here, which is not a text."""
    is_broken: bool = False
    """Whether an override is in brackets but is not valid YAML."""


@dataclass(frozen=True)
class OverrideCollection:
    """A list or a mapping in an override, with the text that it was parsed from."""

    text: str
    tree: "list[Tree] | dict[str, Tree]"


Tree: TypeAlias = Scalar | OverrideCollection | list["Tree"] | dict[str, "Tree"]
"""A YAML document. Keys of mappings are texts as written."""


class DuplicateKeyError(Exception):
    """A key that is given twice in one mapping, with the lines of both (from 1)."""

    def __init__(self, key: str, first: int, second: int) -> None:
        super().__init__(key)
        self.key, self.first, self.second = key, first, second


class _Loader(yaml.SafeLoader):
    """YAML loader that reads `1e-3` as a number, as YAML 1.2 does; YAML 1.1 requires `1.0e-3`."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


class _Parsed(NamedTuple):
    tree: Tree
    is_quoted: bool
    """Whether the document is a scalar in quotes."""
    end: int
    """Characters up to the end of the document's content."""


def read_file(path: Path) -> Tree | None:
    """Return the content of a YAML file, or None if it is empty.

    Raises ConfigError if it is not YAML or has a key twice. Raises OSError and UnicodeDecodeError.
    """
    try:
        parsed = _parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except DuplicateKeyError as error:
        raise ConfigError(
            f"{path}, line {error.second}: {error.key} is already set on line {error.first}; "
            f"merge the two, or remove one"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"--config {path}: not YAML: {_problem(error)}; correct it, and quote texts that have "
            "special characters"
        ) from None
    except RecursionError:
        raise ConfigError(
            f"--config {path}: not YAML: nested too deeply; write sections with keys"
        ) from None
    return parsed.tree if parsed else None


def _problem(error: Exception) -> str:
    """Return the problem of a YAML error in one line, with its line and column."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error)


def read_override(text: str) -> Tree:
    """Return the value of an override.

    A list, a mapping or a quoted text is parsed as YAML, in which `#` does not begin a comment. Any
    other value is a scalar whose text is `text`. Raises DuplicateKeyError.
    """
    substitute = next(chr(code) for code in PRIVATE_USE if chr(code) not in text)
    try:
        parsed = _parse(text.replace("#", substitute))
    except (yaml.YAMLError, ValueError, RecursionError):
        return Scalar(text, text, is_broken=(text[:1], text[-1:]) in (("[", "]"), ("{", "}")))
    except DuplicateKeyError as error:
        raise DuplicateKeyError(error.key.replace(substitute, "#"), 1, 1) from None
    if parsed is None:
        return Scalar(text, None)
    tree = _with_comment_signs(parsed.tree, substitute)
    if not isinstance(tree, Scalar):
        assert not isinstance(tree, OverrideCollection)
        return OverrideCollection(text, tree)
    if parsed.is_quoted and parsed.end == len(text):
        return tree
    return Scalar(text, text if isinstance(tree.value, str) else tree.value)


def plain(tree: Tree) -> Any:
    """Return the values of a tree as in YAML; an empty scalar is an empty string."""
    if isinstance(tree, OverrideCollection):
        return plain(tree.tree)
    if isinstance(tree, Scalar):
        return tree.value if tree.text else ""
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    return {key: plain(item) for key, item in tree.items()}


def _parse(text: str) -> _Parsed | None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        quoted = isinstance(node, ScalarNode) and node.style in ("'", '"')
        tree = _tree(loader, node, {}, "")
        if _size(tree, {}) > MAX_VALUES:
            problem = f"its aliases expand to more than {MAX_VALUES:,} values"
            raise ConstructorError(None, None, problem, node.start_mark)
        return _Parsed(tree, quoted, node.end_mark.index)
    finally:
        loader.dispose()


def _tree(loader: _Loader, node: Node, done: dict[int, Tree | None], prefix: str) -> Tree:
    """Return the tree of a node, whose dotted key is `prefix`.

    `done` has the trees of earlier nodes by id, because an alias refers to an earlier node.
    """
    if isinstance(node, ScalarNode):
        return _scalar(loader, node)
    if id(node) in done:
        if (known := done[id(node)]) is None:
            raise ConstructorError(None, None, "an alias refers to itself", node.start_mark)
        return known
    done[id(node)] = None
    if node.tag not in COLLECTIONS:
        raise ConstructorError(None, None, f"the tag {node.tag} is unknown", node.start_mark)
    tree: Tree
    if isinstance(node, SequenceNode):
        tree = [_tree(loader, item, done, prefix) for item in node.value]
    else:
        assert isinstance(node, MappingNode)
        _check_keys(node, prefix)
        loader.flatten_mapping(node)
        tree = {
            key.value: _tree(loader, value, done, f"{prefix}{key.value}.")
            for key, value in node.value
        }
    done[id(node)] = tree
    return tree


def _size(tree: Tree, sizes: dict[int, int]) -> int:
    """Return the number of values in a tree. `sizes` has the sizes of earlier trees by id."""
    if not isinstance(tree, (list, dict)):
        return 1
    if id(tree) not in sizes:
        items = tree.values() if isinstance(tree, dict) else tree
        sizes[id(tree)] = 1 + sum(_size(item, sizes) for item in items)
    return sizes[id(tree)]


def _check_keys(node: MappingNode, prefix: str) -> None:
    """Raise DuplicateKeyError if a key occurs twice, ConstructorError if a key is not a scalar."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise ConstructorError(None, None, "a key is not text", key.start_mark)
        line = key.start_mark.line + 1
        if key.tag != MERGE and key.value in lines:
            raise DuplicateKeyError(prefix + key.value, lines[key.value], line)
        lines[key.value] = line


def _scalar(loader: _Loader, node: ScalarNode) -> Scalar:
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, AttributeError, LookupError):  # an impossible date, or `!!bool maybe`
        value = node.value
    return Scalar(node.value, value, value is None and bool(node.value))


def _with_comment_signs(tree: Tree, substitute: str) -> Tree:
    """Return the tree of an override with `#` in place of its substitute, and without nulls."""
    if isinstance(tree, Scalar):
        text = tree.text.replace(substitute, "#")
        value = tree.value.replace(substitute, "#") if isinstance(tree.value, str) else tree.value
        return replace(tree, text=text, value=value, is_null=False)
    if isinstance(tree, list):
        return [_with_comment_signs(item, substitute) for item in tree]
    assert isinstance(tree, dict)
    return {
        key.replace(substitute, "#"): _with_comment_signs(item, substitute)
        for key, item in tree.items()
    }
