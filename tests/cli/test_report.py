"""The command `headrace report`."""

from pathlib import Path

import pytest

from pipeline.cli import common, report


def test_it_writes_the_page_and_prints_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("run: {name: my run}\n")
    report.main(["--run", str(tmp_path)])
    path = tmp_path / "report.html"
    assert capsys.readouterr().out == f"{path}\n"
    assert "<h1>my run</h1>" in path.read_text()


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_folder_that_is_no_run_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / name
    assert common.exit_status(lambda: report.main(["--run", str(folder)])) == 2
    assert capsys.readouterr().err == (
        f"error: --run={folder}: is not a run folder; give one that has a config.yaml\n"
    )
