"""No reader, terminal or encoding of a standard stream ends a command."""

import io
import json
import sys
from pathlib import Path

import pytest

from pipeline.cli import common
from pipeline.runtime.streams import has_all_characters
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import command, finish, losses, start

RUN = (
    "from pipeline.cli import common; import sys, os, json\n"
    "def main():\n    {code}\ncommon.run(main)"
)
ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},
]


def shell(script: str, code: str, tmp_path: Path) -> tuple[int, str, str]:
    """Run a shell script in which $COMMAND is a command of the package that runs `code`."""
    (tmp_path / "command.py").write_text(RUN.format(code=code))
    variables = {"COMMAND": f"{sys.executable} {tmp_path / 'command.py'}"}
    return finish(start(["bash", "-o", "pipefail", "-c", script], variables=variables))


@pytest.mark.parametrize("variables", ENCODINGS, ids=lambda v: " ".join(v.values()))
def test_a_character_that_a_terminal_lacks_is_printed_as_an_escape(
    variables: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "command.py"
    code = "[print('\\u2713 \\ud800', file=f) for f in (sys.stdout, sys.stderr)]"
    file.write_text(RUN.format(code=code))
    status, out, err = finish(start([sys.executable, str(file)], variables=variables))
    assert status == 0, err
    for text in (out, err):
        assert text in ("\\u2713 \\ud800\n", "✓ \\ud800\n")


@pytest.mark.parametrize(
    "encoding, expected",
    [("utf-8", True), ("UTF8", True), ("utf-16", True), ("ascii", False), ("cp1252", False)],
)
def test_only_unicode_encodings_have_all_characters(encoding: str, expected: bool) -> None:
    assert has_all_characters(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) == expected
    assert has_all_characters(io.StringIO())


def test_a_reader_of_stderr_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    code = (
        "[print('line', i, file=sys.stderr, flush=True) for i in range(10**5)]; "
        "os.write(2, b'from C++'); print('done')"
    )
    script = f"$COMMAND 2>&1 >{tmp_path}/out | head -1 && cat {tmp_path}/out"
    status, out, err = shell(script, code, tmp_path)
    assert (status, out) == (0, "line 0\ndone\n"), err


def test_a_full_disk_behind_stderr_ends_nothing(tmp_path: Path) -> None:
    code = "print('line', file=sys.stderr, flush=True); print('done')"
    assert shell("$COMMAND 2>/dev/full", code, tmp_path)[:2] == (0, "done\n")


@pytest.mark.parametrize("closed, out", [("2>&-", "done\n"), (">&-", ""), ("<&- >&- 2>&-", "")])
def test_closed_streams_end_nothing_and_no_file_gets_their_numbers(
    closed: str, out: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    code = (
        f"f = open({str(file)!r}, 'w'); os.write(2, b'from C++'); os.write(1, b'')\n    "
        "print('line', file=sys.stderr, flush=True); print('done', flush=True); "
        "f.write(str(f.fileno() > 2 and sys.stdin.read(0)))"
    )
    assert shell(f"$COMMAND {closed}", code, tmp_path)[:2] == (0, out)
    assert file.read_text() == ""


def test_an_error_line_of_a_command_is_still_shown(tmp_path: Path) -> None:
    code = "from pipeline.errors import RunError; raise RunError('runs/\\u2713: no such run')"
    status, out, err = shell("PYTHONIOENCODING=ascii $COMMAND", code, tmp_path)
    assert (status, out, err) == (2, "", "error: runs/\\u2713: no such run\n")


@pytest.mark.slow
def test_training_ends_with_a_checkpoint_if_the_reader_of_its_log_goes_away(
    corpus: Path, tmp_path: Path
) -> None:
    """As by `headrace train 2>&1 | head -1`."""
    overrides = [*small_run_overrides(corpus), "train.max_steps=4", "train.log_every=1"]
    process = start(command(*overrides, f"run.dir={tmp_path}"))
    assert process.stderr
    assert process.stderr.readline()
    process.stderr.close()
    assert process.wait(120) == 0
    assert losses(tmp_path).keys() == {1, 2, 3, 4}
    assert json.loads((tmp_path / "summary.json").read_text())["step"] == 4


def test_this_process_keeps_its_streams() -> None:
    """Only `common.run`, which ends the process, changes them."""
    before = sys.stdout, sys.stderr
    assert common.exit_status(lambda: None) == 0
    assert (sys.stdout, sys.stderr) == before
