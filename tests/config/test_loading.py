"""Every mistake in a config is one line that says where, what and what to do."""

from pathlib import Path

import pytest

from pipeline import config
from pipeline.errors import ConfigError
from pipeline.settings import changed_keys

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

MISTAKES = {
    "typo": ("train.leraning_rate=1", "no such key"),
    "typo names the nearest": ("model.hiden=1", "did you mean model.hidden?"),
    "key of another section": ("model.lr=1", "did you mean train.lr?"),
    "no section": ("lr=1", "did you mean train.lr?"),
    "unknown section": ("modle.hidden=1", "did you mean model?"),
    "not key=value": ("train.lr", "reads key=value"),
    "range": ("train.lr=-1", "train.lr=-1: input should be greater than 0"),
    "type": ("model.layers=two", "model.layers='two': input should be a valid integer"),
    "choice": ("train.precision=fp8", "'auto', 'fp32', 'bf16' or 'fp16'"),
    "share": ("corpus.validation=1.5", "needs a share between 0 and 1, or a file"),
    "a value as a section": ("train.lr.x=1", "train.lr is a value, not a section"),
    "budget below a row": ("stream.token_budget=399", "fewer than the longest row"),
    "budget split": ("stream.accumulation_steps=128", "fewer than the longest row"),
    "infinite": ("train.lr=.inf", "train.lr=inf: input should be a finite number"),
    "bare on": ("corpus.label=on", "quote it"),
    "keep of a split text": ("corpus.overflow=split", "corpus.overflow=split truncates none"),
    "keep of a dropped text": (
        "corpus.overflow=drop",
        "corpus.truncation_side='both': says what is kept",
    ),
    "text is label": ("corpus.label=text", "the same column as corpus.text"),
    "label twice": ("corpus.label_names=[a, a]", "names one label twice"),
}


CELLS = {
    "goru.hidden=100": "set model.hidden=64 or 128, or an even model.goru_capacity",
    "goru.goru_capacity=3": "model.goru_capacity=3: layers of rotations come in pairs",
    "lstm.goru_capacity=4": "is of model.cell=goru, but the cell is lstm",
    "gru.activation=relu": "is of model.cell=elman, but the cell is gru",
    "elman.recurrent_init=identity": "set model.activation=relu with it",
    "grid_lstm.grid_dimensions=0": "greater than or equal to 1",
    "grid_lstm.skip=residual": "leave it out",
    "goru.hidden=1": "goru turns pairs of units",
    "gru.forget_bias=2.0": "is of model.cell=lstm or grid_lstm",
    "lstm.grid_tied=true": "is of model.cell=grid_lstm",
}


@pytest.mark.parametrize("setting,expected", CELLS.items(), ids=CELLS)
def test_what_a_cell_cannot_be_is_one_line(setting: str, expected: str) -> None:
    cell, _, override = setting.partition(".")
    with pytest.raises(ConfigError) as caught:
        config.load(None, [f"model.cell={cell}", f"model.{override}"])
    (line,) = caught.value.lines
    assert expected in line


def test_nor_can_it_be_that_of_characters() -> None:
    goru = ["task.name=tagging", "model.cell=goru", "model.hidden=8"]
    with pytest.raises(ConfigError, match=r"characters=6: .* set model\.characters=4 or 8, or an"):
        config.load(None, [*goru, "model.characters=6"])
    assert config.load(None, [*goru, "model.characters=0"]).model.characters == 0


@pytest.mark.parametrize("override,expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    assert len(caught.value.lines) == 1
    assert expected in caught.value.lines[0]


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, ["train.lr=-1", "model.hiden=3", "nothing", "stream.lanes=0"])
    assert len(caught.value.lines) == 4


@pytest.mark.parametrize(
    "text,expected",
    [
        ("[1, 2]", "needs sections of keys"),
        ("train: {lr: [", "not YAML"),
        ("train: 3", "train=3"),
        ("", "corpus.input: missing"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert any(expected in line for line in caught.value.lines)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").touch()
    with pytest.raises(ConfigError, match=r"no such file; did you mean .*reviews\.yaml"):
        config.load(tmp_path / "review.yaml")


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.001", "1.0e-3"])
def test_numbers_as_people_write_them(text: str) -> None:
    assert config.load(None, [f"train.lr={text}"]).train.lr == 0.001


def test_a_date_that_is_none_is_text() -> None:
    assert config.load(None, ["run.name=2024-02-30"]).run.name == "2024-02-30"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_begins_with_its_command(path: Path) -> None:
    loaded = config.load(path)
    assert loaded.run.dir == f"runs/{path.stem}"
    assert loaded.corpus.shards == f"data/shards/{path.stem}"
    assert "launch/train.py" in path.read_text().splitlines()[0]


def test_a_dumped_config_reads_back(tmp_path: Path) -> None:
    loaded = config.load(
        None, ["train.lr=1e-5", "corpus.filters={a: 'yes'}", "corpus.validation=x"]
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(loaded))
    assert config.load(path) == loaded


def test_help_lists_every_key() -> None:
    text = config.help_text()
    assert all(f"  {key} " in text for key, _ in config.keys())


def test_what_may_change_on_resume() -> None:
    old = config.load()
    may = [
        "train.max_steps=9", "train.epochs=9", "train.log_every=9", "train.checkpoint_every=9",
        "track.uri=x", "track.enabled=false", "corpus.root=x",
    ]  # fmt: skip
    assert changed_keys(old, config.load(None, may)) == {}
    must_not = ["train.lr=9", "model.hidden=9", "corpus.max_tokens=9", "stream.token_budget=999"]
    changed = changed_keys(old, config.load(None, must_not))
    assert changed.keys() == {override.partition("=")[0] for override in must_not}
    assert changed["model.hidden"] == (128, 9)
