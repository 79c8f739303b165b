"""Values by the types of keys: texts as written, home folders, empty values."""

from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from pipeline import config
from pipeline.config.typed import typed
from pipeline.config.yaml_tree import read_override
from pipeline.errors import ConfigError

HOME = str(Path.home())


def value_of(override: str, *others: str) -> Any:
    loaded = config.load(None, [*others, override])
    return reduce(getattr, override.partition("=")[0].split("."), loaded)


@pytest.mark.parametrize(
    "text",
    ["exp #1", "exp #2", "2024-01-01", "2024", "1e3", "0x1F", "on", "no", "null", "~x", "[a]",
     "{a: b}", "a: b", "- a", "1_000", "12:30:45"],
)  # fmt: skip
def test_a_key_of_text_is_as_written(text: str) -> None:
    assert value_of(f"run.name={text}") == text
    if text != "[a]":  # the key may be a list, too
        assert value_of(f"corpus.label={text}") == text


def test_runs_whose_names_differ_after_a_comment_sign_have_two_folders() -> None:
    dirs = [config.load(None, [f"run.name=exp #{n}"]).run.dir for n in (1, 2)]
    assert dirs == ["runs/exp #1", "runs/exp #2"]


@pytest.mark.parametrize(
    "override, expected",
    [
        ("corpus.label_names=[yes,no]", ["yes", "no"]),
        ("corpus.label_names=[1, 1.0, 1e3, null, a #1]", ["1", "1.0", "1e3", "null", "a #1"]),
        ("corpus.filters={a: 1, on: off}", {"a": "1", "on": "off"}),
        ("corpus.replace={'<br />': ' '}", {"<br />": " "}),
        ("corpus.validation=0.2", 0.2),
        ("corpus.validation=1e-1", 0.1),
        ("corpus.validation=2024-01-01", "2024-01-01"),
        ("corpus.validation={text: 1, label: on}", {"text": ["1"], "label": ["on"]}),
        ("corpus.input=2024", ["2024"]),
        ("corpus.input=data #3.csv", ["data #3.csv"]),
        ("corpus.input=a[1].csv", ["a[1].csv"]),
        ('corpus.input=["a[1].csv", 2024]', ["a[1].csv", "2024"]),
        ("train.precision=fp32", "fp32"),
        ("model.native=off", False),
        ("train.max_steps=1e3", 1000),
        ("train.lr=1E-3", 0.001),
    ],
)
def test_items_are_texts_where_the_key_wants_texts(override: str, expected: object) -> None:
    assert value_of(override) == expected


@pytest.mark.parametrize(
    "override, expected",
    [
        ("corpus.tokenizer=", ""), ("corpus.label_names=", []), ("corpus.filters=", {}),
        ("train.callbacks=", []), ("stream.mix=", {}),
    ],
)  # fmt: skip
def test_an_empty_value_is_an_empty_text_list_or_dict(override: str, expected: object) -> None:
    assert value_of(override) == expected


def test_an_empty_tokenizer_replaces_the_one_of_the_run_to_start_from() -> None:
    assert value_of("corpus.tokenizer=", "model.init_from=runs/lm") == ""


@pytest.mark.parametrize(
    "override, expected",
    [
        ("corpus.input=~/a.csv", [f"{HOME}/a.csv"]),
        ("corpus.input=[~/a.csv, b~/~.csv]", [f"{HOME}/a.csv", "b~/~.csv"]),
        ("corpus.input={text: ~/a, label: [~/b]}", {"text": [f"{HOME}/a"], "label": [f"{HOME}/b"]}),
        ("corpus.validation=~/v.csv", f"{HOME}/v.csv"),
        ("corpus.validation={text: ~/a, label: b}", {"text": [f"{HOME}/a"], "label": ["b"]}),
        ("corpus.root=~", HOME),
        ("corpus.shards=~/s", f"{HOME}/s"),
        ("corpus.tokenizer=~/t.json", f"{HOME}/t.json"),
        ("run.dir=~/r", f"{HOME}/r"),
        ("train.resume=~/r/checkpoints/step-1", f"{HOME}/r/checkpoints/step-1"),
        ("model.init_from=~/r", f"{HOME}/r"),
        ("stream.cache=~/c", f"{HOME}/c"),
        ("stream.mix={~/s: 0.5}", {f"{HOME}/s": 0.5}),
        ("track.uri=~/mlruns", f"{HOME}/mlruns"),
        ("corpus.shards=s3://bucket/~x", "s3://bucket/~x"),
        ("corpus.input=~no-such-user/a.csv", ["~no-such-user/a.csv"]),
    ],
)  # fmt: skip
def test_a_home_folder_is_expanded_in_paths(override: str, expected: object) -> None:
    assert value_of(override) == expected


def test_a_home_folder_is_expanded_in_paths_of_other_keys() -> None:
    """Word vectors, and the tokenizer of the run to start from; texts keep their `~`."""
    assert value_of("model.word_vectors=~/v.txt", "task.name=tagging", "corpus.overflow=split",
                    "corpus.truncation_side=start") == f"{HOME}/v.txt"  # fmt: skip
    loaded: Any = config.load(None, ["model.init_from=~/r"])
    assert loaded.corpus.tokenizer == f"{HOME}/r/dataset/tokenizer.json"
    assert value_of("run.name=~/x", "run.dir=x") == "~/x"


def test_a_home_folder_is_expanded_in_the_file_of_a_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"there is no file {tmp_path}/cell.py"):
        config.load(None, ["model.cell=~/cell.py:Cell"])


def test_a_config_file_gives_texts_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "run: {name: 2024-01-01, dir: ~/r}\n"
        "corpus:\n  input: 2024\n  label: on\n  tokenizer:\n  label_names: [1, 1.50, no]\n"
        "  filters: {lang: no, 1: 2}\n"
    )
    loaded: Any = config.load(path)
    assert (loaded.run.name, loaded.run.dir) == ("2024-01-01", f"{HOME}/r")
    assert (loaded.corpus.input, loaded.corpus.label, loaded.corpus.tokenizer) == (
        ["2024"],
        "on",
        "",
    )
    assert loaded.corpus.label_names == ["1", "1.50", "no"]
    assert loaded.corpus.filters == {"lang": "no", "1": "2"}
    (tmp_path / "again.yaml").write_text(config.dump(loaded))
    assert config.load(tmp_path / "again.yaml") == loaded


def test_null_in_a_config_file_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("corpus: {input: a.csv, tokenizer: null}")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    (line,) = caught.value.lines
    assert line == (
        "corpus.tokenizer=null: input should be a valid string; null and ~ are not text in YAML: "
        "quote the value, or remove the key"
    )


@pytest.mark.parametrize(
    "annotation, text, expected",
    [
        (str | list[str], "[title, body]", ["title", "body"]),
        (str | list[str], "title: x", "title: x"),
        (list[str] | dict[str, str], "{1: World, 2: on}", {"1": "World", "2": "on"}),
        (dict[int, str], "{1: 2}", {"1": "2"}),
        (int | str, "007", 7),
        (int | str, "on", "on"),
        (bool | str, "on", True),
        (str | None, "null", None),
        (float | None, "", None),
        (Literal["a", "1"], "1", "1"),
        (Literal[1, 3], "3", 3),
        (Annotated[str, "x"] | Annotated[list[Annotated[str, "y"]], "z"], "[1]", ["1"]),
        (tuple[str, ...], "[1, on]", ["1", "on"]),
        (Path, "1", "1"),
        (Any, "[1, on]", [1, True]),
        (list[int], "3", 3),
        (set[str], "", set()),
    ],
)
def test_values_follow_the_annotation(annotation: Any, text: str, expected: object) -> None:
    assert typed(read_override(text), annotation) == expected
