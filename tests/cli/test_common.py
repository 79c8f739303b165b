"""Options that all commands have: home folders in paths, the default config, help."""

from pathlib import Path

import pytest

from pipeline.cli.common import input_files
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.processes import call


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which is not the working folder."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return home


def test_home_folders_are_expanded_from_the_config_to_the_shards(home: Path) -> None:
    CASES["classification"].write(home / "reviews.csv", 120)
    (home / "mine.yaml").write_text("corpus: {input: ~/reviews.csv, shards: ~/shards}")
    keys = [o for o in small_run_overrides(home) if "corpus.input" not in o and "shards" not in o]
    status, out, err = call("prepare", "--config=~/mine.yaml", *keys)
    assert status == 0, err
    assert out.splitlines()[-1] == f"{home}/shards is prepared"
    assert (home / "shards" / "dataset.json").exists()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["train", "--config=~/no.yaml"], "--config {home}/no.yaml: no such file"),
        (["predict", "--run=~/no"], "{home}/no: is not a run folder"),
        (["evaluate", "--run=~/no", "--input=~/a.csv"], "{home}/no: is not a run folder"),
    ],
)
def test_home_folders_are_expanded_in_options(
    arguments: list[str], expected: str, home: Path
) -> None:
    status, _, err = call(*arguments)
    assert status == 2
    assert expected.format(home=home) in err


def test_home_folders_are_expanded_in_input_files(home: Path) -> None:
    assert input_files("~/a.csv") == f"{home}/a.csv"
    assert input_files("image=~/a,label=b~") == f"image={home}/a,label=b~"
    assert input_files("a[1],b=c.csv") == "a[1],b=c.csv"


@pytest.mark.parametrize("overrides", [["corpus.input=mine.csv"], ["train.lr=1e-3"], []])
def test_help_prints_no_log_line(overrides: list[str], home: Path) -> None:
    status, out, err = call("train", "--help", *overrides)
    assert (status, err) == (0, "")
    assert "corpus.max_tokens" in out


def test_a_command_without_a_config_reports_which_defaults_it_uses(home: Path) -> None:
    status, _, err = call("prepare", "corpus.input=mine.csv")
    assert status == 2
    notice, mistake = err.splitlines()
    assert notice.startswith("no --config: other keys have the defaults of")
    assert mistake.startswith("error: data/mine.csv: no such file")
