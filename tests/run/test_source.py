"""The user, command and repository of a run."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.run import source
from pipeline.run.source import find_repository, run_source


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "code").mkdir(parents=True)
    git(folder, "init", "-b", "work")
    (folder / "code" / "a.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_the_state_of_the_repository_around_a_folder(repository: Path) -> None:
    found = find_repository([repository / "code"])
    assert found is not None
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert (found.branch, found.url, found.dirty) == ("work", "", False)

    git(repository, "remote", "add", "origin", "https://me:word@host/headrace.git")
    (repository / "new.txt").write_text("not tracked")
    git(repository, "checkout", "--detach")
    found = find_repository([repository])
    assert found is not None
    assert (found.branch, found.url, found.dirty) == ("", "https://host/headrace.git", False)

    (repository / "code" / "a.py").write_text("2")
    found = find_repository([repository])
    assert found is not None
    assert found.dirty


def test_the_first_folder_in_a_repository_counts(repository: Path, tmp_path: Path) -> None:
    assert find_repository([tmp_path]) is None
    assert find_repository([tmp_path / "missing", tmp_path, repository]) is not None
    git(tmp_path, "init")
    assert find_repository([tmp_path]) is None  # no commit yet


def test_a_git_that_is_missing_or_slow_is_no_error(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_repository([repository]) is None
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setattr(source, "GIT_TIMEOUT", 0.2)
    start = time.monotonic()
    assert find_repository([repository]) is None
    assert time.monotonic() - start < 5


def test_code_that_is_installed_is_not_a_part_of_the_repository_around_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "PACKAGE", repository / "code")
    found = run_source().repository
    assert found is not None
    assert found.branch == "work"
    installed = repository / "lib" / "site-packages" / "pipeline"
    installed.mkdir(parents=True)
    monkeypatch.setattr(source, "PACKAGE", installed)
    assert run_source().repository is None


def test_the_user_and_the_command_without_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    argv = ["launch/train.py", "track.uri=http://me:word@host", "corpus.input=https://h/a?token=b"]
    argv += ["track.api_key=1a 2b"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    found = run_source()
    assert (found.user, found.program) == ("ada", "launch/train.py")
    assert found.command == (
        "python launch/train.py track.uri=http://host 'corpus.input=https://h/a?token=***' "
        "'track.api_key=***'"
    )


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", fail)
    assert run_source().user == ""
