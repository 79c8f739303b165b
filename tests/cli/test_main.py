"""`python -m pipeline.cli COMMAND` from any working directory, as users of the package run it."""

import json
import sys
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.cli.__main__ import COMMANDS, main
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import call, error_lines, finish, start


def cli(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """Run a command in a folder; return the exit status, stdout and stderr."""
    return finish(start([sys.executable, "-m", "pipeline.cli", *arguments], cwd=cwd))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["headrace", option])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: headrace COMMAND [options] [key=value ...]"
    for command, description in COMMANDS.items():
        assert f"  {command:10} {description}" in lines


def test_help_and_version_do_not_import_torch(tmp_path: Path) -> None:
    """Importing torch takes seconds."""
    code = (
        "import sys; sys.modules['torch'] = None\n"  # "import torch" raises ImportError
        "import runpy; runpy.run_module('pipeline.cli', run_name='__main__')"
    )
    for argument, expected in (("--version", f"headrace {__version__}\n"), ("--help", "usage: ")):
        status, out, err = finish(start([sys.executable, "-c", code, argument], cwd=tmp_path))
        assert (status, err) == (0, "")
        assert out.startswith(expected)


def test_missing_command_is_one_error_line(tmp_path: Path) -> None:
    expected = f"error: no command is given; use one of {', '.join(COMMANDS)}, or --help\n"
    for arguments in ([], [""]):
        assert cli(*arguments, cwd=tmp_path) == (2, "", expected)


def test_unknown_command_is_one_error_line(tmp_path: Path) -> None:
    status, out, err = cli("trian", "train.lr=1", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert err == f"error: trian: no such command; use one of {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_it(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_statuses: list[int] = []
    monkeypatch.setattr("os._exit", exit_statuses.append)  # `train` ends without finalization
    monkeypatch.setattr(sys, "argv", ["headrace", command, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert exit_statuses == ([0] if command == "train" else [])
    assert capsys.readouterr().out.startswith(f"usage: headrace {command} ")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["train", "--config", "no/imdb.yaml"], "--config no/imdb.yaml: no such file"),
        (["train", "--confg=x"], "unrecognized arguments: --confg=x; --help shows the usage"),
        (["train", "--config", "imbd"], "--config imbd: no such file"),
        (["evaluate", "--run", "x"], "required: --input; --help shows the usage"),
        (["predict", "-q", "-v", "--run", "x"], "not allowed with argument -q/--quiet"),
    ],
)
def test_mistake_on_the_command_line_is_one_error_line(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    status, out, err = cli(*arguments, cwd=tmp_path)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which the bundled config `imdb` was trained for one update."""
    folder = tmp_path_factory.mktemp("current")
    status, out, err = cli(
        "train",
        "--config",
        "imdb",
        *small_run_overrides(corpus),
        "corpus.test=null",
        "train.max_steps=1",
        cwd=folder,
    )
    assert status == 0, err
    assert "run folder  runs/imdb" in out
    assert "1 x CPU core, fp32" in err
    return folder


@pytest.mark.slow
def test_bundled_config_trains_in_the_working_directory(folder: Path) -> None:
    assert (folder / "runs" / "imdb" / "checkpoints" / "latest" / "model.safetensors").exists()


@pytest.mark.slow
def test_quiet_and_verbose_set_the_number_of_lines_on_stderr(
    folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = [
        "--config",
        "imdb",
        *small_run_overrides(corpus),
        "train.max_steps=1",
        "corpus.test=null",
    ]
    for option, lines in (("-q", 0), ("-v", 1)):
        status, out, err = call("train", *arguments, option)
        assert status == 0, err
        assert "validation  accuracy" in out, "the result goes to stdout even with --quiet"
        assert len(err.splitlines()) == lines, err  # -v: that the run is finished


@pytest.mark.slow
def test_evaluate_and_predict_in_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "text,label\na superb film,positive\n,negative\nhow dull,negative\n"
    (folder / "new.csv").write_text(rows)
    arguments = ["--run", "runs/imdb", "--input", "new.csv"]
    status, out, err = cli("evaluate", *arguments, cwd=folder)
    assert status == 0, err
    assert json.loads(out)["examples"] == 2
    assert "skipped 1 row(s): no text" in err
    monkeypatch.chdir(folder)
    status, quiet_out, err = call("evaluate", *arguments, "--quiet")
    assert (status, quiet_out, err) == (0, out, "")

    (folder / "texts").write_text("a superb film\n\nhow dull\n")
    status, out, err = cli("predict", "--run", "runs/imdb", "--input", "texts", cwd=folder)
    assert status == 0, err
    first, empty, last = map(json.loads, out.splitlines())
    assert empty == {"error": "the text is empty"}
    assert {first["label"], last["label"]} <= {"negative", "positive"}
    assert error_lines(err) == []
