"""Reading configs by path or name, with overrides; each mistake is one line with its key."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.config.messages import as_yaml
from pipeline.errors import ConfigError
from pipeline.settings import changed_keys

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

MISTAKES = {
    "typo": ("train.leraning_rate=1", "no such key"),
    "typo of a key": ("model.hiden=1", "did you mean model.hidden?"),
    "key of another section": ("model.lr=1", "did you mean train.lr?"),
    "no section": ("lr=1", "lr=1: the key has no section; did you mean train.lr?"),
    "unknown section": ("modle.hidden=1", "did you mean model?"),
    "not key=value": ("train.lr", "'train.lr': not an override; use the form key=value"),
    "range": ("train.lr=-1", "train.lr=-1: input should be greater than 0"),
    "type": ("model.layers=two", "model.layers=two: input should be a valid integer"),
    "choice": ("train.precision=fp8", "'auto', 'fp32', 'bf16' or 'fp16'"),
    "fraction": ("corpus.validation=1.5", "needs a fraction between 0 and 1, or a file"),
    "value as section": ("train.lr.x=1", "train.lr.x=1: train.lr is a value, not a section"),
    "one of several types": (
        "task.class_weights=null",
        "task.class_weights='null': input should be 'none' or 'balanced', or a valid dictionary",
    ),
    "size": ("stream.lanes=1e308", "exceeded maximum size; set a smaller number"),
    "infinity": ("train.lr=.inf", "train.lr=.inf: input should be a finite number"),
    "range of a cell's key": (
        "model.forget_bias=x",
        "model.forget_bias=x: input should be a valid number",
    ),
    "empty number": ("train.lr=", "train.lr='': input should be a valid number"),
    "empty name": ("run.name=", "run.name='': string should have at least 1 character"),
    "name of a folder above": ("run.name=a/../..", "run.name=a/../..: is not the name of a folder"),
    "name of no folder": ("run.name=./", "run.name=./: is not the name of a folder in runs/; set"),
    "empty validation": ("corpus.validation=", "needs a fraction between 0 and 1, or a file"),
    "duplicate": ("corpus.filters={a: 1, a: 2}", "}: a is given twice; keep one of the two"),
    "brackets": ("corpus.input=[a[1].csv]", "[a[1].csv]: is not a list or mapping in YAML; quote"),
    "conflict": ("corpus.label=text", "corpus.label=text: is the same column as corpus.text"),
}


@pytest.mark.parametrize("override, expected", MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    (line,) = caught.value.lines
    assert expected in line


def test_a_run_with_a_folder_may_have_any_name() -> None:
    loaded = config.load(None, ["corpus.input=a.csv", "run.name=..", "run.dir=runs/a"])
    assert (loaded.run.name, loaded.run.dir) == ("..", "runs/a")


def test_a_file_in_place_of_an_override_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.touch()
    with pytest.raises(ConfigError) as caught:
        config.load(None, [str(path)])
    (line,) = caught.value.lines
    assert line.startswith(f"'{path}': not an override; use the form key=value")
    assert line.endswith("; a file to evaluate or predict is given as --input FILE")


def test_a_key_with_a_dot_in_a_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("corpus: {input: a.csv}\ntrain.lr: 1e-3\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.lines == [
        "train.lr=0.001: is a key with a dot; in a file, write lr in section train"
    ]


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["train.lr=-1", "model.hiden=3", "nothing", "stream.lanes=0"])
    assert len(caught.value.lines) == 4


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[1, 2]", "is a list; write sections with keys"),
        ("train: {lr: [", "not YAML: line 1, column 14: "),
        ("train:\n\tlr: 1", "not YAML: line 2, column 1: found character"),
        ("train: 3", "train=3: is not a section with keys; write it as train: {key: value}"),
        ("corpus: 3", "corpus=3: is not a section with keys; write it as corpus: {key: value}"),
        ("", "corpus.input: missing"),
    ],
)
def test_an_invalid_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert any(expected in line for line in caught.value.lines)


@pytest.mark.parametrize("task", ["images", "captioning"])
def test_images_need_a_size(task: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["corpus.input=a.csv", f"task.name={task}"])
    (line,) = caught.value.lines
    assert line.startswith("corpus.image_size=[]: is empty, but the number of steps")


def test_a_section_without_keys_is_the_only_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("corpus: [a.csv]")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.lines == [
        "corpus=[a.csv]: is not a section with keys; write it as corpus: {key: value}"
    ]


def test_a_file_that_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("corpus: {input: a.csv}", encoding="utf-16")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    (line,) = caught.value.lines
    assert line.startswith(f"--config {path}: cannot be read: 'utf-8' codec")
    assert line.endswith("; save it in UTF-8")


def test_the_path_of_a_tokenizer_may_have_any_characters() -> None:
    loaded = config.load(None, ["corpus.input=a.csv", "corpus.tokenizer=a\0b"])
    assert loaded.corpus.shards.startswith("data/shards/a-")


def test_the_error_for_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").touch()
    with pytest.raises(ConfigError, match=r"no such file; did you mean .*reviews\.yaml"):
        config.load(tmp_path / "review.yaml")


def test_the_error_for_a_missing_file_of_a_folder_suggests_no_bundled_config(
    tmp_path: Path,
) -> None:
    path = tmp_path / "none" / "imdb.yaml"
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.lines == [f"--config {path}: no such file"]


@pytest.mark.parametrize("name", ["chunking", "chunking.yaml"])
def test_bundled_configs_load_by_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = config.load(Path(name))
    assert loaded == config.load(config.BUNDLED / "chunking.yaml")
    assert loaded.run.name == "chunking"


def test_a_file_in_the_current_folder_takes_precedence_over_a_bundled_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chunking.yaml").write_text("corpus: {input: a.csv}")
    assert config.load(Path("chunking.yaml")).corpus.input == ["a.csv"]


def test_a_folder_in_the_current_folder_does_not_hide_a_bundled_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chunking").mkdir()
    assert config.load(Path("chunking")).run.name == "chunking"


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.001", "1.0e-3"])
def test_numbers_with_an_exponent_are_read_as_numbers(text: str) -> None:
    assert config.load(None, [f"train.lr={text}"]).train.lr == 0.001


def test_an_impossible_date_is_read_as_text() -> None:
    assert config.load(None, ["run.name=2024-02-30"]).run.name == "2024-02-30"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_begins_with_its_command(path: Path) -> None:
    loaded = config.load(path)
    assert loaded.run.dir == f"runs/{path.stem}"
    assert re.fullmatch(rf"data/shards/{path.stem}-[0-9a-f]{{8}}", loaded.corpus.shards)
    assert "launch/train.py" in path.read_text().splitlines()[0]


def test_a_dumped_config_reads_back(tmp_path: Path) -> None:
    loaded = config.load(
        None, ["train.lr=1e-5", "corpus.filters={a: 'yes'}", "corpus.validation=x"]
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(loaded))
    assert config.load(path) == loaded


@pytest.mark.parametrize(
    "value, expected",
    [
        (True, "true"),
        ("word", "word"),
        ("on", "'on'"),
        ("", "''"),
        ("a\nb", '"a\\nb"'),
        ("x " * 500 + "x", "x " * 500 + "x"),
        (0.5, "0.5"),
        ({"b": [1, "é"], "a": None}, "{b: [1, é], a: null}"),
    ],
)
def test_values_are_printed_as_yaml_in_one_line(value: object, expected: str) -> None:
    assert as_yaml(value) == expected


def test_help_lists_every_key() -> None:
    text = config.help_text()
    assert all(f"  {key} " in text for key, _ in config.keys())


def test_keys_that_may_change_when_a_run_resumes() -> None:
    old = config.load()
    may_change = [
        "train.max_steps=9", "train.epochs=9", "train.log_every=9", "train.checkpoint_every=9",
        "track.uri=x", "track.enabled=false", "corpus.root=x",
    ]  # fmt: skip
    assert changed_keys(old, config.load(None, may_change)) == {}
    must_not = ["train.lr=9", "model.hidden=9", "corpus.max_tokens=9", "stream.token_budget=999"]
    changed = changed_keys(old, config.load(None, must_not))
    assert changed.keys() == {override.partition("=")[0] for override in must_not}
    assert changed["model.hidden"] == (128, 9)


def test_without_a_config_an_input_has_the_defaults_of_its_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing of the default config, such as its filters and names, applies to other data."""
    caplog.set_level("INFO", logger="pipeline")
    loaded = config.load(None, ["train.lr=0.5", "corpus.input=mail/tickets.csv.gz"])
    (record,) = caplog.records
    assert record.message == (
        "no --config: other keys have the defaults of classification, not imdb.yaml's"
    )
    assert len(record.message) <= 80
    assert (loaded.run.name, loaded.run.dir) == ("tickets", "runs/tickets")
    assert re.fullmatch(r"data/shards/tickets-[0-9a-f]{8}", loaded.corpus.shards)
    assert loaded.train.lr == 0.5
    set_here = {"corpus.input", "corpus.shards", "run.name", "run.dir", "train.lr"}
    fields = dict(config.keys(type(loaded)))
    for key, value in config.flatten(loaded).items():
        if key not in set_here:
            assert value == fields[key].default, key


def test_without_a_config_the_task_is_the_one_of_the_override() -> None:
    parallel = ["corpus.input.source=wmt/train.en", "corpus.input.target=wmt/train.de"]
    keys = ["corpus.lowercase=false", "corpus.overflow=drop"]
    loaded = config.load(None, ["task.name=translation", *keys, *parallel])
    assert loaded.corpus.input == {"source": ["wmt/train.en"], "target": ["wmt/train.de"]}
    assert loaded.run.name == "train"
    assert "corpus.shared_vocab" in config.help_text(None, ["task.name=translation", *parallel])


def test_an_input_beside_a_config_changes_only_the_input(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pipeline")
    loaded: Any = config.load(Path("imdb"), ["corpus.input=other.csv"])
    assert loaded.corpus.replace == {"<br />": " "}
    assert loaded.run.name == "imdb"
    assert not caplog.records


@pytest.mark.parametrize("overrides", [[], ["corpus.input=a.csv"], ["corpus.tokenizer={tmp}/t"]])
def test_shards_depend_on_their_settings_and_not_on_the_run(
    overrides: list[str], tmp_path: Path
) -> None:
    (tmp_path / "t").write_text("{}")
    given = [override.format(tmp=tmp_path) for override in overrides]

    def shards(*more: str) -> str:
        return config.load(None, [*given, *more]).corpus.shards

    first = shards()
    for same in ("run.name=x", "train.lr=1", "corpus.workers=3", "corpus.chunk_mb=2",
                 "corpus.max_skipped_ratio=0.05", "corpus.root=elsewhere"):  # fmt: skip
        assert shards(same) == first
    others = [
        shards(o) for o in ("corpus.max_tokens=99", "corpus.text=body", "task.name=multilabel")
    ]
    assert len({first, *others}) == 4
    assert shards("corpus.shards=~/given") == str(Path.home() / "given")
    (tmp_path / "t").write_text("{ }")
    assert (shards() == first) == ("corpus.tokenizer={tmp}/t" not in overrides)


def test_two_configs_with_equal_settings_have_equal_digests(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("corpus: {input: x.csv, max_tokens: 400}")
    first, second = (config.load(tmp_path / n).corpus.shards for n in ("a.yaml", "b.yaml"))
    assert first.replace("/a-", "/b-") == second


def test_a_runs_config_keeps_the_path_of_its_shards(tmp_path: Path) -> None:
    loaded = config.load(None, ["corpus.input=x.csv"])
    (tmp_path / "config.yaml").write_text(config.dump(loaded))
    assert config.load_run_config(tmp_path / "config.yaml") == loaded
    old = config.dump(loaded).replace(loaded.corpus.shards, "data/shards/imdb")
    (tmp_path / "config.yaml").write_text(old)
    assert config.load_run_config(tmp_path / "config.yaml").corpus.shards == "data/shards/imdb"


@pytest.mark.parametrize("value", ["[tagging]", "{a: b}"])
def test_a_task_that_is_no_name_is_one_line(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"task: {{name: {value}}}\ncorpus: {{input: a.csv}}\n")
    with pytest.raises(ConfigError, match=r"^task\.name=") as caught:
        config.load(tmp_path / "a.yaml")
    assert len(caught.value.lines) == 1
