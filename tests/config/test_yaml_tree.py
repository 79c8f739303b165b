"""YAML with each scalar as written; keys that are given twice."""

import datetime
from pathlib import Path

import pytest

from pipeline import config
from pipeline.config.yaml_tree import OverrideCollection, Scalar, plain, read_file, read_override
from pipeline.errors import ConfigError


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return read_file(path)


def test_scalars_keep_their_text(tmp_path: Path) -> None:
    tree = read(tmp_path, "a: 2024-01-01 # comment\nb: [1e3, 'x', on, null]\n")
    assert tree == {
        "a": Scalar("2024-01-01", datetime.date(2024, 1, 1)),
        "b": [
            Scalar("1e3", 1000.0), Scalar("x", "x"), Scalar("on", True),
            Scalar("null", None, is_null=True),
        ],
    }  # fmt: skip


def test_anchors_and_merges_are_resolved(tmp_path: Path) -> None:
    tree: object = read(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: *a}\n")
    assert isinstance(tree, dict)
    assert plain(tree) == {
        "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}, "d": {"x": 1, "y": 2}
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, key, first, second",
    [
        ("corpus:\n  input: a.csv\ntrain: {}\ncorpus:\n  text: b\n", "corpus", 1, 4),
        ("corpus:\n  input: a.csv\n  text: a\n  'text': b\n", "corpus.text", 3, 4),
        ("corpus:\n  filters: {1: a,\n    '1': b}\n", "corpus.filters.1", 2, 3),
        ("train:\n  groups:\n  - pattern: a\n    pattern: b\n", "train.groups.pattern", 3, 4),
        ("model: &m {layers: 1}\ntrain:\n  <<: *m\n  lr: 1\n  lr: 2\n", "train.lr", 4, 5),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, key: str, first: int, second: int
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    (line,) = caught.value.lines
    assert line == (
        f"{path}, line {second}: {key} is already set on line {first}; merge the two, or remove one"
    )


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: !!python/object:os.system x", "? [a]\n: b", "a: &a [*a]", "[" * 5000, "a: !x {}",
     "--- a\n--- b"],
    ids=str,
)  # fmt: skip
def test_what_is_not_plain_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (line,) = caught.value.lines
    assert line.startswith(f"--config {tmp_path}/a.yaml: not YAML: ")


def test_an_empty_file_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") is None
    assert read(tmp_path, "\ufeffa: 1\n") == {"a": Scalar("1", 1)}


@pytest.mark.parametrize(
    "text",
    ["exp #1", "# x", "'a' # x", "'a' b", "'tis", " a ", "a\tb", "!!str 1", "*a", "&a b", "> x",
     "[a", "a]", "[a] b", "2024-02-30", "{a,b}.csv", "C:\\x"],
)  # fmt: skip
def test_an_override_that_is_no_list_is_its_whole_text(text: str) -> None:
    tree = read_override(text)
    assert isinstance(tree, Scalar)
    assert (tree.text, tree.value) == (text, text)


@pytest.mark.parametrize("text", ["'on'", '"on"'])
def test_quotes_around_an_override_are_removed(text: str) -> None:
    assert read_override(text) == Scalar("on", "on")


def test_lists_in_overrides_have_texts_with_comment_signs() -> None:
    tree = read_override("[a #1, '#b', {#c: null}]")
    assert tree == OverrideCollection(
        "[a #1, '#b', {#c: null}]",
        [Scalar("a #1", "a #1"), Scalar("#b", "#b"), {"#c": Scalar("null", None)}],
    )


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(12)]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "\n".join(lines))
    (line,) = caught.value.lines
    assert "its aliases expand to more than 1,000,000 values; correct it" in line
    tree = read(tmp_path, "\n".join(lines[:2]))
    assert isinstance(tree, dict)
    assert plain(tree)["a1"] == [["x"] * 9] * 9


@pytest.mark.parametrize("text", ["!!timestamp nope", "!!bool maybe", "!!int ''", "!!float x"])
def test_a_scalar_that_its_tag_does_not_fit_is_a_text(tmp_path: Path, text: str) -> None:
    tree = read(tmp_path, f"a: {text}")
    assert isinstance(tree, dict)
    assert plain(tree)["a"] == text.partition(" ")[2].strip("'")
