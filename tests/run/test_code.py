"""A run's own components: copied, compared when it resumes, run only if trusted."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline import components
from pipeline.components import Source, loading
from pipeline.config import load_run_config
from pipeline.errors import RunError
from pipeline.optim.schedules.constant import Constant
from pipeline.run import code


class Installed(Constant):
    """Represents a schedule of an installed package."""


CONTENT = """
from pipeline.optim.schedules.constant import Constant

class Mine(Constant):
    pass
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(loading, "_copies", {})


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "mine.py"
    path.write_text(CONTENT)
    found = components.source("schedule", f"{path}:Mine")
    assert found is not None
    return found


@pytest.fixture
def run(source: Source, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    code.write(folder, [source])
    return folder


def test_a_run_uses_its_own_copy(run: Path, source: Source) -> None:
    source.path.unlink()
    loading._load_from_file.cache_clear()
    code.use(run, [source.reference])
    assert components.load("schedule", source.reference).__name__ == "Mine"


def test_a_changed_file_is_named(run: Path, source: Source) -> None:
    code.check(run, [source])
    changed = Source("schedule", source.reference, source.path, "0" * 64, True, "")
    with pytest.raises(RunError) as error:
        code.check(run, [changed])
    (line,) = error.value.lines
    assert line.startswith(f"{source.path}: has changed since the run in {run} began; restore it")
    assert f"{run}/code/mine-{source.sha256[:8]}.py is a copy" in line


def test_code_from_another_machine_needs_trust(
    run: Path, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    with pytest.raises(RunError, match=r"has code \(.*\) that was not run on this machine.*; "):
        code.use(run, [source.reference])
    code.use(run, [source.reference], trust=True)


def test_a_damaged_copy_is_one_line(run: Path, source: Source) -> None:
    (copy,) = (run / "code").iterdir()
    copy.write_text("import os")
    with pytest.raises(RunError, match="is missing or was changed; copy the run's folder again"):
        code.use(run, [source.reference], trust=True)


def test_an_installed_component_must_be_the_same(tmp_path: Path) -> None:
    reference = "tests.run.test_code:Installed"
    entry = Source("schedule", reference, Path(__file__), "0" * 64, False, "1.2")
    code.write(tmp_path, [entry])
    assert not (tmp_path / "code").exists()
    with pytest.raises(RunError, match=r"is not the code that .* \(version 1\.2\); install that"):
        code.use(tmp_path, [reference])


def test_a_run_with_built_in_components_has_no_code(tmp_path: Path) -> None:
    code.write(tmp_path, [])
    assert not list(tmp_path.glob("code*"))
    code.use(tmp_path, [])


def test_code_that_only_the_config_names_is_not_executed(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{cell: '{evil}:Evil'}}\n")
    with pytest.raises(RunError, match=r"names .*evil\.py:Evil, but code\.json does not"):
        load_run_config(path, trust_code=True)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("entry", [{}, {"file": "../evil.py"}], ids=["no file", "outside"])
def test_code_outside_the_runs_copies_is_not_executed(
    entry: dict[str, str], tmp_path: Path
) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    folder = tmp_path / "run"
    folder.mkdir()
    digest = sha256(evil.read_bytes()).hexdigest()
    whole = {"kind": "cell", "sha256": digest, "version": "", **entry}
    (folder / "code.json").write_text(json.dumps({f"{evil}:Evil": whole}))
    with pytest.raises(RunError, match="copy the run's folder again"):
        code.use(folder, [f"{evil}:Evil"], trust=True)
    assert not (tmp_path / "executed").exists()


OTHER_FILE = '{"a.py:B": {"kind": "", "sha256": "", "version": "", "file": 5}}'


@pytest.mark.parametrize("text", ["[]", '{"x": {}}', '{"a.py:B": 1}', "{", OTHER_FILE])
def test_a_damaged_record_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "code.json").write_text(text)
    with pytest.raises(RunError, match=r"code\.json: is damaged; copy the run's folder again"):
        code.use(tmp_path, [])


def test_a_record_of_an_earlier_run_is_removed(run: Path) -> None:
    assert (run / "code.json").exists()
    code.write(run, [])
    assert not (run / "code.json").exists()


@pytest.mark.parametrize(
    "cell",
    ["pipeline./../{up}{file}:Gru", "pipeline.x/../{up}{file}:Gru", "{file}:Gru"],
)
def test_no_path_makes_a_file_look_built_in(cell: str, tmp_path: Path) -> None:
    file = tmp_path / "cell.py"
    file.write_text(
        f"open({str(tmp_path / 'was_run')!r}, 'w')\nfrom pipeline.models.cells.gru import *\n"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    reference = cell.format(up="../" * 20, file=str(file).lstrip("/") if "up" in cell else file)
    (folder / "config.yaml").write_text(
        f"model: {{cell: '{reference}'}}\ncorpus: {{input: x.csv}}\n"
    )
    with pytest.raises(RunError, match="copy the run's folder again"):
        load_run_config(folder / "config.yaml")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("place", ["own.py", "package/__init__.py"])
def test_a_module_in_the_run_folder_or_the_current_one_needs_trust(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    payload = f"open({str(tmp_path / 'was_run')!r}, 'w')\n"
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(payload)
    module = "own" if place == "own.py" else "package.cell"
    file = tmp_path / f"{module.replace('.', '/')}.py"
    if module == "package.cell":
        file.write_text("x = 1\n")
    digest = sha256(file.read_bytes()).hexdigest()
    folder = tmp_path / "run"
    folder.mkdir()
    entry = {"kind": "cell", "sha256": digest, "version": ""}
    (folder / "code.json").write_text(json.dumps({f"{module}:Mine": entry}))
    with pytest.raises(RunError, match="is no file of an installed package"):
        code.use(folder, [f"{module}:Mine"])
    code.use(folder, [f"{module}:Mine"], trust=True)
    wrong = {f"{module}:Mine": entry | {"sha256": "0" * 64}}
    (folder / "code.json").write_text(json.dumps(wrong))
    with pytest.raises(RunError, match="is not the code that the run"):
        code.use(folder, [f"{module}:Mine"], trust=True)
    assert not (tmp_path / "was_run").exists()
